"""What a handler raises to say which status a client gets."""

from __future__ import annotations


class PredictionException(Exception):
    """An error that the client is told of, with a status."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"
