"""A clone whose commits say themselves how their checks end."""

import json

from histories import History

from pytest_nlam_compat.bisect.bisect import find_first_bad
from pytest_nlam_compat.bisect.classify import CommitGrader, CommitGrades
from pytest_nlam_compat.bisect.git import Clone
from pytest_nlam_compat.bisect.state_dir import BisectOptions, StateDir
from pytest_nlam_compat.cli import main

NAME = "outputs[0.7.0-x]"


def grades(passed=(), failed=(), broken=""):
    return {
        "broken": broken,
        "detected_as": "0.6.0",
        "passed": list(passed),
        "failed": {name: {} for name in failed},
    }


GOOD = grades(passed=[NAME])
BAD = grades(failed=[NAME])
BROKEN = grades(broken="it does not run")


class RecordedGrader(CommitGrader):
    """Reads grades from a file of the commit.

    Attributes
    ----------
    calls : list of str
        Subjects of the commits that were graded.
    interrupt_at : str
        Subject of the commit at which somebody interrupts it, or "explain".
    """

    calls = []  # noqa: RUF012
    interrupt_at = ""

    def grade(self, commit, checks=None, *, stop_at_first=False, explain=False):
        subject = self.clone.title(commit).partition(" ")[2]
        self.check_out(commit)
        if self.interrupt_at == ("explain" if explain else subject):
            raise KeyboardInterrupt
        self.calls.append(subject)
        text = (self.tree.folder / "grades.json").read_text()
        found = CommitGrades(**json.loads(text))
        if checks is not None:
            found.passed = [n for n in found.passed if n in checks]
            found.failed = {n: {} for n in found.failed if n in checks}
        return found


class Bisected:
    """A clone, and ``nlam-compat bisect`` in it."""

    def __init__(self, folder):
        self.history = History(folder)
        self.add("Begin", GOOD)

    def add(self, subject, grades):
        self.history.write("neural_lam/__init__.py", f"# {subject}")
        self.history.write("grades.json", json.dumps(grades))
        return self.history.commit(subject)

    def line(self, *all_grades):
        """Commit each, with its number as the subject."""
        for number, each in enumerate(all_grades, 1):
            self.add(str(number), each)

    @property
    def clone(self):
        return Clone.at(self.history.folder)

    @property
    def state_dir(self):
        return StateDir.of(self.clone)

    def find(self, good="Begin", **options):
        """Search; whatever comes of it, the clone is as it was."""
        ends = self.history.commits[good], self.history.git("rev-parse", "HEAD")
        default = {"release": "", "case": "*", "timeout": 600.0}
        options = BisectOptions(*ends, **default | options)
        before = self.history.everything()
        RecordedGrader.calls.clear()
        try:
            return find_first_bad(self.clone, options)
        finally:
            assert self.history.everything() == before

    def interrupted(self, subject, **options):
        """Interrupt a search at a commit; return what was graded before."""
        RecordedGrader.interrupt_at = subject
        try:
            self.find(**options)
        except KeyboardInterrupt:
            return list(RecordedGrader.calls)
        finally:
            RecordedGrader.interrupt_at = ""
        raise AssertionError(f"{subject} was not graded.")

    def command(self, *arguments):
        """Run the command; return its exit status."""
        clone = ("--clone", self.history.folder)
        return main(["bisect", *map(str, (*clone, *arguments))])
