"""`sagemaker_inference.default_handler_service`: a handler by this name is found by its class."""

from manifold_handler.toolkit.service import DefaultHandlerService as _DefaultHandlerService


class DefaultHandlerService(_DefaultHandlerService):
    """A Transformer with the interface of a handler class."""
