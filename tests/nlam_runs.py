"""Runs of pytest, and of commands, in processes quick enough to have many.

Each is forked off a server that has imported what neural-lam builds upon, but
neither neural-lam nor this package: importing torch and the rest takes longer
than all checks of a reference.
"""

from __future__ import annotations

import hashlib
import importlib.util
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "pytest_nlam_compat"
FIXTURES = CHECKOUT / "fixtures"
# What a wheel has of them: pyproject.toml includes it.
SHIPPED = ("native_routes.txt", "registry.txt", "release_evidence.json")
# Checks of what a model of the current code computes.
CHECKS = {
    "test_opens",
    "test_native",
    "test_loads",
    "test_outputs",
    "test_outputs_float32",
    "test_batch",
    "test_evaluates",
    "test_loss",
    "test_resumes",
    "test_saves",
}
# A run of one small reference.
ONE = (
    "--nlam-compat",
    "--nlam-compat-release===0.7.0",
    "--nlam-compat-case=graph_lam",
)

_PRELOADED = [
    "cartopy.mpl.geoaxes",
    "dask.array",
    "dataclass_wizard",
    "matplotlib.pyplot",
    "mlflow.pytorch",
    "mllam_data_prep",
    "networkx",
    "pytorch_lightning",
    "safetensors.torch",
    "scipy.spatial",
    "torch_geometric",
    "xarray",
]
_ALWAYS = (
    # What plugins the server imported along can't be rewritten any more.
    "-Wignore::pytest.PytestAssertRewriteWarning",
    # Slow, and of no use here.
    "-pno:hypothesispytest",
)
# All references, on a machine with other work to do.
_LONGEST_RUN_S = 600.0
_NOT_INHERITED = (
    "NLAM_COMPAT_",
    "PYTEST_",
    "GITHUB_",
    "PYTHONPATH",
    "MPLBACKEND",
    # By these pytest knows that it runs in CI, and cuts no lines there.
    "CI",
    "BUILD_NUMBER",
)


class Project:
    """A folder in which pytest is run, like somebody's repository.

    `path` comes first where modules are looked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: list[Path] = []
        self.write("pytest.ini", "[pytest]\n")

    def write(self, name: str, text: str) -> Path:
        """Write a file of the repository."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def neural_lam(self, *edits: tuple[str, str, str]) -> Path:
        """Make an edited copy of the installed neural-lam the current code.

        An edit is a file, what stands there exactly once, and what is to
        stand there instead; with ``*`` as file, each occurrence anywhere.
        """
        spec = importlib.util.find_spec("neural_lam")
        copy = self.folder / "edited" / "neural_lam"
        shutil.copytree(Path(spec.origin).parent, copy)
        for name, old, new in edits:
            files = copy.rglob("*.py") if name == "*" else [copy / name]
            texts = {file: file.read_text(encoding="utf-8") for file in files}
            found = sum(text.count(old) for text in texts.values())
            # Else neural-lam has changed, and the edit has to as well.
            assert found if name == "*" else found == 1, (name, old, found)
            for file, text in texts.items():
                if old in text:
                    file.write_text(text.replace(old, new), encoding="utf-8")
        self.path.insert(0, copy.parent)
        return copy

    def package(self) -> Path:
        """Make a copy of this package the one that is run."""
        copy = self.folder / "site" / PACKAGE.name
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, copy, ignore=without)
        self.path.insert(0, copy.parent)
        return copy

    def run(self, *args: str, **environment: str) -> pytest.RunResult:
        """Run pytest here, and insist that no frozen file is touched.

        By default each check is shown.
        """
        before = frozen()
        if not any(re.fullmatch("-[qv]+", each) for each in args):
            args = (*args, "-v")
        result = run(args, self.folder, self.path, environment)
        assert frozen() == before
        return result


