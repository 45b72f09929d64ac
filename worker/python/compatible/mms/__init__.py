"""Multi Model Server's interface to handlers."""

from manifold_handler.context import SERVER_VERSION as __version__
