"""`sagemaker_inference.environment`: where a container's files lie, and what it is told."""

from __future__ import annotations

import os

from . import content_types, parameters

base_dir = os.environ.get(parameters.BASE_PATH_ENV, "/opt/ml")
_IS_MULTI_MODEL = os.environ.get(parameters.MULTI_MODEL_ENV, "false").lower() == "true"
model_dir = os.path.join(base_dir, "models" if _IS_MULTI_MODEL else "model")
code_dir = os.path.join(model_dir, "code")


class Environment:
    """What the environment said when this was made."""

    def __init__(self) -> None:
        program = os.environ.get(parameters.USER_PROGRAM_ENV) or "inference.py"
        self._module_name = program[: -len(".py")] if program.endswith(".py") else program
        workers = os.environ.get(parameters.MODEL_SERVER_WORKERS_ENV)
        self._model_server_workers = int(workers) if workers else None
        self._model_server_timeout = int(os.environ.get(parameters.MODEL_SERVER_TIMEOUT_ENV) or 60)
        self._startup_timeout = int(os.environ.get(parameters.STARTUP_TIMEOUT_ENV) or 600)
        self._default_accept = os.environ.get(parameters.DEFAULT_INVOCATIONS_ACCEPT_ENV) or content_types.JSON
        self._inference_http_port = os.environ.get(parameters.BIND_TO_PORT_ENV) or "8080"
        self._safe_port_range = os.environ.get(parameters.SAFE_PORT_RANGE_ENV)

    @property
    def module_name(self) -> str:
        return self._module_name

    @property
    def model_server_workers(self) -> int | None:
        return self._model_server_workers

    @property
    def model_server_timeout(self) -> int:
        return self._model_server_timeout

    @property
    def startup_timeout(self) -> int:
        return self._startup_timeout

    @property
    def default_accept(self) -> str:
        return self._default_accept

    @property
    def inference_http_port(self) -> str:
        return self._inference_http_port

    @property
    def management_http_port(self) -> str:
        return self._inference_http_port

    @property
    def safe_port_range(self) -> str | None:
        return self._safe_port_range
