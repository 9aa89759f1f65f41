"""Classify one commit: good, bad or skip."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_nlam_compat.bisect.git import PACKAGE, Clone, Git
from pytest_nlam_compat.bisect.state_dir import BisectOptions

# They would change the checks, or leave out the plugin.
_NOT_INHERITED = frozenset({"PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"})
# A killed process says nothing about the commit; a crash does.
_ENDED = (-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGKILL)


@dataclass
class CommitGrades:
    """How the checks of a commit ended."""

    # Why some were not made; empty if all were.
    broken: str = ""
    # Release of the code.
    detected_as: str = ""
    # Names of checks, such as ``outputs[0.7.0-graph_lam]``.
    passed: list[str] = field(default_factory=list)
    # By name: properties ``nlam_cause...`` of a report, where it was found.
    failed: dict[str, dict[str, object]] = field(default_factory=dict)


def classify(grades: CommitGrades, wanted: Sequence[str]) -> tuple[str, str]:
    """Return good, bad or skip, and the reason to skip a commit.

    It is good only if all wanted checks passed: one that was not made might
    fail.
    """
    if grades.broken:
        return "skip", grades.broken
    if grades.failed:
        return "bad", ""
    missing = len(set(wanted) - set(grades.passed))
    if missing:
        return "skip", (
            f"{missing} of {len(wanted)} checks can't be made: the code was "
            f"detected as {grades.detected_as}"
        )
    return "good", ""


@dataclass(frozen=True)
class CommitGrader:
    """Grades commits in the worktree, each in a process of its own."""

    clone: Clone
    tree: Git
    options: BisectOptions

    def grade(
        self,
        commit: str,
        checks: Sequence[str] | None = None,
        *,
        stop_at_first: bool = False,
        explain: bool = False,
    ) -> CommitGrades:
        """Check a commit out, grade it by all or some checks, and explain it.

        Raises KeyboardInterrupt if somebody ended the process.
        """
        self.check_out(commit)
        if not (self.tree.folder / PACKAGE).is_file():
            return CommitGrades(broken=f"it has no {PACKAGE}")
        temporary = self.tree.folder.with_name("temporary")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        request = {
            "release": self.options.release,
            "case": self.options.case,
            "checks": checks,
            "stop_at_first": stop_at_first,
            "explain": explain,
        }
        status = self._run(json.dumps(request), commit, temporary)
        if status in _ENDED:
            raise KeyboardInterrupt
        grades = CommitGrades()
        with suppress(FileNotFoundError):
            text = (temporary / "grades.json").read_text()
            grades = CommitGrades(**json.loads(text))
        said = (temporary / "log.txt").read_text(errors="replace")
        if status is None:
            grades.broken = f"it took longer than {self.options.timeout:g} s"
        elif status < 0:
            crash = signal.Signals(-status).name
            grades.broken = f"the checks crashed: {crash}"
        elif status > 0:
            last = (said.splitlines() or ["nothing"])[-1]
            grades.broken = f"the checks ended with status {status}: {last}"
        elif grades.broken:
            # pytest prints why it can't import a conftest.py.
            causes = re.findall(r"^E +(.+)", said, re.MULTILINE)
            grades.broken = " ".join([grades.broken, *causes[:1]])
        return grades

    def check_out(self, commit: str) -> None:
        """Check a commit out, without what the last one's checks wrote."""
        self.tree("reset", "--hard", "--quiet")
        self.tree("clean", "-ffdxq")
        self.tree("checkout", "--quiet", "--detach", commit)

    def _run(self, request: str, commit: str, temporary: Path) -> int | None:
        """Return the status of the process, None if it took too long."""
        version = self.clone.version(commit)
        command = [sys.executable, "-m", "pytest_nlam_compat.bisect", request]
        with (
            (temporary / "log.txt").open("wb") as log,
            subprocess.Popen(
                [*command, str(temporary / "grades.json")],
                cwd=self.tree.folder,
                env=environment(self.tree.folder, temporary, version),
                # Never written to: it closes when this process ends.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            try:
                return process.wait(self.options.timeout)
            except subprocess.TimeoutExpired:
                return None
            finally:
                # Its children too, however it ended.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def environment(tree: Path, temporary: Path, version: str) -> dict[str, str]:
    """Return variables with which a worktree's neural_lam is imported.

    Metadata of its version are written to `temporary`: with those of the
    installed one, old commits would be checked by references of later
    releases.
    """
    information = temporary / "metadata" / "neural_lam-0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: neural-lam\nVersion: {version}\n"
    )
    origin = {"url": tree.absolute().as_uri(), "dir_info": {"editable": True}}
    (information / "direct_url.json").write_text(json.dumps(origin))
    kept = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
    inherited = kept.get("PYTHONPATH", "").split(os.pathsep)
    absolute = [Path(each).absolute() for each in inherited if each]
    path = [information.parent, tree, *absolute]
    return kept | {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        # Python compares times and sizes, which can be equal in two commits
        # that are checked out within a second.
        "PYTHONDONTWRITEBYTECODE": "1",
        # A killed process leaves nothing in the user's temporary folder.
        "TMPDIR": str(temporary),
    }
