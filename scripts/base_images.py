"""Sees to it that the base images are there: pulls them, and where that fails makes local stand-ins of the same names.

    python3 scripts/base_images.py [NAME…]      (default: all that compose.yaml and the Dockerfile name)

A stand-in holds the same programs from another source: Debian from debootstrap, Rust from this machine's toolchain,
etcd and Prometheus from Debian's packages. So the same Dockerfile and the same compose.yaml are built and run. A
stand-in says what it is in its label `manifold.stand-in`; `docker pull NAME` replaces it by the real one.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Callable

import debian
import wheels

ROOT = Path(__file__).resolve().parent.parent
LABEL = "manifold.stand-in"
DEBIAN, RUST = "debian:bookworm-slim", "rust:1.95-bookworm"
# An image of 1.5 GB on a line of 20 Mbit/s.
PULL_PATIENCE_S = 900
# Debootstrap takes half a minute, a toolchain of a gigabyte one.
MAKE_PATIENCE_S = 900
# Not needed to compile: half a gigabyte of documentation.
TOOLCHAIN = ("bin", "lib", "libexec")


class CannotMake(Exception):
    """There is neither the image nor what a stand-in is made of. The text says what is missing."""


def main() -> int:
    names = sys.argv[1:] or wanted()
    try:
        for name in names:
            print(f"{name}: {provide(name)}", flush=True)
    except (CannotMake, wheels.SetupError) as error:
        print(f"base images: {error}", file=sys.stderr)
        return 1
    return 0


def wanted() -> list[str]:
    """Every image that is not built here and that a stand-in is known for, in the order in which they build on another."""
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    compose = (ROOT / "compose.yaml").read_text()
    named = re.findall(r"^FROM (\S+:\S+)", dockerfile, re.M) + re.findall(r"^ +image: (\S+:\S+)$", compose, re.M)
    return [DEBIAN] + sorted({it for it in named if it != DEBIAN and _maker(it)})


def provide(name: str) -> str:
    """Returns how the image came to be there."""
    found = _docker("image", "inspect", "--format", f'{{{{ index .Config.Labels "{LABEL}" }}}}', name)
    if found.returncode == 0:
        return f"is there ({found.stdout.strip() or 'no stand-in'})"
    pulled = _docker("pull", "--quiet", name, patience_s=PULL_PATIENCE_S)
    if pulled.returncode == 0:
        return "pulled"
    maker = _maker(name)
    if not maker:
        raise CannotMake(f"{name} cannot be pulled, and nothing here stands in for it: {pulled.stderr.strip()}")
    print(f"{name}: cannot be pulled; making a stand-in", flush=True)
    if name != DEBIAN:
        provide(DEBIAN)
    return f"made here: {maker(name)}"


def _maker(name: str) -> Callable[[str], str] | None:
    makers = {"debian": _debian, "rust": _rust, "quay.io/coreos/etcd": _etcd, "prom/prometheus": _prometheus}
    return makers.get(name.rpartition(":")[0])


def _debian(name: str) -> str:
    """debootstrap's smallest Debian, less what the slim image has not either."""
    if os.geteuid() != 0:
        raise CannotMake(f"{name} cannot be pulled, and only root can make a stand-in (debootstrap changes its root)")
    debian.provide(ROOT)
    usr = ROOT / ".debian" / "usr"
    suite = name.partition(":")[2].split("-")[0]
    with tempfile.TemporaryDirectory(dir=usr.parent) as scratch:
        root = Path(scratch) / "root"
        command = [str(usr / "sbin" / "debootstrap"), "--variant=minbase", suite, str(root), _mirror(suite)]
        environment = {**os.environ, "DEBOOTSTRAP_DIR": str(usr / "share" / "debootstrap"), "LC_ALL": "C.UTF-8"}
        try:
            _run(command, env=environment)
        finally:
            # An interrupted debootstrap leaves it, and nothing could be removed.
            if os.path.ismount(root / "proc"):
                subprocess.run(["umount", str(root / "proc")], check=False)
        for waste in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / waste)
            (root / waste).mkdir()
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            changes = [f'--change=LABEL {LABEL}="debootstrap {suite}"', '--change=CMD ["bash"]']
            _run(["docker", "import", *changes, "-", name], stdin=tar.stdout)
        if tar.returncode != 0:
            _docker("image", "rm", name)
            raise CannotMake(f"{name}: tar failed")
    return f"debootstrap {suite}"


