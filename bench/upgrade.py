"""What upgrading and inspecting a large checkpoint costs, beside ``cp``.

``nox -s bench`` runs it. It makes checkpoints of about 1 GB with AdamW moments
on a RAM disk, and runs each command in turn with ``cp``, several times, as
processes of their own. It ends with exit status 1 when a bound is broken. A
bound is on the ratio of the medians in one run, on CPU time or on memory. An
upgrade that needs values imports torch: for it, the time and the memory of
that import are measured beside it and added to its bounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RAM_DISK = Path("/dev/shm")

MAX_RATIO = 1.3
MAX_RATIO_WITH_TORCH = 1.6
MAX_MEGABYTES = 64.0
MAX_INSPECT_SECONDS = 0.3

_COMPILED_ANEW = "PYTHONDONTWRITEBYTECODE"
# The command as users have it.
_COMPAT = str(Path(sys.executable).with_name("nlam-compat"))

# Importing neural-lam takes seconds, and is not what is compared: both get
# classes of the same names.
_CLASSES = """
import sys, types
import torch
config = types.ModuleType("neural_lam.config")
sys.modules["neural_lam"] = types.ModuleType("neural_lam")
sys.modules["neural_lam.config"] = config
for name in (
    "DatastoreSelection NeuralLAMConfig OutputClamping TrainingConfig "
    "UniformFeatureWeighting"
).split():
    setattr(config, name, type(name, (), {"__module__": config.__name__}))
content = torch.load(sys.argv[1], weights_only=False)
"""
_WITH_TORCH = (
    _CLASSES
    + """
weights = content["state_dict"]
content["state_dict"] = {
    f"forecaster.predictor.{name}": weights[name] for name in weights
}
torch.save(content, sys.argv[2])
"""
)
_LIGHTNING = (
    _CLASSES
    + """
from pytorch_lightning.utilities.migration import migrate_checkpoint
migrate_checkpoint(content)
torch.save(content, sys.argv[2])
"""
)


@dataclass(frozen=True)
class Contender:
    """One of the commands that are compared.

    Attributes
    ----------
    what : str
        In words.
    command : tuple of str
    ratio : float, optional
        Bound on its wall time over that of ``cp``.
    cpu : float, optional
        Bound on its CPU time, in s.
    with_torch : bool, optional
        Whether the import of torch is added to its bounds.
    """

    what: str
    command: tuple[str, ...]
    ratio: float | None = None
    cpu: float | None = None
    with_torch: bool = False


@dataclass(frozen=True)
class Run:
    """What a process took: s, s, MB."""

    wall: float
    cpu: float
    memory: float


def main() -> int:
    """Measure everything and print the table.

    Returns
    -------
    int
        0 if all bounds hold.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=5, metavar="N")
    parser.add_argument("--megabytes", type=int, default=1000, metavar="N")
    parser.add_argument(
        "--folder",
        type=Path,
        default=RAM_DISK if RAM_DISK.is_dir() else None,
        help="where to work (default: the RAM disk)",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        contenders = prepare(Path(folder), arguments.megabytes)
        # The first of all fills caches, and counts for nobody.
        for contender in contenders:
            measure(contender, Path(folder))
        runs = [
            [measure(contender, Path(folder)) for contender in contenders]
            for _ in range(arguments.repeat)
        ]
    return show(contenders, runs, arguments.megabytes)


def prepare(folder: Path, megabytes: int) -> list[Contender]:
    """Make the checkpoints, and the commands on them.

    Parameters
    ----------
    folder : Path
        On the RAM disk.
    megabytes : int
        About how large each is.

    Returns
    -------
    list of Contender
        ``cp`` is the first, and the import of torch the second.
    """
    renamed = enlarge("0.6.0", folder, megabytes)
    folded = enlarge("0.3.0", folder, megabytes)
    new = str(folder / "new.ckpt")
    upgrade = (_COMPAT, "upgrade")
    return [
        Contender("cp", ("cp", str(renamed), new)),
        Contender("import torch", (sys.executable, "-c", "import torch")),
        Contender(
            "upgrade, only renames",
            (*upgrade, str(renamed), "-o", new),
            ratio=MAX_RATIO,
        ),
        Contender(
            "upgrade, one tensor folded",
            (
                *(*upgrade, str(folded), "-o", new),
                *("--statistics", str(folded.with_suffix(".json"))),
                *("--graph-root", str(folded.with_suffix(".graph"))),
                *("--graph-out", str(folder / "new")),
            ),
            ratio=MAX_RATIO_WITH_TORCH,
            with_torch=True,
        ),
        Contender(
            "inspect",
            (_COMPAT, "inspect", str(renamed)),
            cpu=MAX_INSPECT_SECONDS,
        ),
        Contender(
            "torch.load, rename, torch.save",
            (sys.executable, "-c", _WITH_TORCH, str(renamed), new),
        ),
        Contender(
            "Lightning's migration",
            (sys.executable, "-c", _LIGHTNING, str(renamed), new),
        ),
    ]


def enlarge(release: str, folder: Path, megabytes: int) -> Path:
    """Write the reference of a release with many more weights.

    Parameters
    ----------
    release : str
    folder : Path
        Gets its graph and statistics too, if it is old enough to need them.
    megabytes : int

    Returns
    -------
    Path
        The checkpoint.
    """
    # In a process of its own, so that the memory is free again.
    path = folder / f"{release}.ckpt"
    subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("enlarging.py"))),
            *(str(ROOT / "fixtures" / f"{release}.zip"), str(path)),
            str(megabytes),
        ],
        check=True,
    )
    return path


