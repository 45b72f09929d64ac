"""Errors that say which status a client gets."""

from __future__ import annotations


class BaseInferenceToolkitError(Exception):
    """An error with a status, a message and the phrase of the status line."""

    def __init__(self, status_code: int, message: str | None, phrase: str | None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """For scripts: what they want a client to be told."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        message = message or "Invalid Request"
        super().__init__(status_code, message, phrase or message)


class UnsupportedFormatError(BaseInferenceToolkitError):
    """A content type that there is no decoder or encoder for."""

    def __init__(self, content_type: str | None, status_code: int = 415) -> None:
        self.content_type = content_type
        message = f"Content type {content_type} is not supported by this framework."
        super().__init__(status_code, message, "Unsupported Media Type" if status_code == 415 else "Not Acceptable")


def with_status(error: BaseException) -> BaseException | None:
    """Returns the error if it carries a status, be it of this module or of the toolkit itself."""
    names = [it.__name__ for it in type(error).__mro__]
    return error if "BaseInferenceToolkitError" in names and hasattr(error, "status_code") else None
