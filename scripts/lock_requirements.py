"""Writes `tests/python/requirements/*.txt`: every package that a client test needs, with version and digests.

    python3 scripts/lock_requirements.py python3.10 python3.11 python3.12 python3.13

Needs the named Pythons (each with pip 22.2 or newer), because what a package depends on differs between them. The last
one named speaks for newer ones, too. Run it to renew the versions; nothing else runs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

REQUIREMENTS = Path(__file__).resolve().parent.parent / "tests" / "python" / "requirements"
NOTEBOOK = ["nbclient", "ipykernel", "nbformat"]
# What each environment is there for; what that needs is found out.
WANTED = {
    "boto3": ["boto3==1.44.5", *NOTEBOOK],
    "boto3-1.34": ["boto3==1.34.162", *NOTEBOOK],
    "awscli": ["awscli==1.46.3"],
    "sagemaker-v2": ["sagemaker==2.257.7"],
    # The part of v3 that has endpoints. The whole of v3 brings MLflow, Arrow and a hundred more.
    "sagemaker-v3": ["sagemaker-core==2.27.0"],
    # The schemas of Kubernetes' API, for tests/deploy.
    "kubernetes": ["kubernetes-validate==1.37.0"],
}
# Wheels for Pythons that need not be installed here: a binary package has one for each.
NEWER = ["3.14"]


class Pin(NamedTuple):
    name: str
    version: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="+", help="interpreters, oldest first")
    pythons = parser.parse_args().pythons
    for environment, wanted in WANTED.items():
        (REQUIREMENTS / f"{environment}.txt").write_text(lock(environment, wanted, pythons))
        print(f"{environment}: done", flush=True)


def lock(environment: str, wanted: list[str], pythons: list[str]) -> str:
    """Returns the requirements file: a line for each version of a package, and for which Pythons it is."""
    found: dict[Pin, dict[str, set[str]]] = {}
    versions = [minor_version(python) for python in pythons]
    for python, version in zip(pythons, versions):
        resolved = resolve(python, wanted, [])
        note(found, version, resolved)
        if python == pythons[-1]:
            exact = [f"{pin.name}=={pin.version}" for pin in resolved]
            for newer in NEWER:
                note(found, version, resolve(python, exact, ["--no-deps", "--python-version", newer]))
    text = f"# For {' '.join(wanted)}. Written by scripts/lock_requirements.py; do not edit.\n"
    for pin in sorted(found):
        digests = sorted(set().union(*found[pin].values()))
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in digests)
        text += f"{pin.name}=={pin.version}{marker(set(found[pin]), versions)}{hashes}\n"
    return text


def note(found: dict[Pin, dict[str, set[str]]], version: str, resolved: dict[Pin, str]) -> None:
    for pin, digest in resolved.items():
        found.setdefault(pin, {}).setdefault(version, set()).add(digest)


def resolve(python: str, wanted: list[str], flags: list[str]) -> dict[Pin, str]:
    """Asks pip what it would install, and the digest of each wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary=:all:", "--target", scratch, "--report", str(report), *flags, *wanted]
        subprocess.run(command, check=True)
        packages = json.loads(report.read_text())["install"]
    return {
        Pin(it["metadata"]["name"], it["metadata"]["version"]): it["download_info"]["archive_info"]["hashes"]["sha256"]
        for it in packages
    }


def minor_version(python: str) -> str:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def marker(used: set[str], versions: list[str]) -> str:
    """Returns for which Pythons a line is: nothing if for all of them."""
    if used == set(versions):
        return ""
    first_missing = max(versions.index(it) for it in versions if it not in used)
    conditions = [f"python_version == '{it}'" for it in versions[:first_missing] if it in used]
    if versions[-1] in used:
        conditions.append(f"python_version >= '{versions[first_missing + 1]}'")
    return f" ; {' or '.join(conditions)}"


if __name__ == "__main__":
    main()
