"""`ts.metrics.metrics_store`."""

from manifold_handler.metrics import MetricsStore

__all__ = ["MetricsStore"]
