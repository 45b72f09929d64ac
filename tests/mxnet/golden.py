"""Makes the small networks that the worker's tests compare with MXNet: a checkpoint, an input and MXNet's answer each.

Needs MXNet 1.9.1 with NumPy 1.23.5 (requirements.txt), on Python 3.11 or older:

    python tests/mxnet/golden.py worker/src/runtime/torch/mxnet/golden

Every network covers some operators with few parameters; all weights come from one seed. What is written is committed, so
that the comparison needs no MXNet.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mxnet as mx
import numpy as np

SEED = 20261123


def layers(data):
    net = mx.sym.BatchNorm(data, fix_gamma=True, eps=2e-5, name="bn_data")
    net = mx.sym.Convolution(net, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=8, no_bias=True, name="conv0")
    net = mx.sym.BatchNorm(net, fix_gamma=False, name="bn0")
    net = mx.sym.Activation(net, act_type="relu", name="relu0")
    side = mx.sym.Convolution(net, kernel=(3, 3), dilate=(2, 2), pad=(2, 2), num_group=4, num_filter=8, name="conv1")
    net = mx.sym.elemwise_add(net, side, name="sum")
    net = mx.sym.Concat(net, mx.sym.Activation(side, act_type="tanh"), dim=1, name="concat")
    net = mx.sym.Pooling(net, kernel=(7, 7), global_pool=True, pool_type="avg", name="pool")
    net = mx.sym.Flatten(net, name="flat")
    net = mx.sym.FullyConnected(net, num_hidden=6, name="fc")
    return mx.sym.SoftmaxOutput(net, name="softmax")


def pools(data):
    # A convention decides only over windows that do not fit: 9 × 11 with these kernels, strides and paddings.
    settings = [
        dict(kernel=(2, 2), stride=(2, 2)),
        dict(kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
        dict(kernel=(3, 2), stride=(2, 3), pad=(1, 0)),
        dict(kernel=(2, 2), stride=(3, 3), pad=(1, 1)),
        dict(kernel=(3, 3)),
    ]
    outputs = []
    for number, setting in enumerate(settings):
        for convention in ("valid", "full"):
            for kind in ("max", "avg", "sum"):
                for counts in (True, False) if kind == "avg" else (True,):
                    pool = mx.sym.Pooling(
                        data,
                        pool_type=kind,
                        pooling_convention=convention,
                        count_include_pad=counts,
                        name=f"{kind}{number}_{convention}_{counts}",
                        **setting,
                    )
                    outputs.append(mx.sym.Flatten(pool))
    for kind in ("max", "sum"):
        outputs.append(mx.sym.Flatten(mx.sym.Pooling(data, kernel=(2, 2), global_pool=True, pool_type=kind)))
    # What no picture reaches is the least number there is.
    return mx.sym.clip(mx.sym.Concat(*outputs, dim=1), a_min=-1e6, a_max=1e6)


def activations(data):
    flat = mx.sym.Flatten(data)
    outputs = [mx.sym.Activation(flat, act_type=it) for it in ("sigmoid", "tanh", "softrelu", "softsign", "relu")]
    outputs += [
        mx.sym.LeakyReLU(flat, act_type="leaky", slope=0.1),
        mx.sym.LeakyReLU(flat),
        mx.sym.LeakyReLU(flat, act_type="elu", slope=0.7),
        mx.sym.LeakyReLU(flat, act_type="selu"),
        mx.sym.LeakyReLU(flat, act_type="gelu"),
        mx.sym.Flatten(mx.sym.LeakyReLU(data, act_type="prelu", name="prelu")),
        mx.sym.clip(flat, a_min=-0.5, a_max=0.25),
        mx.sym.softmax(flat),
        mx.sym.softmax(flat, temperature=2.0),
        mx.sym.log_softmax(flat),
        mx.sym.SoftmaxActivation(flat),
        mx.sym.Flatten(mx.sym.SoftmaxActivation(data, mode="channel")),
        mx.sym.Flatten(mx.sym.softmax(data, axis=2)),
    ]
    return mx.sym.Concat(*outputs, dim=1)


def arithmetic(data):
    x = mx.sym.Flatten(data)
    positive = mx.sym.abs(x) + 0.5
    row = mx.sym.Variable("row", shape=(1, 6))
    column = mx.sym.slice_axis(x, axis=1, begin=0, end=6)
    outputs = [
        x + x, x - positive, x * positive, x / positive, positive ** x,
        x + 1.5, x - 0.5, 2.0 - x, x * 3.0, x / 4.0, 1.0 / positive, positive ** 2.5,
        mx.sym.maximum(x, 0.3), mx.sym.minimum(x, 0.3),
        -x, mx.sym.exp(x), mx.sym.log(positive), mx.sym.sqrt(positive), mx.sym.square(x),
        mx.sym.add_n(x, positive, x),
        mx.sym.broadcast_add(column, row), mx.sym.broadcast_sub(column, row), mx.sym.broadcast_mul(column, row),
        mx.sym.broadcast_div(column, mx.sym.abs(row) + 1.0), mx.sym.broadcast_maximum(column, row),
        mx.sym.broadcast_minimum(column, row),
        mx.sym.Cast(mx.sym.Cast(x * 10.0, dtype="int32"), dtype="float32"),
        mx.sym.BlockGrad(mx.sym.Dropout(x)), mx.sym.identity(x),
    ]
    return mx.sym.Concat(*outputs, dim=1)


def shapes(data):
    flat = lambda it: mx.sym.reshape(it, shape=(0, -1))
    outputs = [
        flat(mx.sym.reshape(data, shape=(0, -3, 0))),
        flat(mx.sym.reshape(data, shape=(0, 0, -1))),
        flat(mx.sym.reshape(data, shape=(-2,))),
        flat(mx.sym.reshape(data, shape=(0, -4, 1, -1, -2))),
        flat(mx.sym.transpose(data, axes=(0, 2, 3, 1))),
        flat(mx.sym.SwapAxis(data, dim1=1, dim2=3)),
        flat(mx.sym.expand_dims(data, axis=2)),
        flat(mx.sym.squeeze(mx.sym.slice_axis(data, axis=1, begin=1, end=2), axis=1)),
        flat(mx.sym.slice_axis(data, axis=3, begin=1, end=None)),
        flat(mx.sym.mean(data, axis=(2, 3))),
        flat(mx.sym.sum(data, axis=1, keepdims=True)),
        flat(mx.sym.max(data, axis=(1,))),
        flat(mx.sym.min(data, axis=3)),
        flat(mx.sym.Pad(data, mode="constant", constant_value=0.5, pad_width=(0, 0, 0, 0, 1, 2, 2, 1))),
        flat(mx.sym.Pad(data, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 2, 0))),
        flat(mx.sym.Pad(data, mode="reflect", pad_width=(0, 0, 0, 0, 1, 1, 0, 2))),
        flat(mx.sym.LRN(data, nsize=3, alpha=0.01, beta=0.6, knorm=1.5)),
        flat(mx.sym.L2Normalization(data)),
        flat(mx.sym.L2Normalization(data, mode="channel")),
        flat(mx.sym.L2Normalization(data, mode="spatial")),
        flat(mx.sym.BatchNorm(data, axis=3, fix_gamma=False, name="last")),
        flat(mx.sym.Deconvolution(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), adj=(1, 1), num_filter=2, name="up")),
        flat(mx.sym.FullyConnected(data, num_hidden=3, flatten=False, no_bias=True, name="inner")),
        flat(mx.sym.LogisticRegressionOutput(data, name="logistic")),
    ]
    return mx.sym.Concat(*outputs, dim=1)


def rows(data):
    net = mx.sym.Convolution(data, kernel=(3,), stride=(2,), pad=(1,), num_filter=4, name="conv")
    full = mx.sym.Pooling(net, kernel=(2,), stride=(2,), pooling_convention="full", pool_type="avg")
    return mx.sym.FullyConnected(mx.sym.Flatten(full), num_hidden=3, name="fc")


NETWORKS = {
    "layers": (layers, (2, 3, 9, 11)),
    "pools": (pools, (1, 2, 9, 11)),
    "activations": (activations, (2, 3, 2, 2)),
    "arithmetic": (arithmetic, (2, 3, 2, 2)),
    "shapes": (shapes, (2, 3, 4, 5)),
    "rows": (rows, (2, 3, 13)),
}


def parameters(symbol, shape, random):
    """Values for all parameters: what is divided by is above nothing."""
    names = symbol.list_arguments()
    found, _, auxiliary = symbol.infer_shape(data=shape)
    of_args = {
        name: random.normal(0, 0.5, size)
        for name, size in zip(names, found)
        if name != "data" and not name.endswith("_label")
    }
    of_aux = {
        name: random.uniform(0.5, 1.5, size) if name.endswith("var") else random.normal(0, 0.5, size)
        for name, size in zip(symbol.list_auxiliary_states(), auxiliary)
    }
    return (
        {name: mx.nd.array(value, dtype="float32") for name, value in of_args.items()},
        {name: mx.nd.array(value, dtype="float32") for name, value in of_aux.items()},
    )


def answer(symbol, arguments, auxiliary, value):
    names = [name for name in symbol.list_arguments() if name.endswith("_label")]
    module = mx.mod.Module(symbol, context=mx.cpu(), label_names=names or None)
    module.bind(for_training=False, data_shapes=[("data", value.shape)])
    module.set_params(arguments, auxiliary, allow_missing=True)
    module.forward(mx.io.DataBatch([mx.nd.array(value)]), is_train=False)
    return module.get_outputs()[0].asnumpy()


def as_of_0_8(text):
    """The same graph as MXNet 0.8 wrote it."""
    graph = json.loads(text)
    for node in graph["nodes"]:
        node["param"] = node.pop("attrs", {}) if node["op"] != "null" else {}
        node["inputs"] = [it[:2] for it in node["inputs"]]
        node["backward_source_id"] = -1
        if node["op"] == "BatchNorm":
            node["inputs"] = node["inputs"][:3]
        if node["op"] == "elemwise_add":
            node["op"] = "_Plus"
    graph["heads"] = [it[:2] for it in graph["heads"]]
    graph.pop("attrs")
    graph.pop("node_row_ptr")
    return json.dumps(graph)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (network, shape) in NETWORKS.items():
        random = np.random.default_rng(SEED)
        symbol = network(mx.sym.Variable("data"))
        arguments, auxiliary = parameters(symbol, shape, random)
        value = random.normal(0, 1, shape).astype("float32")
        prefix = str(folder / name)
        mx.model.save_checkpoint(prefix, 0, symbol, arguments, auxiliary)
        np.save(f"{prefix}-input.npy", value)
        np.save(f"{prefix}-output.npy", answer(symbol, arguments, auxiliary, value))
    layers_as_of_0_8 = as_of_0_8((folder / "layers-symbol.json").read_text())
    (folder / "old-symbol.json").write_text(layers_as_of_0_8)


if __name__ == "__main__":
    main()
