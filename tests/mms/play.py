"""Plays a case on one server: writes the model's folder, loads it, asks, and notes what came."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

from cases import Ask, Case, Process, Step, Together, Unload
from outcome import Fields, fields
from servers import Server

HANDLERS = Path(__file__).resolve().parent / "handlers"
# Within it, a process that is to end has ended.
PROCESS_PATIENCE_S = 5.0


def play(case: Case, server: Server, root: Path, models: Path | None = None) -> dict[str, Fields]:
    """Returns the fields of each step, by its title."""
    folder = _write(case, root, models)
    parameters = {
        "model_name": case.name,
        "url": str(folder),
        "batch_size": case.batch_size,
        "max_batch_delay": case.max_batch_delay_ms,
        "initial_workers": case.workers,
        "synchronous": True,
    }
    loaded = server.ask_json("POST", "/models", parameters)
    noted = {"load": fields(loaded, str(root))}
    # Both are asked alike: what cannot load is still asked what it would have been.
    for step in case.steps:
        for title, found in _take(step, case.name, server, folder):
            noted[_unused(title, noted)] = found
    server.ask("DELETE", f"/models/{case.name}")
    return noted


def _unused(title: str, noted: dict[str, Fields]) -> str:
    """A step that comes again is told apart by its number."""
    again = sum(it == title or it.startswith(f"{title} #") for it in noted)
    return f"{title} #{again + 1}" if again else title


def _take(step: Step, name: str, server: Server, folder: Path) -> list[tuple[str, Fields]]:
    if isinstance(step, Ask):
        return [(step.title, _ask(step, name, server, folder))]
    if isinstance(step, Together):
        return _ask_together(step, name, server, folder)
    if isinstance(step, Process):
        return [(step.title, {"process": _process(folder)})]
    assert isinstance(step, Unload)
    return [(step.title, fields(server.ask("DELETE", f"/models/{name}"), str(folder.parent)))]


def _ask(ask: Ask, name: str, server: Server, folder: Path) -> Fields:
    body = ask.body
    if body is not None:
        body = body.replace(b"{name}", name.encode()).replace(b"{url}", str(folder).encode())
    path = ask.path.replace("{name}", name).replace("{url}", str(folder))
    answer = server.ask(ask.method, path, ask.headers, body)
    return fields(answer, str(folder.parent), ask.all_headers)


def _ask_together(step: Together, name: str, server: Server, folder: Path) -> list[tuple[str, Fields]]:
    found: dict[str, Fields] = {}
    threads = [
        threading.Thread(target=lambda it=it: found.update({it.title: _ask(it, name, server, folder)}))
        for it in step.asks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if step.is_sorted:
        return [("one of the batch", it) for it in sorted(found.values(), key=lambda it: (it["status"], str(it)))]
    return [(it.title, found[it.title]) for it in step.asks]


def _process(folder: Path) -> str:
    try:
        pid = int((folder / "pid").read_text())
    except FileNotFoundError:
        return "never noted"
    deadline = time.monotonic() + PROCESS_PATIENCE_S
    while _is_running(pid):
        if time.monotonic() > deadline:
            return "running"
        time.sleep(0.05)
    return "gone"


def _is_running(pid: int) -> bool:
    """A process that has ended may still be waited for."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _write(case: Case, root: Path, models: Path | None) -> Path:
    folder = root / case.name
    if case.model:
        assert models is not None, "the runner has made it"
        shutil.copytree(models / case.model, folder)
    else:
        _write_handler(case, folder)
    for name, text in case.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    if case.has_manifest:
        _write_manifest(case, folder)
    if case.batch_size > 1 or case.workers > 1:
        batching = f"batch_size = {case.batch_size}\nmax_batch_delay_ms = {case.max_batch_delay_ms}\n"
        text = f'[model]\nruntime = "python"\nworkers = {case.workers}\n{batching}'
        (folder / "manifold.toml").write_text(text, encoding="utf-8")
    for copy in case.copies:
        shutil.copytree(folder, root / f"{case.name}-{copy}")
    return folder


def _write_handler(case: Case, folder: Path) -> None:
    # Without a manifest the server's default names it.
    module = (case.handler or case.name) if case.has_manifest else "own_service"
    target = folder / case.folder / f"{module}.py"
    target.parent.mkdir(parents=True)
    shutil.copyfile(HANDLERS / f"{case.handler or case.name}.py", target)


def _write_manifest(case: Case, folder: Path) -> None:
    handler = case.spec.replace("{module}", case.handler or case.name)
    model = {"modelName": case.name, "modelVersion": "1.0", "handler": handler}
    manifest = {"specificationVersion": "1.0", "runtime": "python", "model": model, "userData": {"note": "ü"}}
    (folder / "MAR-INF").mkdir()
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
