"""The two servers that are compared, each on a free port of loopback, ended with all that they began."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Iterator, NamedTuple

# A cold JVM on a busy machine.
START_PATIENCE_S = 90.0
# Longer than any wait that a server is told to make.
ANSWER_PATIENCE_S = 90.0
# Multi Model Server compares its port with a signed short, and systems give clients ports from 32768 on.
LOW_PORTS = range(20_000, 32_000, 7)


class Settings(NamedTuple):
    """What a server is told at its start; models cannot say it themselves in both."""

    decodes_input: bool = False
    timeout_s: int = 60
    max_request_bytes: int = 2_000_000
    max_answer_bytes: int = 3_000_000
    default_handler: str | None = None
    # Whose libraries: see `run.py`.
    environment: str = "mms"


class Answer(NamedTuple):
    """What came over HTTP; a status of 0 is a connection that ended without an answer."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Server:
    """A running server: where it listens, and what it has begun."""

    def __init__(self, name: str, address: str, process: subprocess.Popen, log: Path) -> None:
        self.name = name
        self.address = address
        self.log = log
        self._process = process

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=ANSWER_PATIENCE_S)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.reason, response.getheaders(), response.read())
        except (http.client.HTTPException, ConnectionError, socket.timeout) as error:
            return Answer(0, type(error).__name__, [], b"")
        finally:
            connection.close()

    def ask_json(self, method: str, path: str, parameters: dict[str, object]) -> Answer:
        return self.ask(method, path, {"Content-Type": "application/json"}, json.dumps(parameters).encode())

    def signal(self, number: int) -> None:
        """Sends a signal to the server and whatever it has started."""
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """Ends the server and whatever it has started: all of it is in a session of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Environment(NamedTuple):
    """Whose programs and modules are run."""

    their_python: Path
    mms: Path
    # What our worker starts handlers with.
    python: Path
    worker: Path
    # In place of what the worker carries.
    python_half: Path | None = None
    # Where models lie that have been made for this run, by their names.
    models: Path | None = None


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.stop()


def start_mms(environment: Environment, folder: Path, settings: Settings, port: int | None = None) -> Server:
    """Starts Multi Model Server as SageMaker's toolkit does, with one port for everything."""
    folder.mkdir(parents=True)
    port = port or free_low_port()
    address = f"127.0.0.1:{port}"
    lines = {
        "inference_address": f"http://{address}",
        "management_address": f"http://{address}",
        "model_store": "/",
        "decode_input_request": str(settings.decodes_input).lower(),
        "default_response_timeout_seconds": settings.timeout_s,
        "default_workers_per_model": 1,
        "max_request_size": settings.max_request_bytes,
        "max_response_size": settings.max_answer_bytes,
        # What does not end in this time is waited for in vain.
        "unregister_model_timeout": 5,
    }
    if settings.default_handler:
        lines["default_service_handler"] = settings.default_handler
    config = folder / "config.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    command = [environment.mms, "--start", "--foreground", "--mms-config", config]
    # Its sockets, pid files and logs belong to it alone.
    own = {"TMPDIR": str(folder), "TEMP": str(folder), "LOG_LOCATION": str(folder), "METRICS_LOCATION": str(folder)}
    process, log = spawn(command, folder, own)
    server = Server("mms", address, process, log)
    wait(server, process, lambda: server.ask("GET", "/ping").status == 200)
    return server


def start_torchserve(environment: Path, folder: Path, port: int) -> Server:
    """Starts TorchServe as SageMaker's PyTorch image does for many models, with one port for everything."""
    folder.mkdir(parents=True)
    address = f"127.0.0.1:{port}"
    lines = {
        "inference_address": f"http://{address}",
        "management_address": f"http://{address}",
        # Between those that anybody is given.
        "metrics_address": f"http://127.0.0.1:{port + 3}",
        "grpc_inference_port": port + 4,
        "grpc_management_port": port + 5,
        "model_store": "/",
        "enable_envvars_config": "true",
        "enable_model_api": "true",
        "disable_token_authorization": "true",
        "default_workers_per_model": 1,
        "default_response_timeout": 60,
        "unregister_model_timeout": 5,
    }
    config = folder / "config.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    command = [environment / "bin" / "torchserve", "--start", "--foreground", "--ts-config", config]
    command += ["--model-store", "/", "--disable-token-auth"]
    own = {name: str(folder) for name in ("TMPDIR", "TEMP", "LOG_LOCATION", "METRICS_LOCATION")}
    own |= {"SAGEMAKER_MULTI_MODE": "true", "PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}
    process, log = spawn(command, folder, own)
    server = Server("torchserve", address, process, log)
    wait(server, process, lambda: server.ask("GET", "/ping").status == 200)
    return server


def start_worker(environment: Environment, folder: Path, settings: Settings) -> Server:
    """Starts Manifold's worker with the same settings; it may serve whatever lies beside its folder."""
    folder.mkdir(parents=True)
    address_file = folder / "address"
    command = [
        environment.worker,
        "--bind",
        "127.0.0.1:0",
        "--address-file",
        address_file,
        "--python",
        environment.python,
    ]
    command += ["--file-root", folder.parent, "--cache-dir", folder / "cache", "--revalidate-s", "0"]
    command += ["--handler-timeout-s", str(settings.timeout_s), "--load-timeout-s", str(settings.timeout_s)]
    command += ["--max-body-bytes", str(settings.max_request_bytes)]
    command += ["--handler-max-answer-bytes", str(settings.max_answer_bytes)]
    command += ["--handler-decodes-input"] if settings.decodes_input else []
    command += ["--handler", settings.default_handler] if settings.default_handler else []
    process, log = spawn(command, folder, {})
    server = Server("manifold", "", process, log)
    wait(server, process, lambda: address_file.exists() and address_file.read_text())
    server.address = address_file.read_text().strip()
    if environment.python_half:
        # Read by each process that starts from now on.
        shutil.copytree(environment.python_half, folder / "cache" / "python", dirs_exist_ok=True)
    return server


def spawn(command: list, folder: Path, own: dict[str, str]) -> tuple[subprocess.Popen, Path]:
    # Modules of whoever runs this are not the servers'.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SAGEMAKER", "WORKER_"))}
    log = folder / "log"
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            [str(it) for it in command],
            cwd=folder,
            env={**kept, **own},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, log


def wait(server: Server, process: subprocess.Popen, is_ready) -> None:
    deadline = time.monotonic() + START_PATIENCE_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            raise RuntimeError(f"{server.name} did not start:\n{server.log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def free_low_port() -> int:
    for port in LOW_PORTS:
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port below 32768 is free")
