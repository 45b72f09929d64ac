"""`sagemaker_inference.model_server`: what a container's entry point calls to serve."""

from __future__ import annotations

import os

DEFAULT_HANDLER_SERVICE = "sagemaker_inference.default_handler_service"


def start_model_server(handler_service: str = DEFAULT_HANDLER_SERVICE) -> None:
    """Becomes the worker, which serves models with this handler. Does not return."""
    handler = os.environ.get("SAGEMAKER_HANDLER") or handler_service
    os.execvp("manifold-worker", ["manifold-worker", "serve", "--handler", handler])
