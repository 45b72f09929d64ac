"""One router and one worker as real processes on free ports, models from a folder."""
import http.client
import json
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BINARIES = ROOT / "target" / "release"
MODELS = ROOT / ".manifold" / "models"
START_SECONDS = 60


class Cluster:
    """Endpoint `name` serves every archive below the folder `models`, or below `url`. A context manager."""

    def __init__(self, name="demo", models=MODELS, url=None, worker=(), router=()):
        self.name, self.models = name, Path(models).resolve()
        self.model_data_url = url or f"file://{self.models}/"
        self.flags = {"manifold-worker": list(worker), "manifold-router": list(router)}
        self.processes = []

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="manifold-cluster-")
        self.folder = Path(self.temporary.name)
        try:
            self.start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=60)
            process.stdin.close()
        self.temporary.cleanup()

    @property
    def url(self):
        return f"http://{self.router}"

    def start_all(self):
        endpoints = self.folder / "endpoints.toml"
        endpoints.write_text(
            f'[[endpoint]]\nname = "{self.name}"\n[[endpoint.variant]]\nname = "AllTraffic"\n'
            f'model_data_url = "{self.model_data_url}"\n')
        self.router = self.start(
            "manifold-router", "--listen", "127.0.0.1:0", "--endpoints", endpoints,
            "--records", self.folder / "records.redb")
        self.worker = self.start(
            "manifold-worker", "--bind", "127.0.0.1:0", "--router", self.url,
            "--file-root", self.models, "--cache-dir", self.folder / "cache")
        self.wait("an instance in service", lambda: self.get("/manifold/v1/instances"))

    def start(self, binary, *arguments):
        """Starts a process and returns the address that it bound."""
        file = self.folder / f"{binary}.address"
        command = [BINARIES / binary, *arguments, *self.flags.get(binary, ()), "--exit-with-parent", "--address-file", file]
        with open(self.folder / f"{binary}.log", "w") as log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log))
        self.wait(f"{binary} to listen", file.exists)
        return file.read_text().strip()

    def wait(self, what, condition):
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            dead = [it for it in self.processes if it.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(f"{it}:\n{it.read_text()[-2000:]}" for it in self.folder.glob("*.log"))
                raise RuntimeError(f"waited up to {START_SECONDS} s for {what}\n{logs}")
            time.sleep(0.02)

    def get(self, path):
        connection = http.client.HTTPConnection(self.router, timeout=5)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
