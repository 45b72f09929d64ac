"""Every classification network that gluon can export, and module-style ones, against MXNet: the same numbers, the same top five.

Weights are random, from one seed. Each network is exported, served by a worker, and asked for the class of random pictures;
the answers are compared with MXNet's own. Needs MXNet (requirements.txt) and a built worker; `make test-mxnet` has both:

    python tests/mxnet/networks.py [--only resnet] [--worker target/release/manifold-worker]

Prints a table and how many passed, and ends with 1 if a network answers otherwise. Takes some minutes and 2 GB of disk.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.gluon.model_zoo import vision

import module_style

SEED = 20261123
TOLERANCE = 1e-4
PATIENCE_S = 120
# All that `mxnet.gluon.model_zoo.vision.get_model` knows; each with the side of its pictures.
GLUON = {
    "alexnet": 224,
    "inceptionv3": 299,
    **{f"densenet{it}": 224 for it in (121, 161, 169, 201)},
    **{f"mobilenet{it}": 224 for it in ("0.25", "0.5", "0.75", "1.0", "v2_0.25", "v2_0.5", "v2_0.75", "v2_1.0")},
    **{f"resnet{depth}_v{version}": 224 for depth in (18, 34, 50, 101, 152) for version in (1, 2)},
    **{f"squeezenet{it}": 224 for it in ("1.0", "1.1")},
    **{f"vgg{depth}{norm}": 224 for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
}


def export_gluon(name, size, prefix):
    mx.random.seed(SEED)
    net = vision.get_model(name, classes=1000)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    net(mx.nd.zeros((1, 3, size, size)))
    settle(net.collect_params().values())
    net.export(str(prefix))
    return lambda value: net(mx.nd.array(value)).asnumpy()


def settle(parameters):
    """States of norms that are not just nothing and one, so that they matter."""
    random = np.random.default_rng(SEED)
    for parameter in parameters:
        if parameter.name.endswith("running_mean"):
            parameter.set_data(mx.nd.array(random.normal(0, 0.1, parameter.shape)))
        elif parameter.name.endswith("running_var"):
            parameter.set_data(mx.nd.array(random.uniform(0.8, 1.2, parameter.shape)))


def export_module(symbol, prefix):
    mx.random.seed(SEED)
    module = mx.mod.Module(symbol, context=mx.cpu(), label_names=["softmax_label"])
    module.bind(for_training=False, data_shapes=[("data", (1, 3, 224, 224))])
    module.init_params(mx.init.Xavier())
    module.save_checkpoint(str(prefix), 0)

    def answer(value):
        module.forward(mx.io.DataBatch([mx.nd.array(value)]), is_train=False)
        return module.get_outputs()[0].asnumpy()

    return answer


class Worker:
    """A worker on a free port that serves folders."""

    def __init__(self, program, root):
        address_file = root / "address"
        self.process = subprocess.Popen(
            [program, "--bind", "127.0.0.1:0", "--file-root", root, "--cache-dir", root / "cache", "--revalidate-s", "0",
             "--address-file", address_file],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not address_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the worker did not start")
            time.sleep(0.05)
        self.url = f"http://{address_file.read_text().strip()}"

    def invoke(self, folder, value):
        body = io.BytesIO()
        np.save(body, value)
        headers = {
            "Content-Type": "application/x-npy",
            "Accept": "application/x-npy",
            "x-manifold-artifact": f"file://{folder}",
            "x-manifold-cache-setting": "disabled",
        }
        request = urllib.request.Request(f"{self.url}/invocations", body.getvalue(), headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return np.load(io.BytesIO(answer.read()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only networks whose names hold this")
    parser.add_argument("--worker", default="target/release/manifold-worker")
    options = parser.parse_args()
    networks = {f"gluon {name}": (name, size) for name, size in GLUON.items()}
    networks.update({name: (symbol, 224) for name, symbol in module_style.NETWORKS.items()})
    outcomes = []
    print("| network | largest difference | top five |\n| --- | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="manifold-mxnet-") as root:
        worker = Worker(options.worker, Path(root))
        try:
            for title, (what, size) in networks.items():
                if options.only in title:
                    outcomes.append(compare(worker, Path(root) / "model", title, what, size))
        finally:
            worker.process.kill()
            worker.process.wait()
    print(f"\n{sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed, 0 skipped", flush=True)
    sys.exit(0 if all(outcomes) else 1)


def compare(worker, folder, title, what, size):
    folder.mkdir()
    prefix = folder / "net"
    answer = export_gluon(what, size, prefix) if isinstance(what, str) else export_module(what(), prefix)
    value = np.random.default_rng(SEED).uniform(-1, 1, (1, 3, size, size)).astype("float32")
    theirs, ours = answer(value), worker.invoke(folder, value)
    difference = float(np.abs(theirs - ours).max())
    has_same_top = bool((np.argsort(-theirs[0])[:5] == np.argsort(-ours[0])[:5]).all())
    is_right = theirs.shape == ours.shape and difference <= TOLERANCE and has_same_top
    print(f"| {title} | {difference:.1e} | {'equal' if has_same_top else '**different**'} |", flush=True)
    shutil.rmtree(folder)
    return is_right


if __name__ == "__main__":
    main()
