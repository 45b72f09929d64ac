"""An archive that TorchServe's own archiver has made, with its `image_classifier`, served three times: by TorchServe,
and through the router with boto3 by handler processes that have TorchServe's modules, and by some that have ours.

Run by `run.py` with the environment that has them:

    python classified.py ENVIRONMENT BINARIES
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

import boto3
import torch
import torchvision
from botocore.config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / "python"), str(HERE.parent / "mms")]

import cluster  # noqa: E402, beside the other Python tests
import servers  # noqa: E402, beside the comparison with Multi Model Server

ENVIRONMENT = Path()
SEED = 20261124
PICTURE = (ROOT / "driver" / "assets" / "cat.jpg").read_bytes()
# A model class, as TorchServe's example has it beside its weights.
MODEL = """
from torchvision.models.resnet import BasicBlock, ResNet
class ImageClassifier(ResNet):
    def __init__(self):
        super().__init__(BasicBlock, [2, 2, 2, 2])
"""
# Their sums may run in another order.
TOLERANCE = 1e-5


def make_archives(folder: Path) -> None:
    """Has the archiver pack the same network twice: as weights with their class, and as TorchScript."""
    torch.manual_seed(SEED)
    network = torchvision.models.resnet18().eval()
    torch.save(network.state_dict(), folder / "weights.pt")
    torch.jit.script(network).save(folder / "script.pt")
    (folder / "network.py").write_text(MODEL)
    names = {str(number): [f"n{number:08d}", f"thing {number}"] for number in range(1000)}
    (folder / "index_to_name.json").write_text(json.dumps(names))
    for name, files in (("eager", ["--model-file", "network.py", "--serialized-file", "weights.pt"]),
                        ("script", ["--serialized-file", "script.pt"])):
        command = [ENVIRONMENT / "bin" / "torch-model-archiver", "--model-name", name, "--version", "1.0", *files,
                   "--handler", "image_classifier", "--extra-files", "index_to_name.json", "--export-path", "archives"]
        (folder / "archives").mkdir(exist_ok=True)
        subprocess.run([str(it) for it in command], cwd=folder, check=True)


def without_torchserve(folder: Path) -> Path:
    """The environment's modules but for TorchServe's, in a folder for the path."""
    folder.mkdir()
    for module in next(ENVIRONMENT.glob("lib/python3*/site-packages")).iterdir():
        if module.name != "ts" and not module.name.startswith("torchserve"):
            (folder / module.name).symlink_to(module)
    return folder


class Classified(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="manifold-torchserve-")
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(os.path.realpath(temporary.name))
        make_archives(cls.folder)
        cls.wanted = cls.by_torchserve()

    @classmethod
    def by_torchserve(cls) -> dict[str, dict[str, float]]:
        wanted = {}
        server = servers.start_torchserve(ENVIRONMENT, cls.folder / "server", servers.free_low_port())
        with servers.running(server):
            for name in ("eager", "script"):
                unpacked = cls.folder / name
                with zipfile.ZipFile(cls.folder / "archives" / f"{name}.mar") as archive:
                    archive.extractall(unpacked)
                loaded = server.ask_json("POST", "/models", {"model_name": name, "url": str(unpacked)})
                assert loaded.status == 200, (loaded, server.log.read_text()[-3000:])
                answer = server.ask("POST", f"/models/{name}/invoke", {"Content-Type": "image/jpeg"}, PICTURE)
                assert answer.status == 200, answer
                wanted[name] = json.loads(answer.body)
        return wanted

    def check(self, python: Path, modules: Path | None, has_theirs: bool):
        wrapper = self.folder / "python"
        path = f"PYTHONPATH={modules} " if modules else ""
        # Says whose modules it has found: a comparison with the wrong ones would tell nothing.
        found = subprocess.run(
            [python, "-c", "import ts"], env={**os.environ, "PYTHONPATH": str(modules or "")}, capture_output=True)
        self.assertEqual(found.returncode == 0, has_theirs, found.stderr)
        wrapper.write_text(f'#!/bin/sh\n{path}exec {python} "$@"\n')
        wrapper.chmod(0o755)
        with cluster.Cluster(models=self.folder / "archives", worker=["--python", str(wrapper)]) as running:
            client = boto3.client(
                "sagemaker-runtime", endpoint_url=running.url, region_name="us-east-1", aws_access_key_id="any",
                aws_secret_access_key="any", config=Config(proxies={}, read_timeout=120))
            for name, wanted in self.wanted.items():
                with self.subTest(name):
                    answer = client.invoke_endpoint(
                        EndpointName="demo", TargetModel=f"{name}.mar", ContentType="image/jpeg", Body=PICTURE)
                    classes = json.loads(answer["Body"].read())
                    self.assertEqual(list(classes), list(wanted))
                    for label, probability in wanted.items():
                        self.assertAlmostEqual(classes[label], probability, delta=TOLERANCE)

    def test_torchserve_s_own_modules_answer_here_as_there(self):
        self.check(ENVIRONMENT / "bin" / "python", None, has_theirs=True)

    def test_our_modules_answer_as_torchserve_s(self):
        base = Path(os.path.realpath(ENVIRONMENT / "bin" / "python"))
        self.check(base, without_torchserve(self.folder / "modules"), has_theirs=False)


if __name__ == "__main__":
    ENVIRONMENT, cluster.BINARIES = Path(sys.argv[1]), Path(sys.argv[2])
    unittest.main(argv=sys.argv[:1], verbosity=2)
