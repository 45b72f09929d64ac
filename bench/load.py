#!/usr/bin/env python3
"""`manifold load` beside wrk, both as fast as they are answered: what the load driver itself can send.

Both send a kilobyte over as many connections through the router to upstreams that do nothing (those of
haproxy.py), for 1,000 target models drawn at random. They take turns for several rounds, each pinned to one
core. Printed as Markdown: requests a second, how much of a core the driver took and how many the router and
the upstreams, and the driver's requests a second of wrk's in the same round. What took less than a whole core
waited for answers: it was the router that was at its limit, or the core that they share. CPU time for 100,000
requests, of driver and router, depends least on what else the machine does: with less than half of the
router's, one core of the driver keeps two of the router busy. Needs wrk.
"""
import argparse
import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import haproxy

ENDPOINT = haproxy.PATH.split("/")[2]


def main():
    options = parse()
    wrk = haproxy.find(["wrk"], [haproxy.BINARIES / "manifold", *haproxy.BUILT])["wrk"]
    with tempfile.TemporaryDirectory(prefix="manifold-load-") as folder:
        processes = haproxy.Processes(Path(folder))
        try:
            router = haproxy.free_address()
            haproxy.start_upstreams(processes, router)
            haproxy.start_router(processes, router, options.threads)
            rounds = take_turns(processes, options, {
                "wrk": lambda: by_wrk(wrk, router, options),
                "manifold load": lambda: by_manifold(processes.folder, router, options),
            })
        finally:
            processes.stop()
    print(f"{os.cpu_count()} cores, the driver on one of them; {options.threads} threads for the router; "
          f"{options.rounds} rounds of {options.seconds:g} s each; {options.connections} connections\n")
    report(rounds)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the router")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="of the drivers")
    return parser.parse_args()


def take_turns(processes, options, drivers):
    rounds = {name: [] for name in drivers}
    for number in range(options.rounds + 1):
        for name, drive in drivers.items():
            before = {it: processes.cpu_seconds(it) for it in ("router", "upstreams")}
            with pinned(options.core):
                result = drive()
            for it, seconds in before.items():
                result[it] = (processes.cpu_seconds(it) - seconds) / result["seconds"]
            if number > 0:  # the first round warms up
                rounds[name].append(result)
    return rounds


@contextlib.contextmanager
def pinned(core):
    """What is started meanwhile runs on one core; what runs already stays where it is."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def by_wrk(wrk, router, options):
    result = haproxy.load(wrk, router, options)
    seconds = result["seconds"]
    return {"rate": result["n"] / seconds, "core_share": result["wrk_cpu"] / seconds,
            **{it: result[it] for it in ("seconds", "p50_ms", "p99_ms")}}


def by_manifold(folder, router, options):
    (folder / "body.bin").write_bytes(b"y" * 1024)
    targets = [word for n in range(haproxy.N_MODELS) for word in ("--target", f"model-{n + 1}.tar.gz")]
    subprocess.run(
        [haproxy.BINARIES / "manifold", "load", "--router", f"http://{router}", "--endpoint", ENDPOINT, *targets,
         "--concurrency", str(options.connections), "--duration", f"{options.seconds:g}s", "--body", "body.bin",
         "--json", "result.json", "--quiet"],
        cwd=folder, env={}, check=True, capture_output=True)
    result = json.loads((folder / "result.json").read_text())
    if result["totals"]["n_ok"] != result["totals"]["n_due"]:
        raise RuntimeError(f"not all requests were answered: {result['errors']}")
    latency = {it: result["latency"][it] for it in ("p50_ms", "p99_ms")}
    return {"rate": result["rate"], "core_share": result["driver"]["core_share"], "seconds": result["seconds"], **latency}


def report(rounds):
    columns = {
        "requests/s": lambda it: it["rate"],
        "of wrk, same round": lambda it: it["of_wrk"],
        "core_share": lambda it: it["core_share"],
        "CPU s per 100,000": lambda it: it["core_share"] / it["rate"] * 1e5,
        "router's": lambda it: it["router"] / it["rate"] * 1e5,
        "router's cores": lambda it: it["router"],
        "upstreams' cores": lambda it: it["upstreams"],
        "p50 ms": lambda it: it["p50_ms"],
        "p99 ms": lambda it: it["p99_ms"],
    }
    for results in rounds.values():
        for result, wrk in zip(results, rounds["wrk"]):
            result["of_wrk"] = result["rate"] / wrk["rate"]
    haproxy.table("", columns, [",.0f", ".3f", ".2f", ".2f", ".2f", ".2f", ".2f", ".3f", ".3f"], rounds, spread=True)


if __name__ == "__main__":
    main()
