"""A script for SageMaker Inference Toolkit that serves XGBoost, all in one function."""

import io
import json
import os

import numpy
import xgboost


def model_fn(model_dir):
    booster = xgboost.Booster()
    booster.load_model(os.path.join(model_dir, "model.json"))
    return booster


def transform_fn(model, data, content_type, accept):
    if content_type == "text/csv":
        rows = numpy.loadtxt(io.StringIO(data), delimiter=",", ndmin=2)
    else:
        rows = numpy.array(json.loads(data))
    values = model.predict(xgboost.DMatrix(rows)).tolist()
    if accept == "text/csv":
        return "".join(f"{it}\n" for it in values), accept
    return json.dumps({"predictions": values}), "application/json"
