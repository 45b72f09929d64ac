"""A script for SageMaker Inference Toolkit that serves scikit-learn."""

import os

import joblib
from sagemaker_inference import content_types, decoder, encoder
from sagemaker_inference.errors import GenericInferenceToolkitError


def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))


def input_fn(input_data, content_type):
    array = decoder.decode(input_data, content_type)
    if array.ndim != 2:
        raise GenericInferenceToolkitError(400, f"two dimensions are needed, not {array.ndim}")
    return array


def predict_fn(data, model):
    return model.predict(data)


def output_fn(prediction, accept):
    return encoder.encode(prediction, accept), accept or content_types.JSON
