"""TorchServe's interface to handlers, as of 0.12.0."""

__version__ = "0.12.0"
