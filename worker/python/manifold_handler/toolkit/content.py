"""Content types: what of a request becomes a NumPy array, and an array an answer.

NumPy is imported when it is needed: a script with functions of its own may do without.
"""

from __future__ import annotations

import io
import json
from typing import Any, Callable

from .errors import UnsupportedFormatError

JSON = "application/json"
CSV = "text/csv"
OCTET_STREAM = "application/octet-stream"
ANY = "*/*"
NPY = "application/x-npy"
NPZ = "application/x-npz"
UTF8_TYPES = [JSON, CSV]


def media_type(content_type: str | None) -> str | None:
    """The type without its parameters: `text/csv; charset=utf-8` is text/csv."""
    return content_type.partition(";")[0].strip().lower() if content_type is not None else None


def _text(data: Any) -> str:
    return data if isinstance(data, str) else bytes(data).decode()


def _json_to_numpy(data: Any, dtype: Any = None) -> Any:
    import numpy

    return numpy.array(json.loads(_text(data)), dtype=dtype)


def _csv_to_numpy(data: Any, dtype: Any = None) -> Any:
    import numpy

    return numpy.genfromtxt(io.StringIO(_text(data)), dtype=dtype, delimiter=",")


def _npy_to_numpy(data: Any) -> Any:
    import numpy

    # A request is nobody's code: pickled objects are refused, which the toolkit would run.
    return numpy.load(io.BytesIO(data), allow_pickle=False)


def _npz_to_sparse(data: Any) -> Any:
    import scipy.sparse

    return scipy.sparse.load_npz(io.BytesIO(data))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    JSON: _json_to_numpy,
    CSV: _csv_to_numpy,
    NPY: _npy_to_numpy,
    NPZ: _npz_to_sparse,
}


def decode(obj: Any, content_type: str | None) -> Any:
    """Makes an array of a request's body."""
    decoder = _DECODERS.get(media_type(content_type) or "")
    if decoder is None:
        raise UnsupportedFormatError(content_type, status_code=415)
    return decoder(obj)


def _to_json(array: Any) -> str:
    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} cannot be told in JSON")

    return json.dumps(array, default=plain)


def _to_csv(array: Any) -> str:
    import numpy

    stream = io.StringIO()
    numpy.savetxt(stream, array, delimiter=",", fmt="%s")
    return stream.getvalue()


def _to_npy(array: Any) -> bytes:
    import numpy

    stream = io.BytesIO()
    numpy.save(stream, array)
    return stream.getvalue()


_ENCODERS: dict[str, Callable[[Any], Any]] = {NPY: _to_npy, CSV: _to_csv, JSON: _to_json}
SUPPORTED_OUTPUTS = frozenset(_ENCODERS)


def encode(array_like: Any, content_type: str | None) -> Any:
    """Makes an answer's body of an array."""
    encoder = _ENCODERS.get(media_type(content_type) or "")
    if encoder is None:
        raise UnsupportedFormatError(content_type, status_code=406)
    return encoder(array_like)


def accepted(accept: str) -> list[str]:
    """The types of an Accept header, in their order; weights are not looked at."""
    return [it.partition(";")[0].strip() for it in accept.split(",")]
