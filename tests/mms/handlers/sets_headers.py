"""Sets the headers of its answer, the plain and the odd."""


def handle(data, context):
    if data is None:
        return None
    what = bytes(data[0]["body"])
    if what == b"plain":
        context.set_response_header(0, "X-Own", "a value")
        context.set_response_header(0, "x-second", "another; with=parts, and more")
    elif what == b"twice":
        context.set_response_header(0, "X-Own", "first")
        context.set_response_header(0, "X-Own", "second")
    elif what == b"empty":
        context.set_response_header(0, "X-Own", "")
    elif what == b"caching":
        context.set_response_header(0, "Cache-Control", "max-age=60")
    elif what == b"beyond ascii":
        context.set_response_header(0, "X-Own", "gr\u00fc\u00dfe")
    elif what == b"line break":
        context.set_response_header(0, "X-Own", "a\r\nX-Smuggled: b")
    elif what == b"number":
        context.set_response_header(0, "X-Own", 7)
    elif what == b"blank in name":
        context.set_response_header(0, "X Own", "a")
    elif what == b"length":
        context.set_response_header(0, "Content-Length", "3")
    elif what == b"location":
        context.set_response_status(302, "Found", 0)
        context.set_response_header(0, "Location", "/elsewhere")
    elif what == b"custom attributes":
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "trace=1")
    elif what == b"read back":
        context.set_response_header(0, "X-Own", "seen")
        return [sorted(context.get_response_headers(0).items())]
    return ["answer"]
