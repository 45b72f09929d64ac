"""Raises the server's own exception, with the code and the text that its request names."""

from mms.service import PredictionException


def handle(data, context):
    if data is None:
        return None
    code, _, text = bytes(data[0]["body"]).decode().partition(" ")
    if code == "default":
        raise PredictionException(text)
    raise PredictionException(text, int(code))