def measure(contender: Contender, folder: Path) -> Run:
    """Run a command once.

    Parameters
    ----------
    contender : Contender
    folder : Path
        What it writes there is removed.

    Returns
    -------
    Run
    """
    # An installed package is compiled once: the first round does it here.
    compiled = {k: v for k, v in os.environ.items() if k != _COMPILED_ANEW}
    begun = time.perf_counter()
    process = subprocess.Popen(
        contender.command, stdout=subprocess.DEVNULL, env=compiled
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{contender.what} failed: {process.returncode}")
    (folder / "new.ckpt").unlink(missing_ok=True)
    shutil.rmtree(folder / "new", ignore_errors=True)
    # In kB, and on macOS in bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def show(
    contenders: Sequence[Contender], runs: list[list[Run]], megabytes: int
) -> int:
    """Print the table; return 1 if a bound is broken."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(
        f"{megabytes} MB, {len(runs)} rounds, {cores()} cores, load {load}; "
        "shortest, and medians"
    )
    print(
        f"{'':<32}{'shortest':>9}{'wall':>9}{'/ cp':>7}{'CPU':>9}{'memory':>10}"
    )
    cp, torch = (
        middle([row[column] for row in runs], lambda run: run.wall)
        for column in (0, 1)
    )
    torch_memory = max(row[1].memory for row in runs)
    broken = []
    for column, contender in enumerate(contenders):
        of_it = [row[column] for row in runs]
        best = min(run.wall for run in of_it)
        wall = middle(of_it, lambda run: run.wall)
        cpu = middle(of_it, lambda run: run.cpu)
        memory = max(run.memory for run in of_it)
        print(
            f"{contender.what:<32}{best:>7.2f} s{wall:>7.2f} s"
            f"{wall / cp:>7.2f}{cpu:>7.2f} s{memory:>7.0f} MB"
        )
        more, limit = 0.0, MAX_MEGABYTES
        if contender.with_torch:
            more, limit = torch, limit + torch_memory
        if contender.ratio and wall > contender.ratio * cp + more:
            broken.append(f"{contender.what}: {(wall - more) / cp:.2f} x cp")
        if contender.cpu and cpu > contender.cpu:
            broken.append(f"{contender.what}: {cpu:.2f} s of CPU")
        if (contender.ratio or contender.cpu) and memory > limit:
            broken.append(f"{contender.what}: {memory:.0f} MB")
    print(
        f"bounds: upgrade {MAX_RATIO} x cp, with values "
        f"{MAX_RATIO_WITH_TORCH} x cp and the import of torch; inspect "
        f"{MAX_INSPECT_SECONDS} s of CPU; each {MAX_MEGABYTES:.0f} MB, beyond "
        "torch's own"
    )
    for line in broken:
        print(f"BROKEN {line}")
    return 1 if broken else 0


def middle(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    """Return the median of a figure."""
    return statistics.median(of(run) for run in runs)


def cores() -> int:
    """Count the cores that may be used."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
