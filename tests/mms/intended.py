"""Where Manifold is to answer otherwise than Multi Model Server, and why: the only list of it, read by the runner.

A rule names case, step and field, and what both answer; `*` stands for anything. A field `answer` is a whole
answer with another status. A rule that no answer matches any more fails the run: it is to be taken away.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

DIED = "Worker died."
NOT_STARTED = "Failed to start workers"


class Rule(NamedTuple):
    case: str
    step: str
    field: str
    theirs: str = "*"
    ours: str = "*"

    def matches(self, case: str, step: str, field: str, values: tuple[Any, Any]) -> bool:
        found = (case, step, field, *map(str, values))
        return all(fnmatchcase(value, _literal(pattern)) for value, pattern in zip(found, self))


def _literal(pattern: str) -> str:
    """Only `*` is special: texts of servers have brackets."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


class Intended(NamedTuple):
    """A difference and its reason. `there` and `here` say what the two do."""

    key: str
    there: str
    here: str
    why: str
    rules: tuple[Rule, ...]
    # Most answers have it; tables do not name it with each.
    is_everywhere: bool = False


INTENDED = (
    Intended(
        "phrase",
        "the status line has the handler's phrase, or none",
        "it has HTTP's own",
        "the HTTP server knows no other, and clients must not read it (RFC 9112, 4)",
        (Rule("*", "*", "reason"),),
        is_everywhere=True,
    ),
    Intended(
        "server's headers",
        "every answer has `x-request-id` and forbids caches to keep it",
        "every answer of a model has `x-manifold-cache`",
        "no cache keeps an answer to POST unless told to; callers name invocations (`x-manifold-invocation-id`)",
        (
            *(
                Rule(case, "*", f"header {it}", "*", "None")
                for case in ("echo", "api_models")
                for it in ("x-request-id", "pragma", "cache-control", "expires", "connection")
            ),
            Rule("echo", "text", "header x-manifold-cache", "None", "hit"),
        ),
    ),
    Intended(
        "cause of death",
        "a process that ends, however it does, is `Worker died.`",
        "the answer says how it ended",
        "the status is the same, and whoever has to mend it wants to know",
        (
            Rule("raises_base", "base", "body.message", DIED, "the handler process exited with code 1"),
            Rule("raises_base", "interrupt", "body.message", DIED, "the handler process was killed by signal 2"),
            Rule("exits", "exit", "body.message", DIED, "the handler process exited with code 3"),
            Rule("exits", "_exit", "body.message", DIED, "the handler process exited with code 7"),
            Rule("exits", "abort", "body.message", DIED, "the handler process was killed by signal 6"),
            Rule("exits", "kill", "body.message", DIED, "the handler process was killed by signal 9"),
            Rule("batch_dies", "*", "body.message", DIED, "the handler process exited with code 1"),
            Rule("hangs", "600", "body.message", DIED, "the handler process did not answer within 3s and was killed"),
        ),
    ),
    Intended(
        "killed when late",
        "a process that takes too long goes on beside its successor",
        "it is killed",
        "else every timeout leaves a process, with all its memory, behind",
        (Rule("hangs", "after its time", "process", "running", "gone"),),
    ),
    Intended(
        "children end",
        "what a handler has started outlives its model",
        "it ends with the model",
        "memory that is said to be free has to be",
        (Rule("threads", "after the unload", "process", "running", "gone"),),
    ),
    Intended(
        "answer too long",
        "an answer above the limit ends the process, and with it the whole batch",
        "its request alone is told, with 500",
        "one request must not take others with it",
        (
            Rule("huge", "4000000", "body.message", DIED, "The model's answer is larger than the 3000000 bytes that the server takes."),
            Rule("batch_huge", "huge", "body.message", DIED, "The model's answer is larger than the 3000000 bytes that the server takes."),
            Rule("batch_huge", "x", "answer", f"500 {DIED}", "200 fine"),
            Rule("batch_huge", "y", "answer", f"500 {DIED}", "200 fine"),
        ),
    ),
    Intended(
        "what JSON cannot say",
        "lone surrogates, endless and very deep values end the process",
        "they are 503 `Unsupported model output data type.`, as any other such value",
        "the process need not end",
        tuple(
            Rule("returns_unserializable", it, "answer", f"500 {DIED}", "503 Unsupported model output data type.")
            for it in ("lone surrogate", "endless", "deep")
        ),
    ),
    Intended(
        "a batch fails alike",
        "a handler that fails in a batch of several ends its process: one request hears why",
        "every request hears why, and the process goes on",
        "which one heard it was chance, and the others are retried in vain",
        (
            Rule("batch_raises", "one of the batch*", "answer", f"500 {DIED}", "503 Prediction failed"),
            Rule("batch_prediction", "one of the batch*", "answer", f"500 {DIED}", "422 none of them"),
            Rule("batch_memory", "one of the batch*", "answer", f"500 {DIED}", "507 *Out of resources"),
            Rule("batch_few", "one of the batch*", "answer", f"500 {DIED}", "503 number of batch response mismatched"),
            Rule(
                "batch_unserializable",
                "one of the batch*",
                "answer",
                f"500 {DIED}",
                "503 Unsupported model output data type.",
            ),
        ),
    ),
    Intended(
        "exceptions are errors",
        "`PredictionException` with 200 is an answer, `error`",
        "it is 500 with its text",
        "nobody is to take an exception for a prediction",
        (Rule("raises_prediction", "200 fine after all", "answer", "200 error", "500 fine after all"),),
    ),
    Intended(
        "names of headers",
        "headers are found as the client wrote them",
        "however they are written",
        "HTTP compares them so; a proxy or HTTP/2 on the way writes them in lower case",
        tuple(Rule("sees_headers", it, "body") for it in ("as written", "lower case", "attributes")),
    ),
    Intended(
        "credentials",
        "a handler sees `Authorization`",
        "it does not",
        "it is for Manifold, and may be the cluster's token",
        (Rule("sees_headers", "credentials", "body"),),
    ),
    Intended(
        "odd headers of answers",
        "a line break in a value begins another header; a number ends the process; a blank in a name "
        "ends the connection; other scripts are Latin-1 or lost",
        "headers that HTTP does not have are left out, numbers are text, other scripts are UTF-8",
        "a handler that repeats its input in a header must not let clients write headers",
        (
            Rule("sets_headers", "beyond ascii", "header x-own"),
            Rule("sets_headers", "line break", "header x-own", "a", "None"),
            Rule("sets_headers", "line break", "header x-smuggled", "b", "None"),
            Rule("sets_headers", "number", "answer", f"500 {DIED}", "200 answer"),
            Rule("sets_headers", "blank in name", "answer", "no answer", "200 answer"),
        ),
    ),
    Intended(
        "broken input",
        "JSON or text that cannot be decoded ends the process (500)",
        "400, for that request alone",
        "it is the client's mistake, and no other request's",
        tuple(
            Rule("sees_inputs_decoded", step, "answer", f"500 {DIED}", f"400 *The body is not {it}: *")
            for step, it in (
                ("broken JSON", "application/json"),
                ("empty JSON", "application/json"),
                ("text that is no UTF-8", "text/plain"),
            )
        ),
    ),
    Intended(
        "cause of a failed load",
        f"`{NOT_STARTED}`",
        "the answer says what failed",
        "the status is the same; the cause is not in the log alone",
        (
            Rule("class_constructor_raises", "load", "body.message", NOT_STARTED, "*ValueError: not today"),
            Rule("class_two", "load", "body.message", NOT_STARTED, "*nor exactly one class; its classes: One, Two"),
            Rule(
                "no_function",
                "load",
                "body.message",
                NOT_STARTED,
                "*neither a function 'absent' nor exactly one class*",
            ),
            Rule("no_module", "load", "body.message", NOT_STARTED, "*there is no handler module 'absent'*"),
            Rule("load_raises", "load", "body.message", NOT_STARTED, "*ValueError: the weights are torn"),
            Rule("load_memory", "load", "body.message", NOT_STARTED, "*MemoryError*"),
            Rule("load_exits", "load", "body.message", NOT_STARTED, "*exited with code 9"),
            Rule("load_sys_exits", "load", "body.message", NOT_STARTED, "*SystemExit: enough"),
            Rule(
                "load_import_error", "load", "body.message", NOT_STARTED, "*No module named 'a_module_that_nobody_has'"
            ),
            Rule("load_syntax_error", "load", "body.message", NOT_STARTED, "*SyntaxError: *broken.py, line 1*"),
        ),
    ),
    Intended(
        "class without `initialize`",
        "does not load",
        "loads",
        "it has nothing to initialize",
        (
            Rule("class_no_initialize", "load", "answer", f"500 {NOT_STARTED}", "200 *"),
            Rule("class_no_initialize", "abc", "answer", "404 *", "200 answers"),
        ),
    ),
    Intended(
        "`initialize` that raises",
        "is said to have loaded",
        "the load fails with what it raised",
        "a model without weights answers nonsense",
        (
            Rule("class_initialize_raises", "load", "answer", "200 *", "500 *ValueError: no weights"),
            Rule("class_initialize_raises", "abc", "answer", "200 answers without weights", "404 *"),
        ),
    ),
    Intended(
        "no ruins of loads",
        "a load without memory leaves a registration without a process",
        "nothing is registered",
        "the platform unloads others and tries again, and must not get 409",
        (Rule("load_memory", "abc", "answer", "503 No worker is available*", "404 *"),),
    ),
    Intended(
        "loads that take too long",
        "500, and a registration without a process",
        "503: the load goes on, until the platform asks again",
        "a second try would begin from nothing",
        (
            Rule(
                "load_hangs", "load", "answer", f"500 {NOT_STARTED}", "503 the model is still loading; the load goes on"
            ),
        ),
    ),
    Intended(
        "pages of nothing",
        "a list of at most 0 is empty, and names itself as the next",
        "it is as if no limit was given",
        "who follows the pages would never end",
        (Rule("api_loads", "page of nothing", "body.*"),),
    ),
    Intended(
        "no process at all",
        "`Consider increasing job queue size`",
        "the answer says that the model has no process, and how it gets one",
        "a longer queue would not help",
        (
            Rule(
                "api_loads",
                "invoke it without processes",
                "body.message",
                "No worker is available to serve request for model: third. *",
                "No worker is available to serve request for model: third. *",
            ),
        ),
    ),
    Intended(
        "what is not there",
        "a model that is not there is `Model not found in model store`",
        "it is named by its address",
        "there is no model store: models come from S3, too",
        (
            Rule(
                "api_errors",
                "load what is not there",
                "body.message",
                "Model not found in model store: *",
                "artifact *",
            ),
        ),
    ),
    Intended(
        "no JSON",
        "a load request that is no JSON is 500 with a Java exception",
        "400",
        "it is the client's mistake",
        (Rule("api_errors", "load no JSON", "answer", "500 java.io.EOFException*", "400 *"),),
    ),
    Intended(
        "content types of scripts",
        "the toolkit answers a type that it cannot read with 500",
        "415",
        "the status says whose mistake it is",
        (
            Rule(
                "compatible_sklearn",
                "unknown type",
                "answer",
                "500 Content type application/x-unknown*",
                "415 Content type application/x-unknown*",
            ),
        ),
    ),
    Intended(
        "requests too long",
        "413 without a body",
        "413 with an error that names the limit",
        "nobody knows it otherwise",
        tuple(Rule("api_errors", "request above the limit", it) for it in ("content-type", "body", "body.*")),
    ),
    Intended(
        "descriptions of what has no process",
        "they tell version, runtime and batching, too",
        "they do not",
        "an archive is read when it is loaded, and not before",
        tuple(
            Rule("api_loads", "describe it without processes", f"body.{it}", "*", "None")
            for it in ("modelVersion", "runtime", "batchSize", "maxBatchDelay")
        ),
    ),
    Intended(
        "another name",
        "a folder may be loaded under two names, with parameters of their own",
        "the second is 409 if its parameters are others, or it has none and the first has some",
        "an artifact is in memory once",
        (
            Rule("api_loads", "the same under another name", "answer", "200 *", "409 *with other parameters*"),
            Rule("api_loads", "unload the alias", "answer", "200 *", "404 *"),
        ),
    ),
)
