#!/usr/bin/env python3
"""The router beside HAProxy and the plainest actix-web + awc proxy, over the same upstreams, all in one run.

Three upstreams that do nothing (router/examples/trivial_upstreams.rs) answer a kilobyte to a kilobyte, for
1,000 target models that wrk asks for at random. The proxies take turns for several rounds, so that what
else the machine does hits all alike. Printed as Markdown: requests a second, CPU seconds, latencies,
ratios to HAProxy within each round, and how many copies of models there would be. All of it shares the
machine's cores, so a proxy that takes less leaves more to wrk and the upstreams.

With --instructions, the router's own instructions per request are counted instead, by callgrind: they do
not depend on what else the machine does. Needs wrk and haproxy (2.6), and valgrind for --instructions.
"""
import argparse
import http.client
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
BUILT = [BINARIES / "manifold-router", BINARIES / "examples" / "trivial_upstreams", BINARIES / "examples" / "plain_proxy"]
PATH = "/endpoints/bench/invocations"
N_UPSTREAMS = 3
N_MODELS = 1000
START_SECONDS = 60
TICK = 1 / os.sysconf("SC_CLK_TCK")

ENDPOINTS = """
[[endpoint]]
name = "bench"
[[endpoint.variant]]
name = "AllTraffic"
model_data_url = "s3://bench-models/"
"""

HAPROXY = """
global
  nbthread {threads}
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend clients
  bind 127.0.0.1:{port}
  default_backend instances
backend instances
  balance hdr(X-Amzn-SageMaker-Target-Model)
  hash-type consistent
  hash-balance-factor 125
{servers}
"""


def main():
    options = parse()
    programs = find(["wrk", "valgrind" if options.instructions else "haproxy"], [] if options.check else BUILT)
    if options.check:
        return
    with tempfile.TemporaryDirectory(prefix="manifold-proxies-") as folder:
        processes = Processes(Path(folder))
        try:
            if options.instructions:
                count(processes, programs, options)
            else:
                compare(processes, programs, options)
        finally:
            processes.stop()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each proxy")
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--check", action="store_true", help="only says which programs are missing, if any")
    parser.add_argument("--profile", type=Path, help="keeps what callgrind wrote, for callgrind_annotate")
    return parser.parse_args()


