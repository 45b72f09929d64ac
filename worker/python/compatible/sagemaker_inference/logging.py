"""`sagemaker_inference.logging`."""

from __future__ import annotations

import logging


def configure_logger(level: int = logging.INFO) -> None:
    """Has the toolkit's messages seen."""
    logging.getLogger("sagemaker_inference").setLevel(level)


def get_logger() -> logging.Logger:
    """Returns the toolkit's logger."""
    return logging.getLogger("sagemaker_inference")
