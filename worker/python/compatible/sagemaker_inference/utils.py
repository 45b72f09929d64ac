"""`sagemaker_inference.utils`: reading headers."""

from __future__ import annotations

import re

from manifold_handler.toolkit.content import accepted as parse_accept

__all__ = ["parse_accept", "retrieve_content_type_header"]
_CONTENT_TYPE = re.compile(r"^[Cc]ontent-?[Tt]ype")


def retrieve_content_type_header(request_property):
    """Returns the content type among a request's headers, however its name is written."""
    return next((value for name, value in request_property.items() if _CONTENT_TYPE.match(name)), None)
