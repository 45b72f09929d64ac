"""The metrics of handlers, Multi Model Server's MetricsStore: they travel to the worker with the answer of their batch."""

from __future__ import annotations

import socket
import time
from typing import Any, Mapping, Sequence

# Kept of one batch: a handler that adds them in a loop must not fill the answer.
MAX_METRICS = 256
_MAX_NAME_CHARS = 128
# What handlers and readers of logs see of a unit; the worker is told the short one.
_UNIT_NAMES = {
    "ms": "Milliseconds",
    "s": "Seconds",
    "percent": "Percent",
    "count": "Count",
    "MB": "Megabytes",
    "GB": "Gigabytes",
    "kB": "Kilobytes",
    "B": "Bytes",
    None: "unit",
}
_ERROR = "error"


class Dimension:
    """A name and a value by which a metric is told apart."""

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"

    def to_dict(self) -> dict[str, str]:
        return {"Name": self.name, "Value": self.value}


class Metric:
    """A named number of one batch or request."""

    def __init__(
        self,
        name: str,
        value: float,
        unit: str | None,
        dimensions: Sequence[Dimension],
        request_id: str | None = None,
        metric_method: str | None = None,
    ) -> None:
        self.name = name
        self.unit = _UNIT_NAMES.get(unit, unit)
        self.metric_method = metric_method
        self.value = value
        self.dimensions = list(dimensions)
        self.request_id = request_id
        self._short_unit = unit or ""

    def update(self, value: float) -> None:
        """A counter adds up; anything else is what it was last."""
        self.value = self.value + value if self.metric_method == "counter" else value

    def __str__(self) -> str:
        dimensions = ",".join(str(it) for it in self.dimensions)
        whose = f",{self.request_id}" if self.request_id else ""
        when = f"hostname:{socket.gethostname()},{int(time.time())}"
        return f"{self.name}.{self.unit}:{self.value}|#{dimensions}|#{when}{whose}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "MetricName": self.name,
            "Value": self.value,
            "Unit": self.unit,
            "Dimensions": self.dimensions,
            "Timestamp": int(time.time()),
            "HostName": socket.gethostname(),
            "RequestId": self.request_id,
        }

    def encoded(self) -> dict[str, Any]:
        """As the worker reads it."""
        return {"name": str(self.name)[:_MAX_NAME_CHARS], "unit": str(self._short_unit), "value": float(self.value)}


class MetricsStore:
    """The metrics of one batch."""

    def __init__(self, request_ids: Mapping[int, str] | None, model_name: str) -> None:
        self.store: list[Metric] = []
        self.request_ids = request_ids
        self.model_name = model_name
        self.cache: dict[str, Metric] = {}

    def _add(
        self, name: str, value: Any, request_id: str | None, unit: str | None, dimensions: Any, method: str
    ) -> None:
        # Their order is Multi Model Server's: its own come last.
        level = [Dimension("Level", "Error")] if method == _ERROR else self._of_model()
        named = [*(dimensions or ()), *level]
        key = "-".join(str(it) for it in (name, unit, request_id, *named))
        known = self.cache.get(key)
        if known is not None:
            known.update(value)
            return
        if len(self.store) >= MAX_METRICS:
            return
        metric = Metric(name, value, unit, named, request_id, method)
        self.store.append(metric)
        self.cache[key] = metric

    def _of_model(self) -> list[Dimension]:
        return [Dimension("ModelName", self.model_name), Dimension("Level", "Model")]

    def _request_id(self, idx: int | None) -> str | None:
        if not self.request_ids:
            return None
        everyone = ",".join(self.request_ids.values())
        return everyone if idx is None else self.request_ids.get(idx, everyone)

    def add_counter(self, name: str, value: int, idx: int | None = None, dimensions: Any = None) -> None:
        self._add(name, value, self._request_id(idx), "count", dimensions, "counter")

    def add_time(
        self, name: str, value: float, idx: int | None = None, unit: str = "ms", dimensions: Any = None
    ) -> None:
        if unit not in ("ms", "s"):
            raise ValueError(f"the unit of a time is ms or s, not {unit!r}")
        self._add(name, value, self._request_id(idx), unit, dimensions, "gauge")

    def add_size(
        self, name: str, value: float, idx: int | None = None, unit: str = "MB", dimensions: Any = None
    ) -> None:
        if unit not in ("MB", "kB", "GB", "B"):
            raise ValueError(f"the unit of a size is MB, kB, GB or B, not {unit!r}")
        self._add(name, value, self._request_id(idx), unit, dimensions, "gauge")

    def add_percent(self, name: str, value: float, idx: int | None = None, dimensions: Any = None) -> None:
        self._add(name, value, self._request_id(idx), "percent", dimensions, "gauge")

    def add_error(self, name: str, value: Any, dimensions: Any = None) -> None:
        """An error is text; it is told in the log."""
        self._add(name, value, None, "", dimensions, _ERROR)

    def add_metric(
        self, name: str, value: float, idx: int | None = None, unit: str | None = None, dimensions: Any = None
    ) -> None:
        self._add(name, value, self._request_id(idx), unit, dimensions, "gauge")

    def encoded(self) -> list[dict[str, Any]]:
        """The metrics whose values are numbers, as the worker reads them; what else there is, is told in the log."""
        encoded = []
        for metric in self.store:
            if metric.metric_method == _ERROR:
                print(f"{metric.name}: {metric.value}", flush=True)
                continue
            try:
                encoded.append(metric.encoded())
            except (TypeError, ValueError):
                print(f"the metric {metric.name!r} is no number: {metric.value!r}", flush=True)
        return encoded
