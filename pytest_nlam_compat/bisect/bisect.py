"""Find the first commit that broke references, and report it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from pytest_nlam_compat.bisect.classify import (
    CommitGrader,
    CommitGrades,
    classify,
)
from pytest_nlam_compat.bisect.git import Clone
from pytest_nlam_compat.bisect.state_dir import (
    BisectOptions,
    BisectState,
    StateDir,
)
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.reports import causes

_VERDICT = re.compile(r"^# (good|bad|skip): \[(\w+)\]", re.MULTILINE)
_FIRST = re.compile(r"^# first bad commit: \[(\w+)\]", re.MULTILINE)
_POSSIBLE = re.compile(r"^# possible first bad commit: \[(\w+)\]", re.MULTILINE)

# So many that can't be checked, and none that can, are no accident: git chooses
# them from all over the range.
_MOST_SKIPPED = 8

# At once, also into a pipe.
tell = partial(print, flush=True)


class InconclusiveError(CompatError):
    """Nothing can be found between these commits."""


@dataclass(frozen=True)
class BisectOutcome:
    """What a bisect has found; commits are hashes."""

    # The first bad commit or, if commits next to it can't be checked, all
    # that it can be, the newest first.
    candidates: tuple[str, ...]
    # Besides those of the endpoints.
    verdicts: Mapping[str, str]
    skip_reasons: Mapping[str, str]
    # Of the first bad commit, with causes.
    grades: CommitGrades


def find_first_bad(clone: Clone, options: BisectOptions) -> BisectOutcome:
    """Search for the first commit that broke references; print the progress.

    An interrupted search is resumed by the next call with equal options.
    Raises CompatError if another bisect is under way, or if these commits
    can't be bisected.
    """
    state_dir = StateDir.of(clone)
    with state_dir.locked():
        state = state_dir.read()
        if state is None:
            state_dir.discard()
            state = BisectState(options)
        elif state.options == options:
            tell("Resuming the interrupted bisect.")
        else:
            raise CompatError(
                "A bisect of this clone with other options was interrupted.",
                facts=asdict(state.options),
                remedy="Resume it with these options, or discard it: "
                "nlam-compat bisect --reset",
            )
        state_dir.write(state)
        try:
            outcome = _Search(clone, state_dir, state).run()
        except InconclusiveError:
            state_dir.discard()
            raise
        state_dir.discard()
        return outcome


class _Search:
    def __init__(
        self, clone: Clone, state_dir: StateDir, state: BisectState
    ) -> None:
        self.git = state_dir.worktree(clone, state.options.bad)
        self.grade = CommitGrader(clone, self.git, state.options).grade
        self.clone, self.state_dir, self.state = clone, state_dir, state
        self.good, self.bad = state.options.good, state.options.bad

    def run(self) -> BisectOutcome:
        """Compare the endpoints, bisect, and explain the first bad commit."""
        checks = self._checks_that_tell_apart()
        number = int(
            self.git("rev-list", "--count", f"{self.good}..{self.bad}")
        )
        if number > 1:
            steps = number.bit_length() - 1
            tell(f"Searching {number} commits, number of steps: about {steps}")
        if not self.git.ask("bisect", "log"):
            self.git("bisect", "start", "--no-checkout", self.bad, self.good)
        elif not self._candidates():
            # It may have been killed between a verdict and the next commit.
            self.git("bisect", "next")
        while not (candidates := self._candidates()):
            self._refuse_unjudged()
            self._classify(self.git("rev-parse", "BISECT_HEAD"), checks)
        grades = CommitGrades()
        if len(candidates) == 1:
            self._check_parents(candidates[0], checks)
            grades = self._explain(candidates[0], checks)
        reasons = self.state.skip_reasons
        return BisectOutcome(candidates, self._verdicts(), reasons, grades)

    def _checks_that_tell_apart(self) -> list[str]:
        """Return the checks that fail at --bad and pass at --good."""
        bad = self._endpoint("bad", self.bad, None)
        total = len(bad.failed) + len(bad.passed)
        if not bad.failed:
            raise InconclusiveError(
                "Nothing fails at --bad.",
                facts={
                    "commit": self.clone.title(self.bad),
                    "checks that passed": total,
                },
                remedy="Name a commit at which `pytest --nlam-compat` fails; "
                "uncommitted files are not checked.",
            )
        good = self._endpoint("good", self.good, list(bad.failed))
        made = {*good.passed, *good.failed}
        missing = [name for name in bad.failed if name not in made]
        facts = {
            "failed at --bad": f"{len(bad.failed)} of {total} checks",
            "passed at --good": f"{len(good.passed)} of these",
        }
        if good.failed:
            facts["failed at both"] = summary(good.failed)
        if missing:
            facts["can't be checked at --good"] = (
                f"{summary(missing)}; detected as {good.detected_as}"
            )
        if not good.passed:
            raise InconclusiveError(
                "Nothing that fails at --bad passes at --good.",
                facts={"commit": self.clone.title(self.good), **facts},
                remedy="Name a commit at which it passed: an older one if it "
                "fails there, a newer one if it can't be checked.",
            )
        facts["compared at each commit"] = summary(good.passed)
        for label, fact in facts.items():
            tell(f"  {label}: {fact}")
        return good.passed

    def _refuse_unjudged(self) -> None:
        """Stop where too few commits can be checked for an answer."""
        verdicts = self._verdicts().values()
        if len(verdicts) >= _MOST_SKIPPED and {*verdicts} == {"skip"}:
            reasons = dict.fromkeys(self.state.skip_reasons.values())
            raise InconclusiveError(
                f"None of the first {len(verdicts)} commits can be checked.",
                facts={"reasons": join_some([*reasons], 3)},
                remedy="Name a newer --good or an older --bad between which "
                "neural-lam runs in this environment, or other references.",
            )

    def _endpoint(
        self, name: str, commit: str, checks: Sequence[str] | None
    ) -> CommitGrades:
        """Grade --good or --bad, unless that was done before an interrupt."""
        if name not in self.state.endpoints:
            title = self.clone.title(commit)
            tell(f"Checking --{name}, {title}")
            grades = self.grade(commit, checks)
            if grades.broken:
                raise InconclusiveError(
                    f"The code at --{name} can't be checked.",
                    facts={"commit": title, "cause": grades.broken},
                    remedy="Name another commit, or make this one run in this "
                    "environment.",
                )
            self.state.endpoints[name] = asdict(grades)
            self.state_dir.write(self.state)
        return CommitGrades(**self.state.endpoints[name])

    def _classify(self, commit: str, checks: Sequence[str]) -> str:
        """Return the verdict, once git has it and has chosen what is next."""
        started = time.monotonic()
        grades = self.grade(commit, checks, stop_at_first=True)
        verdict, reason = classify(grades, checks)
        took = f"{time.monotonic() - started:.0f} s"
        name, _, subject = self.clone.title(commit).partition(" ")
        tell(f"{name} {verdict:4} {took:>5}  {subject}")
        if reason:
            tell(f"    because {reason}")
            self.state.skip_reasons[commit] = reason
            self.state_dir.write(self.state)
        # It fails, too, when only skipped commits are left.
        done = self.git.ask("bisect", verdict, commit) is not None
        if not done and not self._candidates():
            self.git("bisect", "next")
        return verdict

    def _candidates(self) -> tuple[str, ...]:
        """Return what can be the first bad commit, once git has finished."""
        log = self.git("bisect", "log")
        found = _FIRST.findall(log) or _POSSIBLE.findall(log)
        return tuple(dict.fromkeys(found))

    def _verdicts(self) -> dict[str, str]:
        """Return git's verdicts by commit, besides those of the endpoints."""
        found = _VERDICT.findall(self.git("bisect", "log"))
        ends = (self.good, self.bad)
        return {commit: word for word, commit in found if commit not in ends}

    def _check_parents(self, first: str, checks: Sequence[str]) -> None:
        """Make sure that no parent of the first bad commit is bad itself.

        git assumes that whatever is older than the good commit is good. A
        branch that was started before it can lack a later fix.
        """
        known = {self.good, *self._verdicts()}
        for parent in self.clone.parents(first):
            if parent in known or self._classify(parent, checks) != "bad":
                continue
            raise InconclusiveError(
                "The search ended at a commit whose parent fails too.",
                facts={
                    "commit": self.clone.title(first),
                    "parent": self.clone.title(parent),
                    "--good": self.clone.title(self.good),
                },
                remedy="That branch was started before --good and lacks a fix. "
                "Name an older --good, from which both come.",
            )

    def _explain(self, first: str, checks: Sequence[str]) -> CommitGrades:
        title = self.clone.title(first)
        tell(f"Looking for the cause at {title}")
        grades = self.grade(first, checks, explain=True)
        if not grades.failed:
            raise InconclusiveError(
                "The first bad commit does not fail when it is checked again.",
                facts={
                    "commit": title,
                    "checks": summary(checks),
                    "cause": grades.broken or "all of them passed",
                },
                remedy="Run it again. If this recurs, the checks depend on "
                "more than the code of the commit.",
            )
        return grades


