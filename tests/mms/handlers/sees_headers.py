"""Says which headers of the request it finds, by which names."""

NAMES = [
    "X-Own",
    "x-own",
    "X-OWN",
    "X-Amzn-SageMaker-Custom-Attributes",
    "Content-Type",
    "Accept",
    "Authorization",
    "X-Absent",
]


def handle(data, context):
    if data is None:
        return None
    found = {name: context.get_request_header(0, name) for name in NAMES}
    everything = context.get_all_request_header(0)
    own = sorted((key, value) for key, value in everything.items() if key.lower().startswith("x-"))
    return [{"found": found, "own": own, "inputs": {key: everything.get(key) for key in data[0]}}]
