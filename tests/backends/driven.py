"""What the agent makes of real servers: each is the backend of an instance behind a router, asked by stock boto3.

Run by `run.py` with the environment that has the servers and boto3:

    python driven.py ENVIRONMENT BINARIES [-k NAME]
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "python"), str(HERE.parent / "mms")]

import archives  # noqa: E402, beside the other Python tests
import cluster  # noqa: E402
import servers  # noqa: E402, beside the comparison with Multi Model Server

ENVIRONMENT = Path()
MANIFEST = {
    "runtime": "python",
    "specificationVersion": "1.0",
    "model": {"modelName": "own", "modelVersion": "1.0", "handler": "service.py:handle"},
}
N_MODELS = 5
CAPACITY = 2
# A JVM on a busy machine, and what must happen in the end.
PATIENCE_S = 60


def start_mms(folder: Path, port: int) -> servers.Server:
    python = ENVIRONMENT / "bin" / "python"
    programs = servers.Environment(python, ENVIRONMENT / "bin" / "multi-model-server", python, Path())
    return servers.start_mms(programs, folder, servers.Settings(), port)


class Driven:
    """The same for every server."""

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="manifold-backends-")
        cls.addClassCleanup(temporary.cleanup)
        # Servers resolve links, and compare.
        cls.folder = Path(os.path.realpath(temporary.name))
        cls.slots, cls.models, cls.unpacked = (cls.folder / it for it in ("slots", "models", "unpacked"))
        for folder in (cls.slots, cls.models, cls.unpacked):
            folder.mkdir()
        for number in range(N_MODELS):
            cls.publish(f"model-{number}", {})
        cls.n_starts, cls.port = 0, servers.free_low_port()
        cls.start_server()
        cls.addClassCleanup(lambda: cls.server.stop())

    @classmethod
    def start_server(cls):
        cls.n_starts += 1
        cls.server = cls.start(cls.folder / f"server-{cls.n_starts}", cls.port)

    @classmethod
    def publish(cls, name: str, more: dict[str, bytes]):
        content = {
            "MAR-INF/MANIFEST.json": json.dumps(MANIFEST).encode(),
            "service.py": (HERE / "service.py").read_bytes(),
            "slots": str(cls.slots).encode(),
            "name": name.encode(),
        }
        Path(cls.models, f"{name}.tar.gz").write_bytes(archives.archive(content | more))

    def setUp(self):
        if self.server.ask("GET", "/ping").status != 200:
            # A test that failed has left it so.
            self.server.stop()
            self.start_server()
        flags = ["--backend", f"http://127.0.0.1:{self.port}", "--backend-models", self.unpacked]
        self.running = cluster.Cluster(models=self.models, worker=flags).__enter__()
        self.addCleanup(self.assert_nothing_stays)
        self.addCleanup(self.running.__exit__)
        self.client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=self.running.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )
        self.eventually(lambda: self.n_in_service() == 1)

    def assert_nothing_stays(self):
        """What every agent leaves that ended in order."""
        self.assertEqual(self.listed(), [])
        self.assertEqual([it.name for it in self.unpacked.iterdir() if it.is_dir()], [])

    def invoke(self, model: str, body: bytes = b"x", **more: str):
        answer = self.client.invoke_endpoint(
            EndpointName="demo", TargetModel=f"{model}.tar.gz", Body=body, ContentType="application/octet-stream", **more
        )
        return answer["Body"].read().decode(), answer

    def refused(self, model: str, body: bytes = b"x"):
        with self.assertRaises(ClientError) as caught:
            self.invoke(model, body)
        return caught.exception.response

    def listed(self) -> list[str]:
        return [it["modelName"] for it in json.loads(self.server.ask("GET", "/models").body)["models"]]

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.running.worker}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(it.rpartition(" ")[2]) for it in lines if it.startswith(name))

    def eventually(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.server.log.read_text(errors="replace")[-3000:])
            time.sleep(0.1)

    def n_in_service(self) -> int:
        return sum(it["in_service"] for it in self.running.get("/manifold/v1/instances"))

    def test_a_model_is_loaded_invoked_and_its_answer_passed_on(self):
        text, answer = self.invoke("model-0", b"hello", CustomAttributes="mine")
        self.assertEqual(text, "model-0: hello")
        self.assertEqual((answer["ContentType"], answer["CustomAttributes"]), ("text/x-own", "was mine"))
        self.assertEqual(answer["ResponseMetadata"]["HTTPHeaders"]["x-manifold-cache"], "miss")
        _, again = self.invoke("model-0")
        self.assertEqual(again["ResponseMetadata"]["HTTPHeaders"]["x-manifold-cache"], "hit")
        self.assertEqual(len(self.listed()), 1)

    def test_a_model_is_served_by_its_address_too(self):
        address = f"file://{self.models}/model-1.tar.gz"
        request = urllib.request.Request(
            f"http://{self.running.worker}/invocations", b"hello", {"x-manifold-artifact": address}
        )
        request.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(request, timeout=60) as answer:
            self.assertEqual(answer.read(), b"model-1: hello")

    def test_models_leave_when_there_is_no_room_and_come_again(self):
        for _ in range(2):
            for number in range(N_MODELS):
                self.assertEqual(self.invoke(f"model-{number}")[0], f"model-{number}: x")
        self.assertLessEqual(len(self.listed()), CAPACITY)
        n_evicted = self.metric('worker_evictions_total{reason="Backend"}')
        self.assertGreaterEqual(n_evicted, 2 * N_MODELS - CAPACITY)
        self.eventually(lambda: len([it for it in self.unpacked.iterdir() if it.is_dir()]) == CAPACITY)

    def test_a_model_that_never_fits_is_refused_and_pushes_others_out_once(self):
        self.publish("huge", {"huge": b""})
        self.addCleanup(os.unlink, self.models / "huge.tar.gz")
        self.invoke("model-0")
        refused = self.refused("huge")
        self.assertEqual((refused["Error"]["Code"], refused["OriginalStatusCode"]), ("ModelError", 507))
        self.invoke("model-0")
        self.refused("huge")
        _, answer = self.invoke("model-0")
        self.assertEqual(answer["ResponseMetadata"]["HTTPHeaders"]["x-manifold-cache"], "hit")

    def test_what_a_model_fails_with_is_told_as_sagemaker_tells_it(self):
        refused = self.refused("model-0", b"fail")
        self.assertEqual((refused["Error"]["Code"], refused["OriginalStatusCode"]), ("ModelError", 503))
        self.assertEqual(json.loads(refused["OriginalMessage"])["message"], "Prediction failed")
        self.assertEqual(self.invoke("model-0")[0], "model-0: x")

    def test_others_leave_for_a_model_that_runs_out_of_memory_as_it_runs(self):
        self.invoke("model-0")
        self.invoke("model-1")
        refused = self.refused("model-0", b"memory")
        self.assertEqual((refused["Error"]["Code"], refused["OriginalStatusCode"]), ("ModelError", 507))
        self.assertEqual(self.metric('worker_evictions_total{reason="Backend"}'), 1)
        self.assertEqual(self.invoke("model-0")[0], "model-0: x")

    def test_an_archive_that_is_no_model_is_refused_and_leaves_nothing(self):
        Path(self.models, "wrong.tar.gz").write_bytes(archives.archive({"notes.txt": b"no model"}))
        refused = self.refused("wrong")
        self.assertEqual(refused["Error"]["Code"], "ModelError")
        self.assertIn("the backend did not load the model", refused["OriginalMessage"])
        self.eventually(lambda: self.listed() == [])
        self.assertEqual(self.refused("absent")["Error"]["Code"], "ValidationError")

    def test_an_operator_unloads(self):
        self.invoke("model-0")
        [slot] = self.alive_slots()
        url = f"http://{self.running.worker}/manifold/v1/models?prefix=file://{self.models}/"
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=60):
            pass
        self.eventually(lambda: self.listed() == [] and slot not in self.alive_slots())

    def test_a_server_that_was_started_anew_is_served_by_again(self):
        self.invoke("model-0")
        self.server.stop()
        self.eventually(lambda: self.n_in_service() == 0)
        self.start_server()
        self.eventually(lambda: self.n_in_service() == 1)
        self.assertEqual(self.invoke("model-0")[0], "model-0: x")

    def test_a_server_that_hangs_is_not_asked_until_it_goes_on(self):
        self.invoke("model-0")
        self.server.signal(signal.SIGSTOP)
        try:
            self.eventually(lambda: self.n_in_service() == 0)
        finally:
            self.server.signal(signal.SIGCONT)
        self.eventually(lambda: self.n_in_service() == 1)
        self.assertEqual(self.invoke("model-0")[0], "model-0: x")

    def alive_slots(self) -> list[str]:
        return [it.name for it in self.slots.iterdir() if Path("/proc", it.name).exists()]


class MultiModelServer(Driven, unittest.TestCase):
    start = staticmethod(start_mms)


class TorchServe(Driven, unittest.TestCase):
    start = staticmethod(lambda folder, port: servers.start_torchserve(ENVIRONMENT, folder, port))


if __name__ == "__main__":
    ENVIRONMENT, cluster.BINARIES = Path(sys.argv[1]), Path(sys.argv[2])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
