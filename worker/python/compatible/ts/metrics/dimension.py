"""`ts.metrics.dimension`."""

from manifold_handler.metrics import Dimension

__all__ = ["Dimension"]
