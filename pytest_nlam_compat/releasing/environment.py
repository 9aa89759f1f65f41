"""An environment with a release of neural-lam, on top of the running one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

_NOT_INHERITED = ("NLAM_COMPAT_", "PYTEST_")


@dataclass(frozen=True)
class Environment:
    """A Python, and what comes first where it looks for modules."""

    python: Path
    project: Path

    def run(
        self, *arguments: str, quiet: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in the folder of the project.

        Its output is shown on stderr as it comes, and returned if `quiet`.
        """
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_NOT_INHERITED)
        }
        variables["PYTHONPATH"] = str(self.project)
        pipe, stderr = subprocess.PIPE, 2
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=self.project,
            env=variables,
            stdout=pipe if quiet else stderr,
            stderr=pipe if quiet else stderr,
            text=True,
        )


def build(folder: Path, requirement: str, constraints: Path | None) -> Path:
    """Build an environment anew, and return its Python.

    What the running environment has and the release accepts is not installed
    again: torch is large.
    """
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / scripts / "python"
    shutil.rmtree(folder, ignore_errors=True)
    _insist("venv", sys.executable, "-m", "venv", str(folder))
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    lines = [f"{path}\n" for path in _packages_here()]
    (site / "below.pth").write_text("".join(lines), encoding="utf-8")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    if constraints:
        pip += ["--constraint", str(constraints)]
    _insist("pip", *pip, requirement)
    return python


def _packages_here() -> list[str]:
    """Return where the running Python looks for installed packages."""
    python = {*map(sysconfig.get_path, ("stdlib", "platstdlib", "scripts"))}
    return [
        path
        for path in dict.fromkeys(sys.path)
        if os.path.isabs(path)
        and os.path.isdir(path)
        and path not in python
        and not path.endswith("lib-dynload")
    ]


def _insist(what: str, *command: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or ["no output"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise CompatError(
            f"The environment for the release can't be built: {what} failed.",
            facts={
                "command": shlex.join(command),
                "cause": (errors or lines)[-1],
            },
            remedy="Fix the cause. If a pin of constraints.txt excludes what "
            "the release requires, change the pin; with --neural-lam, name "
            "another requirement, file or URL. Then run this again.",
        )
