"""Says what its context tells of the model."""

import json
import os
import sys

LOADED = []


def handle(data, context):
    properties = dict(context.system_properties)
    # A member that one of TorchServe's handlers wants, too.
    properties.pop("limit_max_image_pixels", None)
    seen = {
        "model_name": context.model_name,
        "manifest": json.dumps(context.manifest, sort_keys=True),
        "properties": properties,
        "cwd is model_dir": os.path.samefile(os.getcwd(), properties["model_dir"]),
        "model_dir is absolute": os.path.isabs(properties["model_dir"]),
    }
    if data is None:
        LOADED.append({**seen, "ids": context.request_ids, "metrics": context.metrics is not None})
        return None
    ids = context.request_ids
    seen["ids"] = [sorted(ids), type(ids[0]).__name__, len(ids[0]) > 8, context.get_request_id() == ids[0]]
    seen["status"] = context.get_response_status(0)
    seen["stdin"] = sys.stdin.read() if sys.stdin else None
    return [{"at load": LOADED, "at request": seen}]
