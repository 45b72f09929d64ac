"""A cluster of containers: what `docker compose up` starts, as a project of its own that leaves nothing behind."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CAT = ROOT / "driver" / "assets" / "cat.jpg"
# On a machine that has nothing, everything is compiled once.
BUILD_PATIENCE_S = 3600
# Starting everything, and making twelve models on a busy machine.
START_PATIENCE_S = 600
STATE_PATIENCE_S = 90
# Longer than the longest stop_grace_period.
STOP_PATIENCE_S = 180
TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"


def compose_command():
    """The Compose tool that is here: the stand-alone one first, because it is what a machine without plugins has."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return ["docker", "compose"]


def run(command, patience_s=60, **options):
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience_s, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-8000:]}")
    return done.stdout


def docker(*args, patience_s=60):
    return run(["docker", *args], patience_s)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, check, patience_s=STATE_PATIENCE_S):
    """Returns the first true value that `check` returns."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            found = check()
        except (OSError, urllib.error.URLError, ValueError) as error:
            found, said = None, error
        else:
            said = found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {patience_s} s ({said!r})")
        time.sleep(0.2)


class Cluster:
    def __init__(self):
        self.project = f"manifold-test-{os.getpid()}"
        self.port, self.prometheus_port = free_port(), free_port()
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "MANIFOLD_PORT": str(self.port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            # The builder that is everywhere.
            "DOCKER_BUILDKIT": "0",
        }
        self.volumes = set()

    @staticmethod
    def build():
        """Builds every image, and shows it: it may take minutes."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        started = time.monotonic()
        subprocess.run(
            [*compose_command(), "build"], cwd=ROOT, env=environment, check=True, timeout=BUILD_PATIENCE_S,
            stdout=sys.stderr.fileno())
        print(f"images built in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    def compose(self, *args, patience_s=START_PATIENCE_S):
        return run([*compose_command(), *args], patience_s, env=self.environment)

    def up(self, n_workers=2):
        self.compose("up", "-d", "--no-build", "--scale", f"worker={n_workers}")
        self.wait_until_in_service(n_workers)
        ids = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}").split()
        mounts = [mount for it in json.loads(docker("inspect", *ids)) for mount in it["Mounts"]]
        self.volumes |= {it["Name"] for it in mounts if it["Type"] == "volume"}

    def down(self):
        self.compose("--profile", "observe", "down", "--volumes", "--remove-orphans", patience_s=STOP_PATIENCE_S)

    def wait_until_in_service(self, n_workers):
        wait_until(f"{n_workers} instances in service", lambda: len(self.in_service()) == n_workers, START_PATIENCE_S)

    def containers(self, service, *flags):
        labels = [f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}"]
        filters = [it for label in labels for it in ("--filter", label)]
        return docker("ps", "--quiet", "--no-trunc", *filters, *flags).split()

    def inspect(self, service, *flags):
        ids = self.containers(service, *flags)
        return json.loads(docker("inspect", *ids)) if ids else []

    def left(self):
        """Whatever Docker still has of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        found = docker("ps", "--all", "--quiet", "--filter", label).split()
        found += docker("network", "ls", "--quiet", "--filter", label).split()
        # Those without a name of their own have no label, either.
        return found + sorted(self.volumes & set(docker("volume", "ls", "--quiet").split()))

    def get(self, path, port=None, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    def token(self):
        """As an operator gets it."""
        return docker("exec", self.containers("router")[0], "cat", "/run/manifold/token").strip()

    def in_service(self):
        instances = self.get("/manifold/v1/instances", Authorization=f"Bearer {self.token()}")
        return [it for it in json.loads(instances) if it["in_service"]]

    def invoke(self, model, body, endpoint="demo"):
        """Returns status, headers and text, whatever they are."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/endpoints/{endpoint}/invocations", data=body, method="POST",
            headers={TARGET_MODEL: model, "Content-Type": "image/jpeg"})
        try:
            with urllib.request.urlopen(request, timeout=70) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read().decode(errors="replace")

    def query(self, query):
        """Asks Prometheus; returns the samples."""
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": query})
        answer = json.loads(self.get(path, self.prometheus_port))
        if answer["status"] != "success":
            raise AssertionError(f"{query}: {answer}")
        return answer["data"]["result"]
