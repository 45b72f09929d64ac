"""`sagemaker_inference.default_inference_handler`."""

from manifold_handler.toolkit.script import DefaultInferenceHandler

__all__ = ["DefaultInferenceHandler"]
