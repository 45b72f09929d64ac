"""`mms.service`."""

from manifold_handler.exceptions import PredictionException

__all__ = ["PredictionException", "emit_metrics"]


def emit_metrics(metrics):
    """Tells metrics at once, in the log; those of the context's store travel with the answer."""
    for metric in metrics or ():
        print(f"metric {metric}", flush=True)
