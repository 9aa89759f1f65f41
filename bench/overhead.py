"""What the plugin costs: while it checks, and while it is only installed.

``nox -s bench`` runs it. It prints a table of what was measured and of the
bounds, and ends with exit status 1 when a bound is broken.

Checking is compared with a bare loop: a process that imports neural_lam, loads
every reference on both routes, rolls it out and trains on as the checks do, and
looks at nothing. Both are run in turn, several times, and medians are taken.
The ratio is one of CPU time: whatever else the machine does adds to wall time
by chance.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

ROOT = Path(__file__).resolve().parents[1]
CORES = 2

MAX_RATIO = 1.2
MAX_SECONDS = 90.0
MAX_MODULES = 5
HEAVY = frozenset({"neural_lam", "numpy", "pooch", "safetensors", "torch"})

# What else is installed has costs of its own.
_ONLY_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
# Python compiles a module once, unless it is told not to keep the result.
_COMPILED_ANEW = "PYTHONDONTWRITEBYTECODE"
OURS = ("-p", "nlam_compat")
# Plugins that the checks take fixtures from.
NEEDED = ("-p", "regressions", "-p", "pytest-datadir")

# Run by `python -c` with the file for its answer and the options of pytest.
_COUNT_MODULES = """
import json, pathlib, sys
import pytest
status = pytest.main(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(json.dumps(sorted(sys.modules)))
sys.exit(status)
"""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    what, bound, measured : str
    held : bool
    """

    what: str
    bound: str
    measured: str
    held: bool


@dataclass(frozen=True)
class Run:
    """What a process took.

    Attributes
    ----------
    wall, cpu : float
        In s; the latter in user and system mode.
    references : int
        How many it ran.
    """

    wall: float
    cpu: float
    references: int

    def __str__(self) -> str:
        return f"{self.wall:.1f} s (CPU {self.cpu:.1f} s)"


class BenchmarkError(Exception):
    """What was to be measured did not run as it should."""


def main() -> int:
    """Measure everything and print the table.

    Returns
    -------
    int
        0 if all bounds hold.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        metavar="N",
        help="runs of the checks and of the bare loop (default: 3)",
    )
    # How this file runs itself, in a process of its own.
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(bare_loop(), "references")
        return 0
    use_two_cores()
    try:
        rows = [*idle_rows(), *checking_rows(arguments.repeat)]
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print_table(rows)
    return 0 if all(row.held for row in rows) else 1


def bare_loop() -> int:
    """Load and roll out every reference as the checks do, and no more.

    Returns
    -------
    int
        Number of references.
    """
    import torch

    from pytest_nlam_compat.adapters.probe import probe, select_adapter
    from pytest_nlam_compat.errors import CompatError
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.references.release_archive import ReleaseArchive
    from pytest_nlam_compat.references.store import Store
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )
    from pytest_nlam_compat.under_test.resumed_training import resume

    adapter = select_adapter(probe())
    store = Store.locate()
    cpu = torch.device("cpu")
    count = 0
    for release in store.releases:
        if release > adapter.current.release:
            continue
        archive = ReleaseArchive(store.archive(release))
        for case in archive.cases:
            reference = Reference(archive, case)
            if adapter.cannot_run(reference.description["model"]):
                continue
            count += 1
            with tempfile.TemporaryDirectory() as folder:
                subject = ReferenceUnderTest(
                    reference, adapter, Path(folder), cpu
                )
                # Some are too old for the current code's own loader.
                with suppress(CompatError):
                    native = subject.native_model(torch.float64)
                    subject.outputs(native, torch.float64)
                for dtype in (torch.float64, torch.float32):
                    subject.outputs(subject.migrated_model(dtype), dtype)
                subject.batch()
                for dtype in (torch.float64, torch.float32):
                    subject.loss(dtype)
                subject.sample_count()
                resume(subject)
                if release == store.releases[-1]:
                    save_and_load(subject, Path(folder))
    return count


def save_and_load(subject: ReferenceUnderTest, folder: Path) -> None:
    """Train for a step, save, load, and roll out what was saved and loaded."""
    import torch

    from pytest_nlam_compat.under_test.new_checkpoint import save_new

    new = save_new(subject, folder)
    loaded = subject.load_natively(new.path, torch.float32, "migrated")
    for module in (loaded, new.module):
        module.to(torch.float64)
        subject.outputs(module, torch.float64)
        subject.loss(torch.float64, module)


def checking_rows(repeat: int) -> list[Row]:
    """Compare the checks with the bare loop.

    Parameters
    ----------
    repeat : int
        Runs of each.

    Returns
    -------
    list of Row

    Raises
    ------
    BenchmarkError
        If a run fails, or if the two ran different references.
    """
    pytest_ = [sys.executable, "-m", "pytest", *OURS, *NEEDED]
    pytest_.append("--nlam-compat")
    bare_ = [sys.executable, __file__, "--bare"]
    checks: list[Run] = []
    bare: list[Run] = []
    for number in range(1, repeat + 1):
        checks.append(timed(pytest_))
        bare.append(timed(bare_))
        if checks[-1].references != bare[-1].references:
            raise BenchmarkError(
                f"The checks ran {checks[-1].references} references and the "
                f"bare loop {bare[-1].references}."
            )
        print(
            f"run {number} of {repeat}: checks {checks[-1]}, "
            f"bare loop {bare[-1]}",
            flush=True,
        )
    wall = statistics.median(run.wall for run in checks)
    ratio = statistics.median(run.cpu for run in checks) / statistics.median(
        run.cpu for run in bare
    )
    return [
        Row(
            f"checks of {checks[0].references} references, over a bare loop",
            f"{MAX_RATIO:.2f}x",
            f"{ratio:.2f}x",
            ratio <= MAX_RATIO,
        ),
        Row(
            f"the same on {CORES} cores",
            f"{MAX_SECONDS:.0f} s",
            f"{wall:.1f} s",
            wall < MAX_SECONDS,
        ),
    ]


def idle_rows() -> list[Row]:
    """Count what a pytest run imports more because the plugin is installed.

    Once beside the other plugins of the environment, and once alone: what
    another plugin imports as well would hide among the former.

    Returns
    -------
    list of Row
    """
    rows = []
    for where, with_plugin, without in (
        ("beside others", [], ["-p", "no:nlam_compat"]),
        ("alone", OURS, []),
    ):
        alone = where == "alone"
        more = _modules(with_plugin, alone) - _modules(without, alone)
        heavy = sorted({name.partition(".")[0] for name in more} & HEAVY)
        rows += [
            Row(
                f"modules that it adds to an empty run, {where}",
                str(MAX_MODULES),
                str(len(more)),
                len(more) <= MAX_MODULES,
            ),
            Row(
                f"heavy packages among them, {where}",
                "none",
                ", ".join(heavy) or "none",
                not heavy,
            ),
        ]
    return rows


def _modules(options: Sequence[str], alone: bool) -> set[str]:
    """Names of all modules after pytest has run an empty test file."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "modules.json"
        Path(folder, "test_empty.py").touch()
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                _COUNT_MODULES,
                str(answer),
                "--rootdir=.",
                "test_empty.py",
                *options,
            ],
            cwd=folder,
            env=_environment() | (_ONLY_OURS if alone else {}),
            capture_output=True,
            text=True,
        )
        no_tests = 5
        if done.returncode != no_tests:
            raise BenchmarkError(
                f"pytest on an empty file failed:\n{done.stdout}{done.stderr}"
            )
        return set(json.loads(answer.read_text()))


