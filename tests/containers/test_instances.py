"""`manifold up --instances docker`: instances that are containers, on a real engine with real images.

The images stand on the worker's, which is a multi-model container itself: one is the example's, with scikit-learn, and the
others differ from the worker in how they fail.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from cluster import ROOT, TARGET_MODEL, Cluster, docker, run, wait_until

sys.path.insert(0, str(ROOT / "tests" / "python"))
import archives  # noqa: E402, beside the tests with boto3

MANIFOLD = ROOT / "target" / "release" / "manifold"
WORKER, ROUTER = "manifold-worker", "manifold-router"
PYTHON, BYO = "manifold-worker-python", "manifold-byo-example"
EXAMPLE = ROOT / "examples" / "byo-container"
# Says so, and ends before it listens.
ENDING = "manifold-test-ending"
START_PATIENCE_S = 120


def setUpModule():
    if not MANIFOLD.is_file():
        raise unittest.SkipTest(f"{MANIFOLD} is not built: make build")
    subprocess.run([sys.executable, "scripts/base_images.py"], cwd=ROOT, check=True, stdout=sys.stderr.fileno())
    Cluster.build()
    build(PYTHON, (ROOT / "worker" / "Dockerfile").read_text())
    docker("build", "--tag", BYO, str(EXAMPLE), patience_s=1200)
    build(ENDING, f'FROM {WORKER}\nENTRYPOINT ["bash", "-c", "echo no such weights; exit 7"]\n')


def build(tag, dockerfile):
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    run(["docker", "build", "--tag", tag, "-"], 1200, input=dockerfile, env=environment)


class Up:
    """A launcher whose instances are containers."""

    def __init__(self, folder, *flags):
        self.data = Path(folder) / "data"
        self.said = open(Path(folder) / "said", "w+")
        command = [MANIFOLD, "up", "--data", self.data, "--listen", "127.0.0.1:0", "--memory-budget", str(1 << 30), *flags]
        self.process = subprocess.Popen([str(it) for it in command], stdout=self.said, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            found = wait_until("the launcher serves", self._url, START_PATIENCE_S)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.text()}\n{self.logs()}") from None
        self.url = found.group(1)

    def _url(self):
        if self.process.poll() is not None:
            raise AssertionError("the launcher ended")
        return re.search(r"^AWS_ENDPOINT_URL=(\S+)$", self.text(), re.M)

    def text(self):
        return Path(self.said.name).read_text()

    def logs(self):
        return "\n".join(f"== {it.name}\n{it.read_text()[-4000:]}" for it in self.data.glob("logs/*.log"))

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(60)
        self.said.close()
        return code

    def containers(self, *flags):
        """Ids of all containers of this launcher, those that ended included."""
        label = f"label=manifold.data={self.data.resolve()}"
        return docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label, *flags).split()

    def control(self, operation, **parameters):
        headers = {"X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        return json.loads(self._ask("/", json.dumps(parameters).encode(), headers)[1] or "{}")

    def invoke(self, endpoint, model, body, content_type="application/json"):
        headers = {TARGET_MODEL: model, "Content-Type": content_type}
        return self._ask(f"/endpoints/{endpoint}/invocations", body, headers)

    def _ask(self, path, body, headers):
        request = urllib.request.Request(f"{self.url}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=70) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def create_endpoint(self, name, image, environment=None):
        """Makes an endpoint as a client does, and returns its description once it is settled."""
        container = {"Image": image, "Mode": "MultiModel", "ModelDataUrl": "s3://manifold-demo/models/"}
        container["Environment"] = environment or {}
        role = "arn:aws:iam::123456789012:role/manifold"
        self.control("CreateModel", ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
        variant = {"VariantName": "all", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
        self.control("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[variant])
        self.control("CreateEndpoint", EndpointName=name, EndpointConfigName=name)
        return wait_until(f"{name} is settled", lambda: self.settled(name), START_PATIENCE_S)

    def settled(self, name):
        described = self.control("DescribeEndpoint", EndpointName=name)
        return described if described["EndpointStatus"] not in ("Creating", "Updating") else None


class Instances(unittest.TestCase):
    """One launcher, started once, with an endpoint of the worker's own image."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="manifold-instances-")
        cls.addClassCleanup(folder.cleanup)
        models = Path(folder.name, "models")
        models.mkdir()
        for number in range(3):
            (models / f"echo-{number}.tar.gz").write_bytes(archives.echo())
        cls.up = Up(folder.name, "--image", WORKER, "--workers", "1", "--models", models)
        cls.addClassCleanup(cls.up.stop)

    @classmethod
    def tearDownClass(cls):
        cls.up.stop()
        left = cls.up.containers()
        if left:
            raise AssertionError(f"left behind: {left}")

    def serves(self, model="echo-0.tar.gz"):
        return self.up.invoke("demo", model, b"[1]") == (200, "[1]")

    def own(self, *flags):
        return self.up.containers("--filter", "label=manifold.instance", *flags)

    def test_models_come_and_go_in_a_container_that_is_started_as_sagemaker_does(self):
        for number in range(3):
            wait_until("it serves", lambda: self.serves(f"echo-{number}.tar.gz"))
        container, = json.loads(docker("inspect", *self.own()[:1]))
        self.assertEqual(container["Config"]["Cmd"], ["serve"])
        for variable in ("SAGEMAKER_MULTI_MODEL=true", "SAGEMAKER_BIND_TO_PORT=8080"):
            self.assertIn(variable, container["Config"]["Env"])
        mount, = (it for it in container["Mounts"] if it["Destination"] == "/opt/ml/models")
        self.assertFalse(mount["RW"])
        self.assertGreater(container["HostConfig"]["Memory"], 0)
        binding, = container["NetworkSettings"]["Ports"]["8080/tcp"]
        self.assertEqual(binding["HostIp"], "127.0.0.1")

    def test_a_container_that_is_killed_is_started_again_with_its_models(self):
        wait_until("it serves", self.serves)
        before, = self.own()
        docker("kill", before)
        wait_until("another container serves", lambda: before not in self.own() and self.serves(), START_PATIENCE_S)
        self.assertEqual(len(self.own()), 1)

    def test_an_agent_that_is_killed_takes_its_container_along_and_both_come_back(self):
        wait_until("it serves", self.serves)
        before, = self.own()
        agents = run(["pgrep", "-f", f"manifold-worker.*--backend-models {self.up.data.resolve()}"]).split()
        for pid in agents:
            os.kill(int(pid), signal.SIGKILL)
        wait_until("another container serves", lambda: before not in self.own() and self.serves(), START_PATIENCE_S)

    def test_an_image_that_is_no_multi_model_container_fails_its_endpoint_with_the_label_it_lacks(self):
        described = self.up.create_endpoint("unlabelled", ROUTER)
        self.assertEqual(described["EndpointStatus"], "Failed", described)
        self.assertIn("com.amazonaws.sagemaker.capabilities.multi-models=true", described["FailureReason"])

    def test_an_image_that_cannot_be_had_fails_its_endpoint_and_is_named(self):
        described = self.up.create_endpoint("absent", "127.0.0.1:9/no-such-image:1")
        self.assertEqual(described["EndpointStatus"], "Failed", described)
        self.assertIn("127.0.0.1:9/no-such-image:1 cannot be had", described["FailureReason"])

    def test_a_container_that_ends_again_and_again_fails_its_endpoint_with_how_it_ended(self):
        described = self.up.create_endpoint("ending", ENDING)
        self.assertEqual(described["EndpointStatus"], "Failed", described)
        self.assertIn("ended with code 7", described["FailureReason"])
        self.assertIn("no such weights", self.up.logs())

    def test_an_endpoint_that_is_deleted_takes_its_containers_along(self):
        described = self.up.create_endpoint("second", WORKER, {"OWN_VARIABLE": "as given"})
        self.assertEqual(described["EndpointStatus"], "InService", described)
        self.assertEqual(self.up.invoke("second", "echo-1.tar.gz", b"[2]"), (200, "[2]"))
        first, second = self.own("--filter", "name=demo"), self.own("--filter", "name=second")
        self.assertEqual((len(first), len(second)), (1, 1))
        environment = json.loads(docker("inspect", *second))[0]["Config"]["Env"]
        self.assertIn("OWN_VARIABLE=as given", environment)
        self.up.control("DeleteEndpoint", EndpointName="second")
        wait_until("its container is gone", lambda: not self.own("--filter", "name=second"), 120)
        self.assertTrue(self.serves())