def report(clone: Clone, outcome: BisectOutcome) -> Iterator[str]:
    """Yield lines: which commit it was, and what it broke."""
    yield ""
    if len(outcome.candidates) == 1:
        yield from _first_bad_commit(clone, outcome)
    else:
        yield "Not found: only commits that can't be checked are left."
        yield "The first bad commit is one of"
        for commit in outcome.candidates:
            reason = outcome.skip_reasons.get(commit)
            yield f"  {clone.title(commit)}" + (f": {reason}" if reason else "")
    words = list(outcome.verdicts.values())
    yield (
        f"Checked besides --good and --bad: {len(words)}, of which skipped: "
        f"{words.count('skip')}"
    )


def _first_bad_commit(clone: Clone, outcome: BisectOutcome) -> Iterator[str]:
    (first,) = outcome.candidates
    yield "The first bad commit:"
    form = "commit: %H%nauthor: %an <%ae>%ndate: %ad%nsubject: %s"
    said = clone.git("log", "-1", "--date=iso", f"--format={form}", first)
    yield from (f"  {line}" for line in said.splitlines())
    parents = clone.parents(first)
    if len(parents) > 1:
        yield f"  merges: {', '.join(map(clone.title, parents))}"
    for parent in parents:
        if outcome.verdicts.get(parent) == "skip":
            yield f"  its parent can't be checked: {clone.title(parent)}"
    failed = outcome.grades.failed
    yield f"What failed there: {summary(failed)}"
    if outcome.grades.broken:
        yield f"  not all was checked: {outcome.grades.broken}"
    failures = []
    for name, properties in failed.items():
        check, _, reference = name.removesuffix("]").partition("[")
        place = properties.get("nlam_cause_source")
        message = f"{check} fails" + (f"\n  source: {place}" if place else "")
        failures.append(causes.Failure(check, reference, message, properties))
    yield from causes.render(causes.group(failures))
    yield ""


def summary(names: Iterable[str]) -> str:
    """Group checks by their references, for one line.

    Examples
    --------
    >>> summary(["outputs[0.7.0-graph_lam]", "loss[0.7.0-graph_lam]"])
    '0.7.0-graph_lam (outputs, loss)'
    """
    grouped: dict[str, list[str]] = {}
    for name in names:
        check, _, reference = name.removesuffix("]").partition("[")
        grouped.setdefault(reference, []).append(check)
    parts = [f"{ref} ({', '.join(found)})" for ref, found in grouped.items()]
    return join_some(parts, most=6)
