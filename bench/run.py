#!/usr/bin/env python3
"""Warm invocations through the router, straight at the worker, and in a bare loop, all in one run.

The bare loop (worker/examples/bare_loop.rs) runs the same model code on one thread per compute slot
without any server: the ceiling. The three take turns for several rounds, so that what else the
machine does hits all alike; medians and ratios of medians are printed as Markdown. Needs wrk, which
shares the cores with what it measures. Figures are kept in docs/benchmarks.md.
"""
import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import wrk

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "python"))
from cluster import BINARIES, MODELS, ROOT, Cluster  # noqa: E402  (the path comes first)

CASES = {
    "tiny (16→32→16, JSON)": {
        "model": "tiny_mlp.tar.gz",
        "type": "application/json",
        "body": json.dumps([[round((i - 8) / 8, 4) for i in range(16)]]).encode(),
        "connections": [1, 8],
    },
    "resnet_18 (JPEG, classes)": {
        "model": "resnet_18.tar.gz",
        "type": "image/jpeg",
        "body": (ROOT / "driver" / "assets" / "cat.jpg").read_bytes(),
        "connections": [1, 8],
    },
}


def main():
    options = parse()
    wrk.check()
    with Cluster("bench", options.models, worker=["--compute-slots", str(options.slots)]) as cluster:
        for name, case in CASES.items():
            for connections in case["connections"]:
                report(name, connections, measure(cluster, case, connections, options))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--slots", type=int, default=os.cpu_count())
    parser.add_argument("--models", type=Path, default=MODELS)
    return parser.parse_args()


def measure(cluster, case, connections, options):
    """Takes turns between the three; returns their rounds by name."""
    # The bare loop runs as many threads as a server could use for so many connections.
    threads = min(connections, options.slots)
    answers, rounds = {}, {"bare loop": [], "worker": [], "router": []}
    for straight, name in [(True, "worker"), (False, "router")]:
        answers[name] = invoke(cluster, case, straight)
    for number in range(options.rounds + 1):
        results = {
            "bare loop": bare_loop(case, threads, options),
            "worker": invocations(cluster, case, connections, True, options),
            "router": invocations(cluster, case, connections, False, options),
        }
        answers["bare loop"] = results["bare loop"].pop("answer")
        if number > 0:  # the first round warms up
            for name, result in results.items():
                rounds[name].append(result)
    if len(set(answers.values())) != 1:
        sys.exit(f"bench: the answers differ: {answers}")
    return rounds


def bare_loop(case, threads, options):
    with tempfile.TemporaryDirectory(prefix="manifold-bare-") as folder:
        with tarfile.open(options.models / case["model"]) as archive:
            archive.extractall(Path(folder) / "model")  # made by our own zoo
        body = Path(folder) / "body"
        body.write_bytes(case["body"])
        output = subprocess.run(
            [BINARIES / "examples" / "bare_loop", "--artifact", Path(folder) / "model", "--body", body,
             "--content-type", case["type"], "--threads", str(threads), "--seconds", str(options.seconds)],
            check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def invocations(cluster, case, connections, straight, options):
    address, path, headers = target(cluster, case, straight)
    return wrk.post(f"http://{address}{path}", headers, case["body"], connections, options.seconds)


def target(cluster, case, straight):
    """Where one invocation goes: straight at the worker, or through the router."""
    kind = {"Content-Type": case["type"]}
    if straight:
        artifact = f"file://{cluster.models}/{case['model']}"
        return cluster.worker, "/invocations", {**kind, "x-manifold-artifact": artifact}
    path = f"/endpoints/{cluster.name}/invocations"
    return cluster.router, path, {**kind, "X-Amzn-SageMaker-Target-Model": case["model"]}


def invoke(cluster, case, straight):
    address, path, headers = target(cluster, case, straight)
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", path, case["body"], headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        sys.exit(f"bench: {answer.status} {text}")
    return text


def report(name, connections, rounds):
    ceiling = statistics.median(it["n"] / it["seconds"] for it in rounds["bare loop"])
    print(f"\n{name}, {connections} connection{'s' if connections > 1 else ''}, {len(rounds['router'])} rounds\n")
    print("| | invocations/s (median) | min–max | of the bare loop | p50 ms | p99 ms |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for what, results in rounds.items():
        rates = [it["n"] / it["seconds"] for it in results]
        p50, p99 = (statistics.median(it[key] for it in results) for key in ("p50_ms", "p99_ms"))
        rate = statistics.median(rates)
        print(f"| {what} | {rate:,.1f} | {min(rates):,.1f}–{max(rates):,.1f} | {rate / ceiling:.1%} | {p50:.3f} | {p99:.3f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
