"""Runs the same handlers in Multi Model Server 1.1.11 and in our worker, asks both the same, compares the answers.

    make test-mms                                       # or, with options:
    python3 tests/mms/run.py [--only raises] [--worker target/release/manifold-worker] [--table]

Needs Python 3.11 and Java 17, and PyPI at its first run; where they are not, it says so and ends well. `cases.py` has
what is asked of which handler, `intended.py` each difference that there is to be, with its reason. A difference that is
not listed fails, and so does a listed one that is there no more. The last line is `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import environments
from cases import CASES, TOOLKIT_HANDLER, Case
from intended import INTENDED, Intended, Rule
from outcome import Fields, differences
from play import play
from servers import Environment, running, start_mms, start_worker

HERE = Path(__file__).resolve().parent
# What the original runs in, and what we do: the same, unless our modules are to stand in for the real ones.
MMS, MXNET, TOOLKIT = ["requirements.txt"], ["requirements.txt", "../mxnet/requirements.txt"], ["requirements.txt"]
TOOLKIT += ["requirements-learning.txt", "requirements-toolkit.txt"]
ENVIRONMENTS = {
    "mms": (("mms", MMS), ("bare", [])),
    "mxnet": (("mxnet", MXNET), ("mxnet", MXNET)),
    "toolkit": (("toolkit", TOOLKIT), ("toolkit", TOOLKIT)),
    "compatible": (("toolkit", TOOLKIT), ("learning", ["requirements-learning.txt"])),
}
# Who makes the models of an environment's cases, and how they are called.
MODELS = {"mxnet": "mxnet", "toolkit": "toolkit", "compatible": "toolkit"}
# What a line of the terminal holds of an answer.
MAX_SHOWN_CHARS = 160
HIDDEN = ("status", "reason")


class Difference(NamedTuple):
    case: str
    step: str
    field: str
    theirs: Any
    ours: Any
    # None: nobody intended it.
    intended: Intended | None
    rule: Rule | None


class Result(NamedTuple):
    case: Case
    # What the original answered, by step.
    theirs: dict[str, Fields]
    differences: list[Difference]

    @property
    def unlisted(self) -> list[Difference]:
        return [it for it in self.differences if it.intended is None]


def main() -> int:
    options = _options()
    environments.check_worker(options.worker)
    chosen = [it for it in CASES if options.only in it.name]
    has_endpoint = options.only in "endpoint"
    try:
        environments.check_java()
        programs = {it: _provide(it, options) for it in dict.fromkeys(case.settings.environment for case in chosen)}
    except environments.CannotRunHere as error:
        return environments.skip("the comparison with Multi Model Server (tests/mms)", error)
    results = []
    for result in _results(chosen, programs):
        results.append(result)
        _print(result, options.show)
    played = dict(_endpoint(options)) if has_endpoint else {}
    return _conclude(results, played, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only cases whose names hold this")
    parser.add_argument("--worker", type=Path, default=environments.ROOT / "target" / "release" / "manifold-worker")
    parser.add_argument("--table", action="store_true", help="prints the tables of docs/compatibility.md, too")
    parser.add_argument("--show", action="store_true", help="prints what the original answered")
    parser.add_argument("--python-half", type=Path, help="tries this folder instead of what the worker carries")
    return parser.parse_args()


def _provide(name: str, options: argparse.Namespace) -> Environment:
    theirs, ours = (environments.provide(it, *(HERE / file for file in files)) for it, files in ENVIRONMENTS[name])
    programs = [theirs / "bin" / "python", theirs / "bin" / "multi-model-server", ours / "bin" / "python"]
    return Environment(*programs, options.worker.resolve(), options.python_half)


def _with_models(name: str, programs: Environment, folder: Path) -> Environment:
    """Has the environment make the models that its cases serve."""
    if name not in MODELS:
        return programs
    command = [programs.their_python, HERE / "models.py", MODELS[name], folder]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit(f"the models could not be made:\n{made.stderr[-4000:]}")
    return programs._replace(models=folder)


def _endpoint(options: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    """Plays scripts in archives through the router, with the real toolkit and with our modules."""
    environment = {it: _provide(it, options) for it in ("toolkit", "compatible")}
    with tempfile.TemporaryDirectory(prefix="manifold-mms-") as folder:
        for name, flags in (("toolkit", ["--handler", TOOLKIT_HANDLER]), ("compatible", [])):
            programs = _with_models(name, environment[name], Path(folder) / name)
            command = [programs.their_python, HERE / "endpoint.py", programs.models, programs.worker.parent]
            done = subprocess.run([str(it) for it in [*command, "--python", programs.python, *flags]])
            yield f"endpoint, {name}", done.returncode == 0


def _results(chosen: list[Case], programs: dict[str, Environment]) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="manifold-mms-") as name:
        for number, settings in enumerate(dict.fromkeys(it.settings for it in chosen)):
            own = programs[settings.environment]
            own = _with_models(settings.environment, own, Path(name) / f"models{number}")
            roots = [Path(os.path.realpath(name)) / f"{side}{number}" for side in ("t", "o")]
            mms = start_mms(own, roots[0] / "server", settings)
            with running(mms), running(start_worker(own, roots[1] / "server", settings)) as worker:
                for case in chosen:
                    if case.settings == settings:
                        yield _result(
                            case, play(case, mms, roots[0], own.models), play(case, worker, roots[1], own.models)
                        )


def _result(case: Case, theirs: dict[str, Fields], ours: dict[str, Fields]) -> Result:
    found = [
        Difference(case.name, step, field, *values, *_intended(case.name, step, field, values))
        for step in theirs
        for field, values in differences(theirs[step], ours[step]).items()
    ]
    return Result(case, theirs, found)


def _print(result: Result, shows_all: bool) -> None:
    print(f"{'FAILED' if result.unlisted else 'ok':6} {result.case.name} ({len(result.theirs)} answers)", flush=True)
    for step, found in result.theirs.items() if shows_all else ():
        print(f"       {step}: {found.get('status', '')} {_short({k: v for k, v in found.items() if k not in HIDDEN})}")
    for it in result.unlisted:
        print(f"       {it.step}: {it.field}: not listed")
        print(f"         theirs {_short(it.theirs)}\n         ours   {_short(it.ours)}")


def _intended(case: str, step: str, field: str, values: tuple[Any, Any]) -> tuple[Intended | None, Rule | None]:
    for intended in INTENDED:
        for rule in intended.rules:
            if rule.matches(case, step, field, values):
                return intended, rule
    return None, None


def _conclude(results: list[Result], played: dict[str, bool], options: argparse.Namespace) -> int:
    seen = {it.rule for result in results for it in result.differences}
    stale = [rule for intended in INTENDED for rule in intended.rules if rule not in seen and not options.only]
    for rule in stale:
        print(f"FAILED listed, and there no more: {tuple(rule)}")
    for name in (it for it, is_well in played.items() if not is_well):
        print(f"FAILED {name}")
    if options.table:
        print("\n" + "\n".join([*_cases_table(results), "", *_reasons_table(results)]))
    outcomes = [*(not it.unlisted for it in results), *played.values(), *(False for _ in stale)]
    print(f"\n{sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed, 0 skipped", flush=True)
    return 0 if all(outcomes) else 1


def _cases_table(results: list[Result]) -> Iterator[str]:
    yield "| handler | what it does | answers | compared |"
    yield "| --- | --- | ---: | --- |"
    for result in results:
        # What all answers have is said once.
        keys = sorted({it.intended.key for it in result.differences if it.intended and not it.intended.is_everywhere})
        yield f"| `{result.case.name}` | {result.case.what} | {len(result.theirs)} | {', '.join(keys) or 'same'} |"


def _reasons_table(results: list[Result]) -> Iterator[str]:
    yield "| difference | there | here | why |"
    yield "| --- | --- | --- | --- |"
    for it in INTENDED:
        if any(found.intended is it for result in results for found in result.differences):
            yield f"| {it.key} | {it.there} | {it.here} | {it.why} |"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


if __name__ == "__main__":
    sys.exit(main())
