"""One edited neural-lam in a process of its own, and what is said of it."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mutants import Mutant

CHECKOUT = Path(__file__).resolve().parents[2]
FIXTURES = CHECKOUT / "fixtures"
_LONGEST_S = 240.0
_LONGEST_SEARCH_S = 60.0


@dataclass
class Outcome:
    """What came of one mutant.

    Attributes
    ----------
    failed : dict of str to str
        Checks that failed, by reference and name, with their message.
    kind, module, cause, line : str
        Of the diagnosis of the first reference; the cause as verified steps
        show it.
    keys : list of str
        What identifies the cause, for each reference that fails.
    seconds : float
        Of the diagnosis.
    step : str
        The suggested step, as Python, if one was verified.
    verified : bool
    general : bool
        Whether no width is in the step.
    report : str
        Of the search.
    suggesting : float
        Its seconds.
    after : dict of str to str
        Checks that fail with the step.
    """

    failed: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    module: str = ""
    cause: str = ""
    line: str = ""
    keys: list[str] = field(default_factory=list)
    seconds: float = 0.0
    step: str = ""
    verified: bool = False
    general: bool = False
    report: str = ""
    suggesting: float = 0.0
    after: dict[str, str] = field(default_factory=dict)


def edited(mutant: Mutant, folder: Path) -> Path:
    """Write an edited copy of the installed neural-lam."""
    spec = importlib.util.find_spec("neural_lam")
    source = Path(spec.origin).parent
    copy = folder / "edited" / "neural_lam"
    shutil.copytree(
        source, copy, ignore=shutil.ignore_patterns("__pycache__", "tests")
    )
    # An install, as that of a pull request is, that knows its version.
    (metadata,) = source.parent.glob("neural_lam-*.dist-info")
    shutil.copytree(metadata, copy.with_name(metadata.name))
    for name, old, new in mutant.edits:
        if not old:
            (copy / name).parent.mkdir(exist_ok=True)
            (copy / name).write_text(new, encoding="utf-8")
            continue
        files = list(copy.rglob("*.py")) if name == "*" else [copy / name]
        found = 0
        for file in files:
            text = file.read_text(encoding="utf-8")
            found += text.count(old)
            if old in text:
                file.write_text(text.replace(old, new), encoding="utf-8")
        # Else the edit is none, and the verdict about nothing.
        assert found, (mutant.name, name, old)
    return copy.parent


def run(mutant: Mutant, folder: Path, *, suggest: bool = True) -> Outcome:
    """Check, diagnose and fix one mutant in a process of its own."""
    context = multiprocessing.get_context("fork")
    path = edited(mutant, folder)
    answer = folder / "outcome.json"
    process = context.Process(
        target=_child, args=(mutant, folder, path, answer, suggest)
    )
    process.start()
    process.join(_LONGEST_S)
    if process.is_alive():
        process.kill()
        process.join()
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert answer.exists(), f"{mutant.name}: no outcome\n{log}"
    return Outcome(**json.loads(answer.read_text(encoding="utf-8")))


def _child(
    mutant: Mutant, folder: Path, path: Path, answer: Path, suggest: bool
) -> None:
    log = os.open(folder / "log.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("neural_lam", "pytest_nlam_compat"):
            del sys.modules[name]
    sys.path.insert(0, str(path))
    importlib.invalidate_caches()
    from checking import check

    outcome = check(mutant, folder, FIXTURES, suggest=suggest)
    outcome_file = answer.with_suffix(".part")
    outcome_file.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    outcome_file.rename(answer)


def right(mutant: Mutant, outcome: Outcome) -> str:
    """Say what is wrong with an outcome; empty where nothing is."""
    red = bool(outcome.failed)
    if red != bool(mutant.kind):
        return f"verdict: {outcome.failed or 'green'}"
    if not red:
        return ""
    if outcome.kind != mutant.kind:
        return f"kind: {outcome.kind} ({outcome.cause} in {outcome.module})"
    if mutant.module not in outcome.module:
        return f"module: {outcome.module}"
    if mutant.says not in outcome.cause:
        return f"cause: {outcome.cause}"
    if mutant.line not in outcome.line:
        return f"line: {outcome.line}"
    if len(set(outcome.keys)) > 1:
        return f"several causes: {outcome.keys}"
    return ""


def wrong_fix(mutant: Mutant, outcome: Outcome) -> str:
    """Say what is wrong with the step; empty where nothing is."""
    if not mutant.fixable:
        return f"verified: {outcome.step}" if outcome.verified else ""
    if not outcome.verified:
        return "no verified step"
    if outcome.suggesting > _LONGEST_SEARCH_S:
        return f"searching took {outcome.suggesting:.0f} s"
    if not outcome.general:
        return "the step fits some widths only"
    if outcome.after:
        return f"with the step: {outcome.after}"
    return ""


def timed(mutant: Mutant, folder: Path) -> tuple[Outcome, float]:
    """Run one mutant and say how long it took."""
    begin = time.perf_counter()
    outcome = run(mutant, folder)
    return outcome, time.perf_counter() - begin