def frozen(folder: Path = FIXTURES) -> dict[str, str]:
    """Return the hash of each file that must never change."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
    }


def run(
    args: Sequence[str],
    folder: Path,
    path: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> pytest.RunResult:
    """Run pytest in a folder, with other places first on the path."""
    args = [*args, f"--basetemp={folder / 'temporary'}", *_ALWAYS]
    started = time.perf_counter()
    done = forked(_pytest, args, folder, path, environment)
    took = time.perf_counter() - started
    out, err = done.stdout.splitlines(), done.stderr.splitlines()
    # For whoever looks into a failed test.
    print(*out, *err, sep="\n")
    return pytest.RunResult(done.returncode, out, err, took)


def command(
    args: Sequence[object],
    folder: Path,
    path: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``nlam-compat`` in a folder, with other places first on the path."""
    return forked(_nlam_compat, args, folder, path, environment)


def forked(
    main: Callable[[list[str]], int],
    args: Sequence[object],
    folder: Path,
    path: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a function that returns an exit status, in a folder."""
    first = list(map(str, path))
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_INHERITED)
    }
    variables |= {"COLUMNS": "80", "PYTHONPATH": os.pathsep.join(first)}
    variables |= environment or {}
    args = list(map(str, args))
    with TemporaryDirectory() as written:
        outputs = Path(written, "stdout.txt"), Path(written, "stderr.txt")
        process = _context().Process(
            target=_run,
            args=(
                *(main, args, folder, first, variables, outputs),
                _bytecode().name,
            ),
        )
        process.start()
        process.join(_LONGEST_RUN_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        out, err = (output.read_text(encoding="utf-8") for output in outputs)
    return subprocess.CompletedProcess(args, process.exitcode, out, err)


def _context() -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


@cache
def _bytecode() -> TemporaryDirectory[str]:
    """Compile once what all runs import, wherever nothing else may."""
    return TemporaryDirectory(prefix="nlam-runs-", ignore_cleanup_errors=True)


def _run(
    main: Callable[[list[str]], int],
    args: list[str],
    folder: Path,
    path: list[str],
    environment: dict[str, str],
    outputs: tuple[Path, Path],
    bytecode: str,
) -> None:
    for stream, output in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
    sys.dont_write_bytecode, sys.pycache_prefix = False, bytecode
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = path
    sys.exit(main(args))


def _pytest(args: list[str]) -> int:
    return int(pytest.main(args))


def _nlam_compat(args: list[str]) -> int:
    # The first import of it in this process: whichever is first on the path.
    from pytest_nlam_compat.cli import main

    warnings.simplefilter("ignore")
    return main(args)


def failed(result: pytest.RunResult) -> set[str]:
    """Return the names of the checks of models that failed."""
    pattern = r"^(?:FAILED|ERROR) nlam-compat::(\w+)\["
    found = re.findall(pattern, result.stdout.str(), re.MULTILINE)
    return CHECKS & set(found)


def matrix(result: pytest.RunResult) -> list[str]:
    """Return the lines of the closing matrix, without its legend."""
    lines = iter(result.outlines)
    for line in lines:
        if " neural-lam checkpoints " in line:
            return list(iter(lambda: next(lines), ""))
    return []


def cells(result: pytest.RunResult) -> dict[str, str]:
    """Return the cells of the closing matrix, by the id of the reference."""
    [header, *rows] = matrix(result)
    releases = {m.end(): m.group() for m in re.finditer(r"\S+", header)}
    found = {}
    for row in rows:
        case, *texts = re.finditer(r"\S+", row)
        for text in texts:
            found[f"{releases[text.end()]}-{case.group()}"] = text.group()
    return found


def shows_no_traceback(result: pytest.RunResult) -> bool:
    """Whether a user was spared our files and lines."""
    text = result.stdout.str() + result.stderr.str()
    ours = r"Traceback|INTERNALERROR|pytest_nlam_compat[/\\]"
    return not re.search(ours, text)


def error_lines(result: pytest.RunResult) -> list[str]:
    """Return what a run that could not begin said, and nothing else."""
    assert shows_no_traceback(result)
    assert not result.outlines, result.outlines
    return [line for line in result.errlines if line]
