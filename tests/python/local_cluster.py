"""`manifold up`, as its users start it, on a port and in a folder of its own."""
import http.client
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

import archives
from cluster import BINARIES

START_SECONDS = 60
# What it may take to stop: the router's grace, then the workers'.
STOP_SECONDS = 60
# Settings of whoever runs the tests, which would lead a client elsewhere.
FOREIGN = re.compile(r"^(AWS_|BOTO_|(all|http|https|no)_proxy$)", re.IGNORECASE)


def own_environment(**settings):
    """The environment of a program that shall know only `settings` of AWS."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    # No file, and no machine of Amazon's, shall have a say either.
    files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {**kept, **files, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1", **settings}


class LocalCluster:
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

    def variables(self, **more):
        """What a client has to know: one URL, a region, any credentials."""
        known = {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}
        return {**known, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "credentials", **more}

    def as_environment(self, **more):
        """What is made within knows this cluster alone."""
        return mock.patch.dict(os.environ, own_environment(**self.variables(**more)), clear=True)

    def client(self, service, variables=None, **config):
        """A stock client that knows nothing but `variables`."""
        with self.as_environment(**(variables or {})):
            return boto3.session.Session().client(service, config=Config(**config) if config else None)

    def instances(self):
        """What the router says of its instances."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=5)
        try:
            connection.request("GET", "/manifold/v1/instances")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
