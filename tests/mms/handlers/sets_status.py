"""Answers with the status and the phrase that its request names."""


def handle(data, context):
    if data is None:
        return None
    how, code, phrase = bytes(data[0]["body"]).decode().split(" ", 2)
    if how == "all":
        context.set_all_response_status(code=int(code), phrase=phrase)
    else:
        context.set_response_status(code=int(code), phrase=phrase, idx=0)
    return ["said: " + phrase]
