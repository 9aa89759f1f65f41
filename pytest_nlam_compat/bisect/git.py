"""Asking git, and only what leaves the user's own working tree alone."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

# Set within a hook or an alias, they would lead git to another repository.
_PLACES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
# Hooks are the user's: they may do anything at a checkout.
_SETTINGS = (
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "gc.auto=0",
)


@dataclass(frozen=True)
class Git:
    """git in one folder.

    Attributes
    ----------
    folder : pathlib.Path
    alone : bool
        Whether the folder itself is to be the working tree: if it is none,
        then git fails, and does not take one that lies around it.
    """

    folder: Path
    alone: bool = False

    def __call__(self, *arguments: str) -> str:
        """Return what git prints.

        Raises
        ------
        CompatError
            With git's own words, if it fails.
        """
        done = self._run(*arguments)
        if done.returncode:
            raise failed(arguments[0], done.returncode, done.stderr)
        return done.stdout.strip()

    def ask(self, *arguments: str) -> str | None:
        """Return what git prints, None where it answers no."""
        done = self._run(*arguments)
        return None if done.returncode else done.stdout.strip()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin what takes long; its output and errors are one stream."""
        return subprocess.Popen(
            self._command(arguments),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                self._command(arguments),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError:
            raise CompatError(
                "git is not installed.",
                facts={"expected": "a program git on the PATH"},
                remedy="Install it.",
            ) from None

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in _PLACES}
        if self.alone:
            kept["GIT_CEILING_DIRECTORIES"] = str(self.folder.parent)
        # Its words are read here, so they must be in one language.
        return kept | {"LC_ALL": "C"}

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return ["git", *_SETTINGS, "-C", str(self.folder), *arguments]


def failed(what: str, status: int, said: str) -> CompatError:
    """Make an error of what git said.

    Parameters
    ----------
    what : str
        The subcommand.
    status : int
        Its exit status.
    said : str
        Its last lines.

    Returns
    -------
    CompatError
    """
    return CompatError(
        f"git {what} failed.",
        facts={"status": status, "git says": " ".join(said.split()) or "-"},
        remedy="Mend that and run it again; commits that were judged are not "
        "judged again.",
    )
