"""`sagemaker_inference.decoder`."""

from manifold_handler.toolkit.content import decode

__all__ = ["decode"]