class Ending(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="manifold-instances-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        models = self.folder / "models"
        models.mkdir()
        (models / "echo.tar.gz").write_bytes(archives.echo())
        self.flags = ["--image", WORKER, "--workers", "2", "--models", models]

    def test_a_launcher_that_is_killed_leaves_no_container(self):
        up = Up(self.folder, *self.flags)
        self.assertEqual(len(up.containers()), 2)
        up.stop(signal.SIGKILL)
        wait_until("no container is left", lambda: not up.containers())

    def test_what_a_killed_machine_left_is_removed_by_the_next_launcher(self):
        up = Up(self.folder, *self.flags)
        # As when everything dies at once: nobody is left who could remove them.
        for pid in run(["pgrep", "-f", f"manifold container .*{up.data.resolve()}"]).split():
            os.kill(int(pid), signal.SIGSTOP)
            os.kill(int(pid), signal.SIGKILL)
        left = set(up.containers())
        up.stop(signal.SIGKILL)
        again = Up(self.folder, *self.flags)
        self.addCleanup(again.stop)
        self.assertFalse(left & set(again.containers()), "they are others")
        self.assertEqual(len(again.containers()), 2)


class Example(unittest.TestCase):
    def test_the_example_trains_packs_and_serves(self):
        done = subprocess.run([EXAMPLE / "test.sh"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])
        self.assertRegex(done.stdout, r'(?s)forest: \{.*"setosa".*logistic: \{.*"setosa"')


if __name__ == "__main__":
    unittest.main()
