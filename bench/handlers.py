#!/usr/bin/env python3
"""A Python handler that echoes a kilobyte: here, in Multi Model Server 1.1.11, and no handler at all.

`bare` is the worker's own answer of the same kilobyte over HTTP, without Python. All take turns for several
rounds. Printed as Markdown: requests a second, p50 and p99, and in the same round what the handler costs over
the bare answer and how often Multi Model Server's throughput it has. Needs wrk, Java 17, Python 3.11, PyPI (once).
"""
import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

import wrk

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "mms"))
import environments  # noqa: E402
import servers  # noqa: E402

HANDLER = """
def handle(data, context):
    if data is not None:
        return [bytes(it["body"]) for it in data]
"""
BARE = '[model]\nruntime = "echo"\n'
BODY = b"y" * 1024
HEADERS = {"Content-Type": "application/octet-stream"}


def main():
    options = parse()
    wrk.check()
    try:
        environments.check_java()
        theirs = environments.provide("mms", ROOT / "tests" / "mms" / "requirements.txt")
    except environments.CannotRunHere as why:
        sys.exit(f"bench: {why}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="manifold-handlers-")))
        urls = start(stack, folder, theirs, options.processes)
        for connections in options.connections:
            report(connections, take_turns(urls, connections, options))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--processes", type=int, default=1, help="of each server's handler")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    return parser.parse_args()


def start(stack, folder, theirs, n_processes):
    """Starts both servers with the models loaded; returns where each is invoked."""
    python = theirs / "bin" / "python"
    environment = servers.Environment(
        their_python=python, mms=theirs / "bin" / "multi-model-server", python=python,
        worker=ROOT / "target" / "release" / "manifold-worker")
    for model, name, text in (("echo", "service.py", HANDLER), ("bare", "manifold.toml", BARE)):
        (folder / model).mkdir()
        (folder / model / name).write_text(text)
    urls = {}
    for name, begin in (("Multi Model Server", servers.start_mms), ("Manifold", servers.start_worker)):
        server = stack.enter_context(servers.running(begin(environment, folder / name.split()[0], servers.Settings())))
        load(server, folder / "echo", f"&handler=service:handle&initial_workers={n_processes}&synchronous=true")
        urls[name] = f"http://{server.address}/models/echo/invoke"
    load(server, folder / "bare", "")
    urls["bare"] = f"http://{server.address}/models/bare/invoke"
    return urls


def load(server, model, query):
    answer = server.ask("POST", f"/models?model_name={model.name}&url={model}{query}")
    if answer.status != 200:
        sys.exit(f"bench: {server.name} did not load {model.name}: {answer}")
    answer = server.ask("POST", f"/models/{model.name}/invoke", HEADERS, BODY)
    if answer.body != BODY:
        sys.exit(f"bench: {server.name} did not echo: {answer}")


def take_turns(urls, connections, options):
    rounds = {name: [] for name in urls}
    for number in range(options.rounds + 1):
        results = {name: wrk.post(url, HEADERS, BODY, connections, options.seconds) for name, url in urls.items()}
        if number > 0:  # the first round warms up
            for name, result in results.items():
                rounds[name].append({**result, "rate": result["n"] / result["seconds"]})
    return rounds


def report(connections, rounds):
    print(f"\n{connections} connection{'s' if connections > 1 else ''}, {len(rounds['bare'])} rounds\n")
    print("| | requests/s | p50 ms | p99 ms |\n| --- | ---: | ---: | ---: |")
    for name, results in rounds.items():
        cells = (spread([it[key] for it in results], form) for key, form in (("rate", ",.0f"), ("p50_ms", ".3f"), ("p99_ms", ".3f")))
        print(f"| {name} | {' | '.join(cells)} |")
    pairs = list(zip(rounds["Manifold"], rounds["bare"], rounds["Multi Model Server"]))
    over = [(ours["p50_ms"] - bare["p50_ms"]) * 1e3 for ours, bare, _ in pairs]
    times = [ours["rate"] / theirs["rate"] for ours, _, theirs in pairs]
    print(f"\nThe handler over the bare answer at p50: {spread(over, '.0f')} µs. "
          f"Of Multi Model Server's throughput: {spread(times, '.2f')} times.")
    sys.stdout.flush()


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


if __name__ == "__main__":
    main()
