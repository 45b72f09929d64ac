"""Symbol files as MXNet's module API had them in its model zoo: ResNets with pre-activation, and SqueezeNet 1.0."""

from __future__ import annotations

import mxnet as mx

EPS = 2e-5
UNITS = {18: ([2, 2, 2, 2], [64, 64, 128, 256, 512], False), 152: ([3, 8, 36, 3], [64, 256, 512, 1024, 2048], True)}


def norm_relu(data, name):
    norm = mx.sym.BatchNorm(data, fix_gamma=False, eps=EPS, momentum=0.9, name=f"{name[0]}_bn{name[1]}")
    return mx.sym.Activation(norm, act_type="relu", name=f"{name[0]}_relu{name[1]}")


def conv(data, filters, kernel, stride, name):
    pad = (kernel // 2, kernel // 2)
    return mx.sym.Convolution(
        data, num_filter=filters, kernel=(kernel, kernel), stride=stride, pad=pad, no_bias=True, workspace=256, name=name
    )


def unit(data, filters, stride, matches, name, has_bottleneck):
    act = norm_relu(data, (name, 1))
    if has_bottleneck:
        net = conv(act, filters // 4, 1, (1, 1), f"{name}_conv1")
        net = conv(norm_relu(net, (name, 2)), filters // 4, 3, stride, f"{name}_conv2")
        net = conv(norm_relu(net, (name, 3)), filters, 1, (1, 1), f"{name}_conv3")
    else:
        net = conv(act, filters, 3, stride, f"{name}_conv1")
        net = conv(norm_relu(net, (name, 2)), filters, 3, (1, 1), f"{name}_conv2")
    shortcut = data if matches else conv(act, filters, 1, stride, f"{name}_sc")
    return net + shortcut


def resnet(depth):
    units, filters, has_bottleneck = UNITS[depth]
    net = mx.sym.BatchNorm(mx.sym.Variable("data"), fix_gamma=True, eps=EPS, momentum=0.9, name="bn_data")
    net = conv(net, filters[0], 7, (2, 2), "conv0")
    net = mx.sym.BatchNorm(net, fix_gamma=False, eps=EPS, momentum=0.9, name="bn0")
    net = mx.sym.Activation(net, act_type="relu", name="relu0")
    net = mx.sym.Pooling(net, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    for stage, count in enumerate(units):
        for number in range(count):
            first = number == 0
            stride = (2, 2) if first and stage > 0 else (1, 1)
            name = f"stage{stage + 1}_unit{number + 1}"
            net = unit(net, filters[stage + 1], stride, not first, name, has_bottleneck)
    net = mx.sym.BatchNorm(net, fix_gamma=False, eps=EPS, momentum=0.9, name="bn1")
    net = mx.sym.Activation(net, act_type="relu", name="relu1")
    net = mx.sym.Pooling(net, global_pool=True, kernel=(7, 7), pool_type="avg", name="pool1")
    net = mx.sym.FullyConnected(mx.sym.Flatten(net), num_hidden=1000, name="fc1")
    return mx.sym.SoftmaxOutput(net, name="softmax")


def fire(data, squeeze, expand, name):
    def part(source, filters, kernel, what):
        pad = (kernel // 2, kernel // 2)
        net = mx.sym.Convolution(source, num_filter=filters, kernel=(kernel, kernel), pad=pad, name=f"{name}_{what}")
        return mx.sym.Activation(net, act_type="relu", name=f"{name}_relu_{what}")

    squeezed = part(data, squeeze, 1, "squeeze1x1")
    return mx.sym.Concat(
        part(squeezed, expand, 1, "expand1x1"), part(squeezed, expand, 3, "expand3x3"), name=f"{name}_concat"
    )


def squeezenet():
    def pool(data, name):
        return mx.sym.Pooling(
            data, kernel=(3, 3), stride=(2, 2), pooling_convention="full", pool_type="max", name=name
        )

    net = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=96, kernel=(7, 7), stride=(2, 2), name="conv1")
    net = pool(mx.sym.Activation(net, act_type="relu", name="relu_conv1"), "pool1")
    for number, (squeeze, expand) in enumerate([(16, 64), (16, 64), (32, 128)], 2):
        net = fire(net, squeeze, expand, f"fire{number}")
    net = pool(net, "pool4")
    for number, (squeeze, expand) in enumerate([(32, 128), (48, 192), (48, 192), (64, 256)], 5):
        net = fire(net, squeeze, expand, f"fire{number}")
    net = fire(pool(net, "pool8"), 64, 256, "fire9")
    net = mx.sym.Dropout(net, p=0.5, name="drop9")
    net = mx.sym.Convolution(net, num_filter=1000, kernel=(1, 1), pad=(1, 1), name="conv10")
    net = mx.sym.Activation(net, act_type="relu", name="relu_conv10")
    net = mx.sym.Pooling(net, kernel=(13, 13), global_pool=True, pool_type="avg", name="pool10")
    return mx.sym.SoftmaxOutput(mx.sym.Flatten(net, name="flatten"), name="softmax")


NETWORKS = {
    "module resnet-18": lambda: resnet(18),
    "module resnet-152": lambda: resnet(152),
    "module squeezenet_v1.0": squeezenet,
}
