"""Where a reader stands: a clone of neural-lam, with an old checkpoint in it.

The package is installed, so that references are downloaded, from a server on
the loopback interface.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import mdp_dataset
import nlam_runs
from blocks import Block, edits, words_of
from histories import History
from nlam_runs import FIXTURES, ONE, SHIPPED, Project

from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive

# Of the machine.
_PLACES = (
    "platform ",
    "nlam-compat: neural-lam ",
    "nlam-compat: torch ",
    "rootdir: ",
    "configfile: ",
    "plugins: ",
)
_SHELL = set("|&;<>$`*?") - {"*"}
# neural-lam sees no forecast in domains as small as those of references.
_RIM = (
    "neural_lam/datastore/mdp.py",
    "n_boundary_points: int = 30",
    "n_boundary_points: int = 1",
)


class Workspace:
    """A folder in which the blocks of a page are done, one after the other."""

    def __init__(self, folder: Path, url: str) -> None:
        self.clone = History(folder / "neural-lam")
        self.folder = self.clone.folder
        self._package = _installed_package(folder)
        self._variables = {
            "PYTHONPATH": os.pathsep.join(map(str, self._path)),
            "PATH": os.pathsep.join(
                (str(Path(sys.executable).parent), os.environ["PATH"])
            ),
            "NLAM_COMPAT_CACHE": str(folder / "cache"),
            "NLAM_COMPAT_URL": url,
            "NO_PROXY": "127.0.0.1",
            "COLUMNS": "100",
        }
        self._clone_neural_lam()
        self._old_checkpoints()

    @property
    def _path(self) -> list[Path]:
        return [self.folder, self._package]

    def _clone_neural_lam(self) -> None:
        installed = Path(importlib.util.find_spec("neural_lam").origin).parent
        without = shutil.ignore_patterns("__pycache__")
        copy = self.folder / "neural_lam"
        shutil.copytree(installed, copy, ignore=without)
        self.clone.edit(*_RIM)
        self.clone.write("pyproject.toml", "[tool.pytest.ini_options]\n")
        self.clone.commit("Release 0.7.0")
        self.clone.git("tag", "v0.7.0")
        self.clone.git("config", "core.excludesFile", self._unfollowed())

    def _unfollowed(self) -> str:
        file = self.folder / ".git" / "unfollowed"
        file.write_text("*\n!neural_lam/**\n!*/\n__pycache__\n")
        return str(file)

    def _old_checkpoints(self) -> None:
        old = _reference("0.5.0", "graph_lam-square")
        old.write(self.folder).rename(self.folder / "old.ckpt")
        mdp_dataset.write_case(self.folder, old.dataset)
        for name, release in (("a", "0.6.0"), ("b", "0.5.0"), ("c", "0.7.0")):
            folder = self.folder / "runs" / name
            written = _reference(release, "graph_lam").write(folder)
            written.rename(folder / "best.ckpt")

    def do(self, block: Block) -> None:
        """Do what a block says, and insist on what it shows."""
        if block.directive == "edit":
            for edit in edits(block.content):
                self.clone.edit(*edit)
            self.clone.commit(block.argument or "Change")
        elif block.directive == "file":
            self.clone.write(block.argument, block.content)
        elif block.language == "python":
            self._run_python(block)
        for command, expected in block.commands():
            status, output = self.run(command)
            print(f"$ {command}", *output, f"status {status}", sep="\n")
            wanted = int(block.argument) if block.directive == "run" else 0
            assert status == wanted, f"{block}: {command}"
            if block.language == "console":
                insist(stable(output), stable(expected), block)

    def run(self, command: str) -> tuple[int, list[str]]:
        """Run a command in a shell; return its status, and what it printed."""
        program, *words = words_of(command)
        if not _SHELL & set(command) and program in ("pytest", "nlam-compat"):
            # As a user does, but quick.
            where = self.folder, self._path, self._variables
            if program == "pytest":
                done = nlam_runs.run(words, *where)
                return int(done.ret), [*done.outlines, *done.errlines]
            told = nlam_runs.command(words, *where)
            return told.returncode, (told.stderr + told.stdout).splitlines()
        shell = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=_without_pytest() | self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return shell.returncode, shell.stdout.splitlines()

    def _run_python(self, block: Block) -> None:
        if re.search(r"^def test_", block.content, re.MULTILINE):
            name = f"test_line_{block.line}.py"
            self.clone.write(name, block.content)
            arguments = [name, *ONE[1:]]
            where = self.folder, self._path, self._variables
            done = nlam_runs.run(arguments, *where)
            assert int(done.ret) == 0, str(block)
        else:
            script = self.clone.write(f"line_{block.line}.py", block.content)
            status, output = self.run(f"python {script.name}")
            assert status == 0, "\n".join([str(block), *output])


def insist(
    output: Sequence[str], expected: Sequence[str], where: object
) -> None:
    """Insist that an output goes as shown; ``...`` stands for anything."""
    left = iter(output)
    anything = False
    for line in expected:
        if line == "...":
            anything = True
            continue
        pattern = re.sub(r"([\[*?])", r"[\1]", line).replace("...", "*")
        for found in left:
            if fnmatchcase(found, pattern):
                break
            assert anything, f"{where}: {found!r} is not {line!r}"
        else:
            raise AssertionError(f"{where}: nothing is {line!r}")
        anything = False
    assert anything or not list(left), f"{where}: there is more"


def stable(lines: Sequence[str]) -> list[str]:
    """Return lines without what differs between machines and runs."""
    found = []
    for line in lines:
        if line.startswith(_PLACES):
            continue
        # A header's dashes fill the line.
        line = re.sub(r"^=+ | =+$", "", line.rstrip())
        # The header of a run ends with where references are.
        line = re.sub(r"^(nlam-compat: .+), from .+$", r"\1", line)
        line = re.sub(r"\d+\.\d+s( \(\d:\d+:\d+\))?$", "# s", line)
        line = re.sub(r"\d+(\.\d+)?e[-+]\d+", "#", line)
        # In a matrix, columns move with the numbers in them.
        found.append(re.sub(r" {2,}", "  ", re.sub(r"<?\d+ ?%", "#%", line)))
    # pytest ends an error with an empty line.
    while found and not found[-1]:
        found.pop()
    return found


def _installed_package(folder: Path) -> Path:
    """Lay the package out as a wheel does."""
    project = Project(folder)
    copy = project.package()
    for name in SHIPPED:
        shutil.copy(FIXTURES / name, copy / "references" / name)
    return copy.parent


def _reference(release: str, case: str) -> Reference:
    return Reference(ReleaseArchive(FIXTURES / f"{release}.zip"), case)


def _without_pytest() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
