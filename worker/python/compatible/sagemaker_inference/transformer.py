"""`sagemaker_inference.transformer`."""

from manifold_handler.toolkit.transformer import Transformer

__all__ = ["Transformer"]