def _mirror(suite: str) -> str:
    """This machine's own source of Debian's packages, if it has one of the suite."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found = re.search(rf"^{suite} main (https?://\S+)$", listed, re.M)
    return found.group(1) if found else "http://deb.debian.org/debian"


def _rust(name: str) -> str:
    """This machine's toolchain, and the C++ compiler that the image has."""
    version = _run(["rustc", "--version"]).split()[1]
    wanted_version = name.partition(":")[2].split("-")[0]
    if not f"{version}.".startswith(f"{wanted_version}."):
        raise CannotMake(f"{name} cannot be pulled, and this machine's Rust is {version}, not {wanted_version}")
    sysroot = Path(_run(["rustc", "--print", "sysroot"]).strip())
    dockerfile = f"""
        FROM {DEBIAN}
        RUN apt-get update && apt-get install --yes --no-install-recommends \
            ca-certificates curl g++ gcc git libc6-dev make pkg-config python3 && rm -rf /var/lib/apt/lists/*
        ENV PATH=/usr/local/rustup/bin:$PATH CARGO_HOME=/usr/local/cargo
        COPY toolchain /usr/local/rustup
        COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
        """
    files = {f"toolchain/{it}": sysroot / it for it in TOOLCHAIN if (sysroot / it).exists()}
    # Where no image can be pulled, packages often come through a proxy with a certificate authority of its own.
    authorities = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if not authorities:
        raise CannotMake(f"{name}: this machine has no certificates of authorities (Debian, Ubuntu: ca-certificates)")
    files["ca-certificates.crt"] = Path(authorities)
    return _build(name, f"Rust {version} of this machine", dockerfile, files)


def _etcd(name: str) -> str:
    return _packaged(name, ["etcd", "etcdctl"], "/usr/local/bin", "etcd", 'CMD ["/usr/local/bin/etcd"]')


def _prometheus(name: str) -> str:
    start = """RUN mkdir /prometheus && chown 65534:65534 /prometheus && chmod g+w /prometheus
        USER 65534:65534
        ENTRYPOINT ["/bin/prometheus"]
        CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]"""
    return _packaged(name, ["prometheus", "promtool"], "/bin", "prometheus", start)


def _packaged(name: str, programs: list[str], folder: str, main_program: str, start: str) -> str:
    debian.provide(ROOT)
    paths = {it: ROOT / ".debian" / "usr" / "bin" / it for it in programs}
    said = _run([str(paths[main_program]), "--version"])
    version = re.search(r"\d+\.\d+\.\d+", said)
    what = f"{main_program} {version.group(0) if version else '?'} of Debian"
    dockerfile = f"""
        FROM {DEBIAN}
        COPY {" ".join(programs)} {folder}/
        {start}
        """
    return _build(name, what, dockerfile, {it: path for it, path in paths.items()})


def _build(name: str, what: str, dockerfile: str, files: dict[str, Path]) -> str:
    command = ["docker", "build", "--quiet", "--label", f"{LABEL}={what}", "--tag", name, "-"]
    # The classic builder: it is everywhere, and takes a context from standard input as BuildKit does.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    with tempfile.TemporaryFile() as said, subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment
    ) as docker:
        # Also while it reads: an engine that hangs would hold the context's writer for ever.
        patience = threading.Timer(MAKE_PATIENCE_S, docker.kill)
        patience.start()
        try:
            with docker.stdin, tarfile.open(fileobj=docker.stdin, mode="w|") as context:
                text = re.sub(r"^ +", "", dockerfile, flags=re.M).encode()
                entry = tarfile.TarInfo("Dockerfile")
                entry.size = len(text)
                context.addfile(entry, io.BytesIO(text))
                for target, source in files.items():
                    context.add(source.resolve(), arcname=target)
        except BrokenPipeError:
            pass  # docker gave up, and says why
        finally:
            docker.wait()
            patience.cancel()
        said.seek(0)
        if docker.returncode != 0:
            raise CannotMake(f"{name}: no stand-in could be built:\n{said.read().decode(errors='replace')}")
    return what


def _docker(*args: str, patience_s: int = 60) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["docker", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=patience_s)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(args, 1, "", f"docker {args[0]} took longer than {patience_s} s")


def _run(command: list[str], **options: object) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=MAKE_PATIENCE_S, **options)
    if done.returncode != 0:
        raise CannotMake(f"{' '.join(command[:2])} failed:\n{done.stdout[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