def find(programs, built):
    """Returns where the programs are; ends with all that is missing, if anything is."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    found = {program: shutil.which(program, path=path) for program in programs}
    missing = [f"{it} (Debian: apt-get install {it})" for it, where in found.items() if where is None]
    missing += [f"{it} (make bench-router builds it)" for it in built if not it.exists()]
    if missing:
        sys.exit("bench: missing: " + ", ".join(missing))
    return found


class Processes:
    """What the benchmark runs, by name; each has an address of its own."""

    def __init__(self, folder):
        self.folder, self.running, self.addresses = folder, {}, {}

    def start(self, name, address, *command):
        log = (self.folder / f"{name}.log").open("w")
        self.running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        log.close()
        self.addresses[name] = address
        deadline = time.monotonic() + START_SECONDS
        while not answers(address):
            if self.running[name].poll() is not None or time.monotonic() > deadline:
                text = (self.folder / f"{name}.log").read_text()[-2000:]
                raise RuntimeError(f"{name} does not answer:\n{text}")
            time.sleep(0.05)

    def cpu_seconds(self, name):
        """Of all threads, dead ones too."""
        fields = Path(f"/proc/{self.running[name].pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def stop(self):
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(timeout=60)
            process.stdin.close()


def answers(address):
    """Whether an invocation is answered."""
    try:
        return ask(address, "POST", PATH, b"x", {"X-Amzn-SageMaker-Target-Model": "model-0.tar.gz"})[0] == 200
    except OSError:
        return False


def ask(address, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def free_address():
    import socket
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start_upstreams(processes, router):
    upstreams = [free_address() for _ in range(N_UPSTREAMS)]
    listen = [word for address in upstreams for word in ("--listen", address)]
    processes.start("upstreams", upstreams[0], BINARIES / "examples" / "trivial_upstreams", "--router", router, *listen)
    return upstreams


def start_router(processes, address, threads, *wrapper):
    endpoints = processes.folder / "endpoints.toml"
    endpoints.write_text(ENDPOINTS)
    processes.start(
        "router", address, *wrapper, BINARIES / "manifold-router", "--listen", address, "--endpoints", endpoints,
        "--records", processes.folder / "records.redb", "--http-threads", str(threads), "--exit-with-parent")


def start_haproxy(processes, program, address, upstreams, threads):
    servers = "\n".join(f"  server upstream{idx} {it}" for idx, it in enumerate(upstreams))
    config = processes.folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(threads=threads, port=address.split(":")[1], servers=servers))
    processes.start("haproxy", address, program, "-db", "-f", config)


def start_plain_proxy(processes, address, upstreams, threads):
    upstreams = [word for upstream in upstreams for word in ("--upstream", upstream)]
    processes.start(
        "plain", address, BINARIES / "examples" / "plain_proxy", "--listen", address, "--threads", str(threads), *upstreams)


def compare(processes, programs, options):
    router, haproxy, plain = (free_address() for _ in range(3))
    upstreams = start_upstreams(processes, router)
    start_router(processes, router, options.threads)
    start_haproxy(processes, programs["haproxy"], haproxy, upstreams, options.threads)
    start_plain_proxy(processes, plain, upstreams, options.threads)
    names = {"haproxy": "HAProxy", "router": "router", "plain": "plainest actix-web + awc"}
    rounds = {name: [] for name in names}
    for number in range(options.rounds + 1):
        for name in names:
            result = measure(processes, programs["wrk"], name, upstreams, options)
            if number > 0:  # the first round warms up
                rounds[name].append(result)
    version = subprocess.run([programs["haproxy"], "-v"], capture_output=True, text=True).stdout.split()[2]
    print(f"HAProxy {version}; {options.threads} threads for each proxy; {options.rounds} rounds of "
          f"{options.seconds:g} s each; {options.connections} connections\n")
    report(rounds, names)


def measure(processes, wrk, name, upstreams, options):
    copies(upstreams)  # begins anew
    before = {it: processes.cpu_seconds(it) for it in (name, "upstreams")}
    result = load(wrk, processes.addresses[name], options)
    for it, seconds in before.items():
        result["cpu" if it == name else "upstreams_cpu"] = processes.cpu_seconds(it) - seconds
    result["copies"] = copies(upstreams)
    return result


def copies(upstreams):
    """How many pairs of target model and upstream there were since this was last asked."""
    return sum(int(ask(address, "GET", "/")[1]) for address in upstreams)


def load(wrk, address, options, seconds=None):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(
        [wrk, "-t1", f"-c{options.connections}", f"-d{seconds or options.seconds:g}s", "--timeout", "30s",
         "-s", ROOT / "bench" / "models.lua", f"http://{address}{PATH}"],
        check=True, capture_output=True, text=True, env={**os.environ, "N_MODELS": str(N_MODELS)}).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(output.split("JSON ", 1)[1])
    if result["errors"]:
        raise RuntimeError(f"{result['errors']} requests failed:\n{output}")
    return {**result, "wrk_cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def report(rounds, names):
    columns = {
        "requests/s": lambda it: it["n"] / it["seconds"],
        "requests per CPU second": lambda it: it["n"] / it["cpu"],
        "CPU s per 100,000": lambda it: it["cpu"] / it["n"] * 1e5,
        "p50 ms": lambda it: it["p50_ms"],
        "p99 ms": lambda it: it["p99_ms"],
    }
    shares = {
        "proxy": lambda it: it["cpu"] / it["seconds"],
        "wrk": lambda it: it["wrk_cpu"] / it["seconds"],
        "upstreams": lambda it: it["upstreams_cpu"] / it["seconds"],
        "pairs of model and upstream": lambda it: it["copies"],
    }
    formats = [",.0f", ",.0f", ".2f", ".3f", ".3f"]
    table("", columns, formats, {names[name]: results for name, results in rounds.items()}, spread=True)
    print("\nOf HAProxy, in the same round\n")
    ratios = {
        "requests/s": lambda it: it["rate"],
        "requests per CPU second": lambda it: it["per_cpu"],
    }
    relative = {}
    for name in [it for it in names if it != "haproxy"]:
        pairs = zip(rounds[name], rounds["haproxy"])
        relative[names[name]] = [
            {"rate": ours["n"] / ours["seconds"] / (theirs["n"] / theirs["seconds"]),
             "per_cpu": ours["n"] / ours["cpu"] / (theirs["n"] / theirs["cpu"])} for ours, theirs in pairs]
    table("", ratios, [".3f", ".3f"], relative, spread=True)
    print("\nCores that each took, and copies\n")
    table("beside", shares, [".2f", ".2f", ".2f", ",.0f"], {names[name]: it for name, it in rounds.items()}, spread=False)


def table(title, columns, formats, rows, spread):
    print(f"| {title} | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
    for name, results in rows.items():
        cells = []
        for value, form in zip(columns.values(), formats):
            values = [value(it) for it in results]
            cell = f"{statistics.median(values):{form}}"
            cells.append(f"{cell} ({min(values):{form}}–{max(values):{form}})" if spread else cell)
        print(f"| {name} | " + " | ".join(cells) + " |")
    sys.stdout.flush()


def count(processes, programs, options):
    """Counts instructions between two looks, so that the start is not among them."""
    router = free_address()
    upstreams = start_upstreams(processes, router)
    profile = options.profile or processes.folder / "callgrind"
    start_router(
        processes, router, 1, programs["valgrind"], "--tool=callgrind", "--instr-atstart=no",
        f"--callgrind-out-file={profile}")
    control = ["callgrind_control", str(processes.running["router"].pid)]
    load(programs["wrk"], router, options, seconds=3)
    subprocess.run([control[0], "-i", "on", control[1]], check=True, capture_output=True)
    result = load(programs["wrk"], router, options)
    subprocess.run([control[0], "-i", "off", control[1]], check=True, capture_output=True)
    subprocess.run([control[0], "-d", control[1]], check=True, capture_output=True)
    total = sum(int(it) for path in profile.parent.glob(f"{profile.name}*") for it in
                re.findall(r"^totals: (\d+)", path.read_text(), re.MULTILINE))
    print(f"{total / result['n']:,.0f} instructions of the router's own a request, {result['n']:,} requests")


if __name__ == "__main__":
    main()
