"""Weights out of old checkpoints: plain tensors come out whole, anything else is refused."""

from __future__ import annotations

import json
import pickle
import struct
import unittest

import weights


def legacy_pickle(state: bytes, storages: dict[str, bytes], n_items: int) -> bytes:
    parts = [pickle.dumps(it, 2) for it in (weights.LEGACY_MAGIC, weights.LEGACY_PROTOCOL, {"little_endian": True})]
    parts += [state, pickle.dumps(list(storages), 2)]
    return b"".join(parts) + b"".join(struct.pack("<q", n_items) + data for data in storages.values())


def state_dict(shape: tuple, stride: tuple, offset: int = 0, kind: str = "FloatStorage") -> bytes:
    """What old PyTorch pickles for one tensor, written by hand: no PyTorch is needed to test."""
    ints = lambda values: b"(" + b"".join(b"K" + bytes([it]) for it in values) + b"t"
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value.encode()
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("key") + text("cpu") + b"K\x06Nt" + b"Q"
    gradient_hooks = b"\x89ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + b"K" + bytes([offset]) + ints(shape) + ints(stride) + gradient_hooks + b"t"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    return b"\x80\x02ccollections\nOrderedDict\n)R" + text("layer.weight") + tensor + b"s."


class Weights(unittest.TestCase):
    DATA = struct.pack("<6f", 0, 1, 2, 3, 4, 5)

    def read(self, state: bytes, data: bytes = DATA, n_items: int = 6):
        return weights.read_legacy_pickle(legacy_pickle(state, {"key": data}, n_items))

    def test_tensors_come_out_with_shape_and_bytes(self) -> None:
        self.assertEqual(self.read(state_dict((2, 3), (3, 1))), {"layer.weight": ("F32", (2, 3), self.DATA)})
        self.assertEqual(self.read(state_dict((2,), (1,), offset=4))["layer.weight"][2], self.DATA[16:])

    def test_a_tensor_in_another_order_is_put_in_order(self) -> None:
        for shape, strides, expected in (
            ((3, 2), (1, 3), (0, 3, 1, 4, 2, 5)),
            ((3, 1, 2, 1), (1, 9, 3, 9), (0, 3, 1, 4, 2, 5)),
            ((1, 1), (1, 1), (0,)),
            ((), (), (0,)),
            ((0, 3), (3, 1), ()),
        ):
            _, read_shape, data = self.read(state_dict(shape, strides))["layer.weight"]
            self.assertEqual((read_shape, struct.unpack(f"<{len(expected)}f", data)), (shape, expected))

    def test_what_is_not_plain_weights_is_refused(self) -> None:
        code = b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00trueteR."
        for name, state, data, n_items in (
            ("code", code, self.DATA, 6),
            ("builtins", b"\x80\x02c__builtin__\neval\n.", self.DATA, 6),
            ("a stride too few", state_dict((2, 3), (1,)), self.DATA, 6),
            ("beyond its storage", state_dict((2, 3), (3, 1), offset=1), self.DATA, 6),
            ("short", state_dict((2, 3), (3, 1)), self.DATA[:-1], 6),
            ("negative", state_dict((2, 3), (3, 1)), self.DATA, -6),
            ("unknown storage", state_dict((2, 3), (3, 1), kind="HalfStorage"), self.DATA, 6),
        ):
            with self.subTest(name), self.assertRaises((weights.WeightsError, pickle.UnpicklingError)):
                self.read(state, data, n_items)

    def test_another_kind_of_file_is_refused(self) -> None:
        with self.assertRaises(weights.WeightsError):
            weights.read_legacy_pickle(pickle.dumps(1, 2) * 4)

    def test_safetensors_hold_what_went_in(self) -> None:
        tensors = {"b": ("F32", (1,), b"\1\2\3\4"), "count": ("I64", (), bytes(8)), "a": ("F32", (2,), bytes(8))}
        data = weights.to_safetensors(tensors)
        (n_header,) = struct.unpack("<Q", data[:8])
        header, body = json.loads(data[8 : 8 + n_header]), data[8 + n_header :]
        self.assertEqual(n_header % 8, 0)
        for name, (dtype, shape, expected) in tensors.items():
            begin, end = header[name]["data_offsets"]
            self.assertEqual((header[name]["dtype"], tuple(header[name]["shape"])), (dtype, shape))
            self.assertEqual(body[begin:end], expected)
        self.assertEqual(header["count"]["data_offsets"], [0, 8])


if __name__ == "__main__":
    unittest.main()
