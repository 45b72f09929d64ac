"""Sets the content type of its answer to what its request names."""


def handle(data, context):
    if data is None:
        return None
    context.set_response_content_type(0, bytes(data[0]["body"]).decode())
    return [context.get_response_content_type(0)]
