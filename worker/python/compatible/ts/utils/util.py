"""`ts.utils.util`: the names of classes."""

from __future__ import annotations

import inspect
import json
import os

__all__ = ["PredictionException", "list_classes_from_module", "load_label_mapping", "map_class_to_label"]

from manifold_handler.exceptions import PredictionException


def list_classes_from_module(module, parent_class=None):
    """Returns the classes that a module itself defines, below `parent_class` if one is given."""
    classes = [it for _, it in inspect.getmembers(module, inspect.isclass) if it.__module__ == module.__name__]
    return [it for it in classes if parent_class is None or issubclass(it, parent_class)]


def load_label_mapping(mapping_file_path):
    """Reads index_to_name.json: class numbers to names, or to what else there is to tell."""
    if not os.path.isfile(mapping_file_path):
        return None
    with open(mapping_file_path, encoding="utf-8") as file:
        mapping = json.load(file)
    if not isinstance(mapping, dict):
        raise ValueError("index_to_name.json is no object")
    # Older files have the names one level down.
    mapping = mapping.get("object_type_names", mapping)
    for key, value in list(mapping.items()):
        mapping[key] = value[-1] if isinstance(value, list) else value
    return mapping


def map_class_to_label(probs, mapping=None, lbl_classes=None):
    """Names the classes of probabilities: a list of objects, a request each."""
    if not isinstance(probs, list):
        raise TypeError("Convert classes to list before doing mapping")
    if mapping is not None and not isinstance(mapping, dict):
        raise TypeError("Mapping must be a dict")
    if lbl_classes is None:
        lbl_classes = [list(range(len(prob))) for prob in probs]
    results = []
    for prob, classes in zip(probs, lbl_classes):
        names = [mapping[str(it)] if mapping is not None else str(it) for it in classes]
        results.append(dict(zip(names, prob)))
    return results
