"""`ts.metrics.metric`."""

from manifold_handler.metrics import Metric

__all__ = ["Metric"]
