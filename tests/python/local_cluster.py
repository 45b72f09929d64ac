"""`manifold up`, as its users start it, on a port and in a folder of its own."""
import re
import subprocess
import tempfile
import time
from pathlib import Path

import archives
from cluster import BINARIES
from one_url import OneUrl, own_environment

START_SECONDS = 60
# What it may take to stop: the router's grace, then the workers'.
STOP_SECONDS = 60


class LocalCluster(OneUrl):
    """A context manager. Its own endpoint `demo` has one instance and one model.

    `environment` is handed down to router and workers: `ROUTER_…` are the router's flags.
    """

    def __init__(self, *flags, **environment):
        self.flags, self.environment = list(flags), environment

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="manifold-local-")
        self.folder = Path(self.temporary.name)
        self.output = self.folder / "output.log"
        models = self.folder / "models"
        models.mkdir()
        (models / "echo.tar.gz").write_bytes(archives.echo())
        command = [BINARIES / "manifold", "up", "--listen", "127.0.0.1:0", "--data", self.folder / "data"]
        command += ["--models", models, "--workers", "1", "--exit-with-parent", *self.flags]
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=own_environment(**self.environment))
        try:
            self.url = self.wait_for_url()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdin.close()
            self.temporary.cleanup()

    def wait_for_url(self):
        """Waits for what it prints once it serves: the line that users copy."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            found = re.search(r"^AWS_ENDPOINT_URL=(\S+)", self.output.read_text(), re.MULTILINE)
            if found:
                return found.group(1)
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"waited up to {START_SECONDS} s for manifold up\n{self.logs()}")
            time.sleep(0.02)

    def logs(self):
        files = [self.output, *sorted((self.folder / "data").glob("logs/*"))]
        return "\n".join(f"{it.name}:\n{it.read_text()[-3000:]}" for it in files if it.is_file())
