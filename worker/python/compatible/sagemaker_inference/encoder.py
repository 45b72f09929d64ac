"""`sagemaker_inference.encoder`."""

from manifold_handler.toolkit.content import SUPPORTED_OUTPUTS as SUPPORTED_CONTENT_TYPES
from manifold_handler.toolkit.content import encode

__all__ = ["SUPPORTED_CONTENT_TYPES", "encode"]
