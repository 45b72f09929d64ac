"""Writes every kind of metric."""

from mms.metrics.dimension import Dimension


def handle(data, context):
    if data is None:
        return None
    metrics = context.metrics
    metrics.add_counter("Seen", 1)
    metrics.add_counter("Seen", 2, idx=0)
    metrics.add_time("Took", 12.5, unit="ms")
    metrics.add_time("TookS", 2, idx=0, unit="s")
    metrics.add_size("Size", 3, unit="MB")
    metrics.add_percent("Share", 12)
    metrics.add_error("Failed", "an error")
    metrics.add_metric("Own", 7, unit="count", dimensions=[Dimension("Level", "Own")])
    return [sorted({it.name: [str(it.value), it.unit] for it in metrics.store}.items())]
