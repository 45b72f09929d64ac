"""Answers a batch, each request with its own status, header and type."""


def handle(data, context):
    if data is None:
        return None
    answers = []
    for idx, row in enumerate(data):
        name = bytes(row["body"]).decode()
        own = context.get_request_header(idx, "X-Own")
        context.set_response_header(idx, "X-Answer", f"{name} {own}")
        context.set_response_content_type(idx, "application/json" if name != "b" else "text/plain")
        if name == "c":
            context.set_response_status(404, "Not here", idx)
        answers.append({"n": len(data), "name": name, "batch_size": context.system_properties["batch_size"]})
    return answers
