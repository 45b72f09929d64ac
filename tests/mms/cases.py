"""What is tried: each case is a model folder, the server that it wants, and what is asked of it, in order."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Union

from servers import Settings

# Settings of the servers that cases share; a server is started once for all the cases that want it.
PLAIN = Settings()
DECODES = Settings(decodes_input=True)
SHORT = Settings(timeout_s=3)
DEFAULT_HANDLER = Settings(default_handler="own_service.py:handle")
HERE = Path(__file__).resolve().parent
BYO = Settings(default_handler=f"{HERE / 'handlers' / 'byo_mxnet.py'}:handle", environment="mxnet")
TOOLKIT_HANDLER = "sagemaker_inference.default_handler_service:handle"
# The toolkit's modules are ours, or the real ones.
COMPATIBLE = Settings(default_handler=TOOLKIT_HANDLER, environment="compatible")
TOOLKIT = Settings(default_handler=TOOLKIT_HANDLER, environment="toolkit")
JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"


class Ask(NamedTuple):
    """A request of the model; `{name}` in the path is the model's."""

    title: str
    body: bytes | None = b""
    headers: dict[str, str] = {}
    path: str = "/models/{name}/invoke"
    method: str = "POST"
    # Compares what servers say in every answer, too.
    all_headers: bool = False


class Together(NamedTuple):
    """Requests that are sent at once, so that they make one batch."""

    asks: list[Ask]
    # Which of them comes first is chance, and matters to who answers only that one.
    is_sorted: bool = False


class Process(NamedTuple):
    """Whether the process whose id the handler noted is still there, some time later."""

    title: str


class Unload(NamedTuple):
    title: str = "unload"


Step = Union[Ask, Together, Process, Unload]


class Case(NamedTuple):
    name: str
    what: str
    steps: list[Step]
    # The file in `handlers/`; without it, the case's own name.
    handler: str | None = None
    # As the manifest names it; `{module}` is the handler's module.
    spec: str = "{module}.py:handle"
    # Where the file goes in the model's folder.
    folder: str = ""
    settings: Settings = PLAIN
    files: dict[str, str] = {}
    batch_size: int = 1
    max_batch_delay_ms: int = 100
    workers: int = 1
    has_manifest: bool = True
    # A model that `models.py` makes; it is served by the server's own handler.
    model: str | None = None
    # The same again beside it, in folders whose names end so.
    copies: tuple[str, ...] = ()


def texts(*bodies: str, **headers: str) -> list[Step]:
    """Returns a request for each body, titled by it."""
    return [
        Ask(it or "empty", it.encode(), {key.replace("_", "-"): value for key, value in headers.items()})
        for it in bodies
    ]


def together(*bodies: str, is_sorted: bool = False) -> Together:
    return Together([Ask(it, it.encode(), {"X-Own": f"own {it}"}) for it in bodies], is_sorted)


def batch(name: str, what: str, steps: list[Step], handler: str, delay_ms: int = 3000) -> Case:
    return Case(name, what, steps, handler, batch_size=3, max_batch_delay_ms=delay_ms)


MULTIPART = (
    b'--edge\r\nContent-Disposition: form-data; name="text"\r\n\r\nplain\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="data"; filename="a.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n\x00\xff\r\n--edge--\r\n"
)
WORDS = {"words.txt": "tench goldfish\n"}

