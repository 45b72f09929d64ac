"""What a handler is told of its model and of a batch of requests: Multi Model Server's `context`.

The members and their behavior are those of Multi Model Server 1.1.11; header names are looked up without regard to
case, because they come over HTTP.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping

SERVER_NAME = "MMS"
SERVER_VERSION = "1.1.11"
_CONTENT_TYPE = "content-type"


class Headers(dict):
    """A plain dict to look at, with the names as the client sent them; a look-up ignores their case."""

    def __init__(self, pairs: Iterator[tuple[str, Any]] | Mapping[str, Any] | tuple = ()) -> None:
        super().__init__()
        self._names: dict[str, str] = {}
        for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            self[name] = value

    def _name(self, key: Any) -> Any:
        return self._names.get(key.lower(), key) if isinstance(key, str) else key

    def __setitem__(self, key: Any, value: Any) -> None:
        name = self._name(key)
        if isinstance(name, str):
            self._names[name.lower()] = name
        super().__setitem__(name, value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._name(key))

    def __delitem__(self, key: Any) -> None:
        name = self._name(key)
        super().__delitem__(name)
        if isinstance(name, str):
            self._names.pop(name.lower(), None)

    def __contains__(self, key: Any) -> bool:
        return super().__contains__(self._name(key))

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(self._name(key), default)

    def pop(self, key: Any, *default: Any) -> Any:
        name = self._name(key)
        if isinstance(name, str):
            self._names.pop(name.lower(), None)
        return super().pop(name, *default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **named: Any) -> None:
        for name, value in dict(*others, **named).items():
            self[name] = value

    def copy(self) -> Headers:
        return Headers(self)


class RequestProcessor:
    """One request's headers, and what the handler says of its answer."""

    def __init__(self, request_header: Mapping[str, Any]) -> None:
        self._status_code = 200
        self._reason_phrase: str | None = None
        self._response_header = Headers()
        self._request_header = request_header

    def get_request_property(self, key: str) -> Any:
        return self._request_header.get(key)

    def get_request_properties(self) -> Mapping[str, Any]:
        return self._request_header

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        self._status_code = code
        self._reason_phrase = reason_phrase

    def get_response_status_code(self) -> int:
        return self._status_code

    def get_response_status_phrase(self) -> str | None:
        return self._reason_phrase

    def add_response_property(self, key: str, value: str) -> None:
        self._response_header[key] = value

    def get_response_headers(self) -> Headers:
        return self._response_header

    def get_response_header(self, key: str) -> str | None:
        return self._response_header.get(key)


class Context:
    """What lasts as long as the model is loaded, and what is new with each batch."""

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict | None,
        batch_size: int,
        gpu: int | None,
        mms_version: str = SERVER_VERSION,
        limit_max_image_pixels: bool = True,
        metrics: Any = None,
        model_yaml_config: dict | None = None,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.model_yaml_config = model_yaml_config if model_yaml_config is not None else {}
        self._system_properties = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": SERVER_NAME,
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }
        self.request_ids: dict[int, str] | None = None
        self.request_processor: list[RequestProcessor] | None = None
        self._metrics = metrics

    @property
    def system_properties(self) -> dict[str, Any]:
        return self._system_properties

    @property
    def metrics(self) -> Any:
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: Any) -> None:
        self._metrics = metrics

    def _processor(self, idx: int) -> RequestProcessor:
        if not self.request_processor:
            raise RuntimeError("there is no request: the handler is called to load its model")
        return self.request_processor[idx]

    def get_request_id(self, idx: int = 0) -> str | None:
        return (self.request_ids or {}).get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        return self._processor(idx).get_request_property(key)

    def get_all_request_header(self, idx: int) -> Mapping[str, Any]:
        return self._processor(idx).get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, _CONTENT_TYPE, value)

    def get_response_content_type(self, idx: int) -> str | None:
        return self._processor(idx).get_response_header(_CONTENT_TYPE)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self._processor(idx).add_response_property(key, value)

    def get_response_headers(self, idx: int) -> Headers:
        return self._processor(idx).get_response_headers()

    def set_response_status(self, code: int = 200, phrase: str | None = "", idx: int = 0) -> None:
        self._processor(idx).report_status(code, reason_phrase=phrase)

    def set_all_response_status(self, code: int = 200, phrase: str | None = "") -> None:
        for processor in self.request_processor or ():
            processor.report_status(code, reason_phrase=phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        processor = self._processor(idx)
        return processor.get_response_status_code(), processor.get_response_status_phrase()
