"""LibTorch for the CPU out of PyTorch's wheel, without ever writing its CUDA half.

What remains is 0.5 GB of 1.1: the libraries that `libtorch_cpu.so` loads, and the headers.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import prerequisites
import wheels
from pins import LIBTORCH, LIBTORCH_VERSION
from progress import Progress

# Changes when `unpack` makes something else of the same wheels.
RECIPE_VERSION = 1
# The wheel, pip's own copy of it while it saves, and some air.
NEEDED_BYTES = 1_500_000_000

CUDA_PARTS = ("libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libtorch_python", "libcaffe2_nvrtc", "libtorch.so")
# `libtorch_cpu.so` names these two and calls neither where there is no GPU.
CUDA_STUBS = ("libcudart.so.", "libcupti.so.")
# torch-sys links `-ltorch`. The real libtorch.so would pull in the CUDA half.
LINKER_SCRIPT = "INPUT(-ltorch_cpu)\n"


def provide(root: Path) -> None:
    own, folder = os.environ.get("LIBTORCH"), root / ".libtorch"
    if own or folder.is_symlink():
        # A link leads to somebody else's folder (say, another work tree's): nothing is written through it.
        check_own(Path(own) if own else folder / "torch")
        return
    if wheels.is_installed(folder, LIBTORCH, RECIPE_VERSION):
        return
    problems = prerequisites.missing_for_fetching() + [it for it in [_disk_problem(root, folder)] if it]
    if problems:
        raise wheels.SetupError("\n".join(problems))
    print(f"set-up: LibTorch {LIBTORCH_VERSION} into .libtorch/ (once; 540 MB to fetch)", flush=True)
    wheels.install(folder, LIBTORCH, unpack, RECIPE_VERSION)


def check_own(folder: Path) -> None:
    """Checks a LibTorch that was not put there by set-up; it is then used as it is."""
    if not folder.is_absolute():
        # Cargo runs each crate's build in that crate's folder.
        raise wheels.SetupError(f"LIBTORCH is the relative path {folder}: the build needs an absolute one")
    whose = f"LibTorch in {folder} (from the variable LIBTORCH, or a linked .libtorch)"
    for name in ("lib/libtorch_cpu.so", "include/torch/csrc/api/include/torch/torch.h", "build-version"):
        if not (folder / name).exists():
            raise wheels.SetupError(f"{whose} has no {name}")
    version = (folder / "build-version").read_text().strip()
    if version.split("+")[0] != LIBTORCH_VERSION:
        raise wheels.SetupError(f"{whose} is {version}: {LIBTORCH_VERSION} is needed")


def unpack(files: dict[str, Path], tree: Path) -> None:
    members = [(path, info) for path in files.values() for info in zipfile.ZipFile(path).infolist() if is_needed(info)]
    progress = Progress("unpacking LibTorch", sum(info.file_size for _, info in members))
    n_done = 0
    for path in files.values():
        with zipfile.ZipFile(path) as wheel:
            for info in (info for of, info in members if of == path):
                wheel.extract(info, tree)
                n_done += info.file_size
                progress.show(n_done)
    progress.end(complete=True)
    (tree / "torch/lib/libtorch.so").write_text(LINKER_SCRIPT)
    (tree / "torch/build-version").write_text(LIBTORCH_VERSION + "\n")


def is_needed(info: zipfile.ZipInfo) -> bool:
    folder, _, name = info.filename.rpartition("/")
    if info.is_dir():
        return False
    if folder == "nvidia/cu13/lib":
        return name.startswith(CUDA_STUBS)
    if folder == "torch/lib":
        return ".so" in name and not name.startswith(CUDA_PARTS)
    return folder.startswith("torch/include")


def _disk_problem(root: Path, folder: Path) -> str | None:
    # What an interrupted set-up left is there already, and is used or removed.
    staging = folder / ".staging"
    staged = sum(it.stat().st_size for it in staging.rglob("*") if it.is_file()) if staging.exists() else 0
    return prerequisites.disk_problem(root, max(NEEDED_BYTES - staged, 0))