def timed(command: Sequence[str]) -> Run:
    """Run a command that tells how many references it ran."""
    started = time.perf_counter()
    before = os.times()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=_environment() | _ONLY_OURS,
        capture_output=True,
        text=True,
    )
    after = os.times()
    wall = time.perf_counter() - started
    references = re.search(r"(\d+) references", done.stdout)
    if done.returncode != 0 or references is None:
        raise BenchmarkError(
            f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        )
    cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return Run(wall, cpu, int(references[1]))


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != _COMPILED_ANEW}


def use_two_cores() -> None:
    """Keep this process and all that it starts on two cores."""
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, mine[:CORES])
    else:
        os.environ["OMP_NUM_THREADS"] = str(CORES)


def print_table(rows: Sequence[Row]) -> None:
    """Print what was measured beside its bounds."""
    table = [("", "bound", "measured", "")]
    table += [
        (row.what, row.bound, row.measured, "" if row.held else "BROKEN")
        for row in rows
    ]
    widths = [max(len(line[i]) for line in table) for i in range(4)]
    for what, bound, measured, verdict in table:
        print(
            f"{what:<{widths[0]}}  {bound:>{widths[1]}}  "
            f"{measured:>{widths[2]}}  {verdict}".rstrip()
        )


if __name__ == "__main__":
    sys.exit(main())