RETURNS = [
    Case(
        "echo",
        "gives its input back",
        [
            Ask("text", b"hello", all_headers=True),
            Ask("every byte", bytes(range(256))),
            Ask("empty", b""),
            Ask("one megabyte", b"\x00\xff" * 524_288),
            Ask("GET", None, method="GET"),
            Ask("PUT", b"put", method="PUT"),
            Ask("predictions", b"hello", path="/predictions/{name}"),
            Ask("invocations", b"hello", path="/invocations?model_name={name}"),
        ],
    ),
    Case("returns_bytes", "returns bytes that are no UTF-8", texts("abc", "")),
    Case("returns_str", "returns text beyond ASCII", texts("abc", "")),
    Case(
        "returns_json",
        "returns every type of JSON",
        texts(
            "object",
            "list",
            "empty list",
            "empty object",
            "empty text",
            "integer",
            "large integer",
            "float",
            "true",
            "none",
            "nan",
            "number keys",
            "tuple",
        ),
    ),
    Case(
        "returns_unserializable",
        "returns what JSON cannot say",
        [
            it
            for name in ("object", "set", "bytes within", "tuple keys", "lone surrogate", "endless", "deep")
            for it in texts(name)
        ],
    ),
    Case(
        "returns_no_list",
        "returns something else than a list",
        texts("none", "dict", "text", "bytes", "tuple", "generator", "number"),
    ),
    Case("returns_wrong_length", "returns too few or too many answers", texts("0", "1", "2")),
    Case("huge", "answers at and above the limit", texts("0", "1000000", "2900000", "4000000", "10")),
]
RAISES = [
    Case(
        "raises",
        "raises exceptions",
        texts(
            "value", "key", "beyond ascii", "assertion", "stop iteration", "os", "not implemented", "awkward", "fine"
        ),
    ),
    Case("raises_base", "raises what is no `Exception`", texts("base", "fine", "interrupt", "fine"), "raises"),
    Case("raises_recursion", "recurses without end", texts("x")),
    Case("raises_memory", "runs out of memory", texts("say", "fine", "ask", "fine")),
    Case(
        "raises_prediction",
        "raises `PredictionException`",
        texts(
            "400 bad input",
            "404 not here",
            "422 grüße",
            "500 own",
            "default no code",
            "599 last",
            "503 ",
            "200 fine after all",
        ),
    ),
    Case(
        "exits",
        "ends its process",
        texts("alive", "exit", "alive", "_exit", "alive", "abort", "alive", "kill", "alive"),
    ),
]
ANSWERS = [
    Case(
        "sets_status",
        "sets status and phrase",
        texts(
            "one 200 Fine",
            "one 201 Created",
            "one 400 Bad input",
            "one 404 Nope thing",
            "one 418 Teapot",
            "one 500 Own",
            "one 503 Busy",
            "one 507 Full",
            "one 599 Last",
            "all 422 All of them",
        ),
    ),
    Case(
        "sets_headers",
        "sets headers of its answer",
        texts(
            "plain",
            "twice",
            "empty",
            "caching",
            "location",
            "custom attributes",
            "read back",
            "beyond ascii",
            "line break",
            "number",
            "plain",
            "blank in name",
            "plain",
            "length",
            "plain",
        ),
    ),
    Case(
        "sets_content_type",
        "sets the content type",
        texts("application/json", "text/csv; charset=utf-8", "application/x-npy", "image/png"),
    ),
]
SEES = [
    Case(
        "sees_headers",
        "looks headers up",
        [
            Ask("as written", b"x", {"X-Own": "a", "Content-Type": "text/csv", "Accept": "application/json"}),
            Ask("lower case", b"x", {"x-own": "a", "content-type": "text/csv; charset=utf-8", "accept": "*/*"}),
            Ask("attributes", b"x", {"X-Amzn-SageMaker-Custom-Attributes": "trace=1"}),
            Ask("credentials", b"x", {"Authorization": "Bearer token", "X-Own": "a"}),
        ],
    ),
    Case(
        "sees_inputs",
        "is given parameters and bodies",
        [
            Ask("body", b"\x00\xff", {"Content-Type": "application/octet-stream"}),
            Ask("no body", None, method="GET"),
            Ask("JSON", b'{"a": 1}', {"Content-Type": JSON_TYPE}),
            Ask("text", "grüße".encode(), {"Content-Type": "text/plain"}),
            Ask("query", b"x", path="/models/{name}/invoke?a=1&b=two%20words&c="),
            Ask("query twice", b"x", path="/models/{name}/invoke?a=1&a=2"),
            Ask("query of body", b"x", path="/models/{name}/invoke?body=other"),
            Ask("query of predictions", b"x", path="/predictions/{name}?a=1"),
            Ask("form", b"a=1&b=two+words&data=%00%ff", {"Content-Type": FORM_TYPE}),
            Ask("multipart", MULTIPART, {"Content-Type": "multipart/form-data; boundary=edge"}),
        ],
    ),
    Case(
        "sees_inputs_decoded",
        "is given what the server decoded",
        [
            Ask("JSON", b'{"a": [1, 2.5, null]}', {"Content-Type": JSON_TYPE}),
            Ask("JSON with charset", b'{"a": 1}', {"Content-Type": f"{JSON_TYPE}; charset=utf-8"}),
            Ask("JSON beyond ASCII", '{"a": "ü"}'.encode(), {"Content-Type": JSON_TYPE}),
            Ask("text", "grüße".encode(), {"Content-Type": "text/plain"}),
            Ask("csv", b"1,2\n", {"Content-Type": "text/csv"}),
            Ask("other", b"1,2\n", {"Content-Type": "application/x-npy"}),
            Ask("no type", b"x"),
            Ask("broken JSON", b"{", {"Content-Type": JSON_TYPE}),
            Ask("after broken JSON", b"[]", {"Content-Type": JSON_TYPE}),
            Ask("empty JSON", b"", {"Content-Type": JSON_TYPE}),
            Ask("text that is no UTF-8", b"\xff\xfe", {"Content-Type": "text/plain"}),
            Ask("after broken text", b"x", {"Content-Type": "text/plain"}),
        ],
        "sees_inputs",
        settings=DECODES,
    ),
    Case("sees_context", "looks at its context", texts("x")),
    Case(
        "sees_environment", "looks at its process", texts("x"), files={**WORDS, "neighbor.py": "VALUE = 'beside it'\n"}
    ),
]
LIVES = [
    Case("counts", "keeps state between requests", texts("a", "b", "c")),
    Case("leaks", "keeps 20 MB of every request", [*texts("a", "b", "c", "d"), Unload(), Process("after the unload")]),
    Case(
        "hangs",
        "takes longer than it may",
        [*texts("0.2", "600"), Process("after its time"), *texts("0.1")],
        settings=SHORT,
    ),
    Case("prints", "prints odd lines, logs, starts a child", texts("a", "b")),
    Case("logs_metrics_by_hand", "prints lines like a server's", texts("a", "b")),
    Case("measures", "writes metrics of every kind", texts("a")),
    Case("threads", "leaves a thread and a child running", [*texts("a"), Unload(), Process("after the unload")]),
]
BATCHES = [
    batch("batches", "answers each request of a batch by itself", [together("a", "b", "c")], "batches"),
    batch("batch_partial", "answers a batch that is not full", [together("a", "b")], "batches", 1000),
    batch("batch_of_one", "answers a request that waited for others in vain", texts("a", X_Own="own"), "batches", 200),
    batch(
        "batch_raises",
        "raises in a batch",
        [together("x", "raise", "y", is_sorted=True), *texts("z")],
        "batch_fails",
        1000,
    ),
    batch(
        "batch_prediction",
        "raises `PredictionException` in a batch",
        [together("x", "own", "y", is_sorted=True)],
        "batch_fails",
    ),
    batch(
        "batch_memory", "runs out of memory in a batch", [together("x", "memory", "y", is_sorted=True)], "batch_fails"
    ),
    batch("batch_few", "returns too few answers", [together("x", "few", "y", is_sorted=True)], "batch_fails"),
    batch(
        "batch_unserializable",
        "one answer cannot be said",
        [together("x", "unserializable", "y", is_sorted=True)],
        "batch_fails",
    ),
    batch("batch_huge", "one answer is too long", [together("x", "huge", "y")], "batch_fails"),
    batch("batch_dies", "dies in a batch", [together("x", "die", "y"), *texts("z")], "batch_fails", 1000),
]
ENTRIES = [
    Case("class_plain", "is a class", texts("abc")),
    Case("class_no_initialize", "is a class without `initialize`", texts("abc")),
    Case("class_initialize_raises", "is a class that cannot initialize", texts("abc")),
    Case("class_constructor_raises", "is a class that cannot be made", texts("abc")),
    Case("class_two", "has two classes", texts("abc")),
    Case("class_imported", "has a class, and imports another", texts("abc")),
    Case("service_object", "AWS' pattern of bring-your-own containers", texts("abc", "ü"), files=WORDS),
    Case("other_function", "is a function of another name", texts("abc"), spec="{module}.py:predict"),
    Case("no_function", "names a function that is not there", texts("abc"), "echo", spec="{module}.py:absent"),
    Case("no_suffix", "is named without `.py`", texts("abc"), "echo", spec="{module}:handle"),
    Case("no_function_named", "is named without a function", texts("abc"), "echo", spec="{module}.py"),
    Case(
        "in_a_folder", "lies in a folder", texts("abc"), "echo", spec="deep/code/{module}.py:handle", folder="deep/code"
    ),
    Case("no_module", "names a module that is not there", texts("abc"), "echo", spec="absent.py:handle"),
    Case(
        "default_handler",
        "is the server's default, without a manifest",
        texts("abc"),
        "sees_context",
        settings=DEFAULT_HANDLER,
        has_manifest=False,
    ),
]
LOADS = [
    Case("load_raises", "raises while it loads", texts("abc")),
    Case("load_memory", "has no memory to load", texts("abc")),
    Case("load_exits", "ends its process while it loads", texts("abc")),
    Case("load_sys_exits", "leaves Python while it loads", texts("abc")),
    Case("load_import_error", "imports what is not there", texts("abc")),
    Case(
        "load_syntax_error",
        "is no Python",
        texts("abc"),
        "echo",
        spec="broken.py:handle",
        files={"broken.py": "def handle(data, context)\n"},
    ),
    # What is asked afterwards is refused there or waits for ever, as it happens.
    Case("load_hangs", "loads longer than it may", [], settings=SHORT),
]
API = [
    Case(
        "api_errors",
        "requests that no model answers",
        [
            Ask("unknown model", b"x", path="/models/absent/invoke"),
            Ask("unknown model of predictions", b"x", path="/predictions/absent"),
            Ask("describe an unknown model", None, path="/models/absent", method="GET"),
            Ask("unload an unknown model", None, path="/models/absent", method="DELETE"),
            Ask("unknown route", None, path="/absent/absent/absent", method="GET"),
            Ask("unknown verb", b"x", path="/models/{name}/absent"),
            Ask("wrong method", b"x", path="/models/{name}", method="POST"),
            Ask("wrong method of models", None, path="/models", method="DELETE"),
            Ask("load without url", b'{"model_name": "other"}', {"Content-Type": JSON_TYPE}, "/models"),
            Ask("load twice", b'{"model_name": "{name}", "url": "{url}"}', {"Content-Type": JSON_TYPE}, "/models"),
            Ask(
                "load what is not there",
                b'{"model_name": "other", "url": "{url}-absent"}',
                {"Content-Type": JSON_TYPE},
                "/models",
            ),
            Ask("load no JSON", b"{", {"Content-Type": JSON_TYPE}, "/models"),
            Ask("request above the limit", b"x" * 2_100_000),
        ],
        "echo",
    ),
    Case(
        "api_models",
        "what a platform asks",
        [
            Ask("ping", None, path="/ping", method="GET", all_headers=True),
            Ask("list", None, path="/models", method="GET", all_headers=True),
            Ask("describe", None, path="/models/{name}", method="GET"),
            Ask("scale", None, path="/models/{name}?min_worker=1&synchronous=true", method="PUT"),
            Unload(),
            Ask("list after the unload", None, path="/models", method="GET"),
            Ask("invoke after the unload", b"x"),
            Unload("unload twice"),
        ],
        "echo",
    ),
    Case(
        "api_loads",
        "every way to load and to scale",
        [
            Ask("by query", b"", path="/models?url={url}-second&model_name=second&initial_workers=1&synchronous=true"),
            Ask("invoke it", b"x", path="/models/second/invoke"),
            Ask("legacy path", b"x", path="/second/predict"),
            Ask("list", None, path="/models", method="GET"),
            Ask("first page", None, path="/models?limit=1", method="GET"),
            Ask("page of nothing", None, path="/models?limit=0", method="GET"),
            Ask("page too large", None, path="/models?limit=1000", method="GET"),
            Ask("no number", None, path="/models?limit=many", method="GET"),
            Ask("without processes", b"", path="/models?url={url}-third&model_name=third&initial_workers=0"),
            Ask("describe it without processes", None, path="/models/third", method="GET"),
            Ask("invoke it without processes", b"x", path="/models/third/invoke"),
            Ask("give it one", None, path="/models/third?min_worker=1&synchronous=true", method="PUT"),
            Ask("invoke it with one", b"x", path="/models/third/invoke"),
            Ask("two processes", None, path="/models/third?min_worker=2&synchronous=true", method="PUT"),
            Ask("fewer than the least", None, path="/models/third?min_worker=2&max_worker=1", method="PUT"),
            Ask("scale an unknown model", None, path="/models/absent?min_worker=1", method="PUT"),
            Ask(
                "not waiting",
                b"",
                path="/models?url={url}-fourth&model_name=fourth&initial_workers=1&synchronous=false",
            ),
            Ask("unload the second", None, path="/models/second", method="DELETE"),
            Ask("unload the third", None, path="/models/third", method="DELETE"),
            Ask("the same under another name", b"", path="/models?url={url}&model_name=alias&initial_workers=1"),
            Ask("unload the alias", None, path="/models/alias", method="DELETE"),
        ],
        "echo",
        copies=("second", "third", "fourth"),
    ),
]
CAT = (HERE.parent.parent / "driver" / "assets" / "cat.jpg").read_bytes()
PICTURES = [
    Ask("cat", CAT, {"Content-Type": "image/jpeg"}),
    Ask("no type", CAT),
    Ask("no picture", b"no picture", {"Content-Type": "image/jpeg"}),
    Ask("nothing", b""),
    Ask("cat again", CAT, {"Content-Type": "application/x-image"}),
]
ROWS = b"0.1,0.2,0.3,0.4\n-1,1,0,0.5\n"
NESTED = b"[[0.1, 0.2, 0.3, 0.4], [-1, 1, 0, 0.5]]"
TABLES = [
    Ask("csv", ROWS, {"Content-Type": "text/csv"}),
    Ask("JSON", NESTED, {"Content-Type": JSON_TYPE}),
    Ask("csv to csv", ROWS, {"Content-Type": "text/csv", "Accept": "text/csv"}),
    Ask("JSON to JSON", NESTED, {"Content-Type": JSON_TYPE, "Accept": JSON_TYPE}),
    Ask("one row", b"0.1,0.2,0.3,0.4", {"Content-Type": "text/csv"}),
    Ask("too few columns", b"[[1, 2]]", {"Content-Type": JSON_TYPE}),
    Ask("no JSON", b"{", {"Content-Type": JSON_TYPE}),
    Ask("unknown type", b"x", {"Content-Type": "application/x-unknown"}),
]
LIBRARIES = [
    Case(
        "byo_resnet",
        "MXNet's checkpoint of a ResNet-18, by a bring-your-own handler",
        PICTURES,
        settings=BYO,
        model="resnet-18",
        has_manifest=False,
    ),
    Case(
        "byo_squeezenet",
        "the same with SqueezeNet",
        PICTURES,
        settings=BYO,
        model="squeezenet_v1.0",
        has_manifest=False,
    ),
    *(
        Case(
            f"{kind}_{library}",
            f"a toolkit's script for {title}{which}",
            TABLES,
            settings=settings,
            model=library,
            has_manifest=False,
            files={"inference.py": (HERE / "toolkit" / f"{library}_inference.py").read_text()},
        )
        for kind, settings, which in (("toolkit", TOOLKIT, ""), ("compatible", COMPATIBLE, ", here with our modules"))
        for library, title in (("sklearn", "scikit-learn"), ("xgboost", "XGBoost"))
    ),
]
CASES = [*RETURNS, *RAISES, *ANSWERS, *SEES, *LIVES, *BATCHES, *ENTRIES, *LOADS, *API, *LIBRARIES]
