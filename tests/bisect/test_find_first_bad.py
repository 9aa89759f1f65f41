"""Searches with a grader that takes no time."""

import pytest
from bisections import BAD, BROKEN, GOOD, NAME, RecordedGrader, grades

from pytest_nlam_compat.bisect import state_dir
from pytest_nlam_compat.bisect.bisect import InconclusiveError
from pytest_nlam_compat.errors import CompatError

OTHER = "loss[0.7.0-y]"


def candidates(bisected, outcome):
    subjects = {each: name for name, each in bisected.history.commits.items()}
    return [subjects[commit] for commit in outcome.candidates]


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_the_first_bad_commit(bisected, first):
    bisected.line(*[GOOD] * (first - 1), *[BAD] * (6 - first))
    assert candidates(bisected, bisected.find()) == [str(first)]
    assert not bisected.state_dir.folder.exists()


def test_between_neighbours_there_is_nothing_to_search(bisected):
    bisected.line(BAD)
    assert candidates(bisected, bisected.find()) == ["1"]
    # The last time for the cause.
    assert RecordedGrader.calls == ["1", "Begin", "1"]


def test_a_commit_that_is_skipped(bisected):
    bisected.line(GOOD, GOOD, BROKEN, GOOD, BAD, BAD)
    assert candidates(bisected, bisected.find()) == ["5"]


def test_only_skipped_commits_are_left(bisected):
    bisected.line(GOOD, grades(broken="A"), grades(broken="B"), BAD)
    outcome = bisected.find()
    commits = bisected.history.commits
    assert candidates(bisected, outcome) == ["4", "3", "2"]
    assert outcome.skip_reasons == {commits["2"]: "A", commits["3"]: "B"}
    words = {"1": "good", "2": "skip", "3": "skip"}
    assert outcome.verdicts == {commits[n]: words[n] for n in words}


def test_a_range_in_which_nothing_can_be_checked(bisected):
    bisected.line(*[grades(broken="no reference is selected")] * 30, BAD)
    with pytest.raises(CompatError) as raised:
        bisected.find()
    assert raised.value.what == "None of the first 8 commits can be checked."
    assert raised.value.facts == {"reasons": "no reference is selected"}
    assert len(RecordedGrader.calls) == 2 + 8
    assert not bisected.state_dir.folder.exists()


def test_a_merge_of_two_good_commits(bisected):
    history = bisected.history
    history.git("checkout", "-q", "-b", "side")
    history.write("side", "")
    history.commit("Side")
    history.git("checkout", "-q", "main")
    bisected.line(GOOD)
    history.merge("side", "Merge", commit=False)
    bisected.add("Merge", BAD)
    assert candidates(bisected, bisected.find()) == ["Merge"]


@pytest.fixture
def branch(bisected):
    """Merge a branch that was started before a fix on main."""

    def make(before_the_fix):
        history = bisected.history
        bisected.add("Broken", before_the_fix)
        history.git("checkout", "-q", "-b", "side")
        bisected.add("Side", BAD)
        history.git("checkout", "-q", "main")
        bisected.add("Fixed", GOOD)
        history.git("merge", "-q", "-s", "ours", "--no-commit", "side")
        bisected.add("Merge", BAD)
        return bisected

    return make


def test_a_parent_that_fails_too(branch):
    bisected = branch(BAD)
    with pytest.raises(InconclusiveError, match="whose parent fails") as raised:
        bisected.find("Fixed")
    assert raised.value.facts == {
        "commit": bisected.history.title("Side"),
        "parent": bisected.history.title("Broken"),
        "--good": bisected.history.title("Fixed"),
    }
    assert "Name an older --good" in raised.value.remedy
    assert not bisected.state_dir.folder.exists()


def test_a_parent_that_can_not_be_checked(branch, capsys):
    bisected = branch(BROKEN)
    good = bisected.history.commits["Fixed"]
    assert bisected.command("--good", good, "--bad", "main") == 0
    title = bisected.history.title("Broken")
    assert f"its parent can't be checked: {title}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "subject", ["6", "Begin", "3", "2", "4", "5", "explain"]
)
def test_an_interrupted_search_is_resumed(bisected, subject, capsys):
    bisected.line(GOOD, BROKEN, BROKEN, GOOD, BAD, BAD)
    before = bisected.interrupted(subject)
    capsys.readouterr()
    outcome = bisected.find()
    assert "Resuming" in capsys.readouterr().out
    assert candidates(bisected, outcome) == ["5"]
    # Only the first bad commit is graded again, for the cause.
    assert not {*before} & {*RecordedGrader.calls[:-1]}


def test_a_search_that_is_killed_while_git_writes(bisected):
    bisected.line(GOOD, GOOD, BROKEN, GOOD, BAD, BAD)
    before = bisected.interrupted("4")
    folder = bisected.state_dir.folder / "worktree"
    for name in ("index.lock", "HEAD.lock", "refs/bisect/good-1.lock"):
        (folder / ".git" / name).touch()
    (folder / "neural_lam" / "__init__.py").write_text("half")
    (folder / "temporary").write_text("new")
    assert candidates(bisected, bisected.find()) == ["5"]
    assert not set(before) & set(RecordedGrader.calls)


def test_a_worktree_that_is_half_made_is_made_again(bisected):
    bisected.line(GOOD, BAD, BAD)
    assert bisected.interrupted("Begin") == ["3"]
    folder = bisected.state_dir.folder / "worktree"
    (folder / ".git" / "HEAD").write_text("")
    assert candidates(bisected, bisected.find()) == ["2"]
    assert "3" not in RecordedGrader.calls[:1]


@pytest.mark.parametrize(
    "options", [{"case": "y"}, {"release": "==0.7.0"}, {"timeout": 10.0}]
)
def test_other_options_do_not_resume(bisected, options):
    bisected.line(GOOD, BAD, BAD)
    bisected.interrupted("1")
    with pytest.raises(CompatError, match="other options") as raised:
        bisected.find(**options)
    facts = raised.value.facts
    assert facts["good"] == bisected.history.commits["Begin"]
    assert facts["case"] == "*"
    assert "--reset" in raised.value.remedy
    assert candidates(bisected, bisected.find()) == ["2"]


@pytest.mark.parametrize("package", ["torch", "plugin"])
def test_verdicts_of_other_versions_are_not_used(
    bisected, monkeypatch, package
):
    bisected.line(GOOD, BAD, BAD)
    bisected.interrupted("1")
    if package == "torch":
        monkeypatch.setattr(state_dir, "version", lambda _: "1.0")
    else:
        monkeypatch.setattr(state_dir, "__version__", "99")
    with pytest.raises(CompatError) as raised:
        bisected.find()
    assert "torch" in raised.value.facts["versions"]
    assert "--reset" in raised.value.remedy


@pytest.mark.parametrize("text", ['{"options": {}}', "{}"])
def test_a_state_that_can_not_be_read_is_not_used(bisected, text):
    bisected.line(GOOD, BAD, BAD)
    bisected.interrupted("1")
    (bisected.state_dir.folder / "state.json").write_text(text)
    assert candidates(bisected, bisected.find()) == ["2"]
    assert RecordedGrader.calls[:2] == ["3", "Begin"]


def test_nothing_fails_at_bad(bisected):
    bisected.line(grades(passed=[NAME, OTHER]))
    with pytest.raises(InconclusiveError, match="Nothing fails") as raised:
        bisected.find()
    assert raised.value.facts == {
        "commit": bisected.history.title("1"),
        "checks that passed": 2,
    }
    assert not bisected.state_dir.folder.exists()


def test_all_fails_at_good_too(bisected):
    bisected.add("Good", BAD)
    bisected.add("Bad", grades(failed=[NAME, OTHER]))
    with pytest.raises(InconclusiveError, match="passes at --good") as raised:
        bisected.find("Good")
    assert raised.value.facts == {
        "commit": bisected.history.title("Good"),
        "failed at --bad": "2 of 2 checks",
        "passed at --good": "0 of these",
        "failed at both": "0.7.0-x (outputs)",
        "can't be checked at --good": "0.7.0-y (loss); detected as 0.6.0",
    }
    assert not bisected.state_dir.folder.exists()


@pytest.mark.parametrize("option", ["good", "bad"])
def test_an_endpoint_that_can_not_be_checked(bisected, option):
    bisected.add("good", BROKEN if option == "good" else GOOD)
    bisected.add("bad", BROKEN if option == "bad" else BAD)
    with pytest.raises(InconclusiveError, match=f"--{option}") as raised:
        bisected.find("good")
    assert raised.value.facts == {
        "commit": bisected.history.title(option),
        "cause": "it does not run",
    }


def test_checks_that_do_not_tell_commits_apart_are_left_out(bisected, capsys):
    names = ["outputs[0.7.0-x]", "loss[0.7.0-x]", "batch[0.7.0-x]"]
    bisected.add("Good", grades(passed=names[:1], failed=names[1:2]))
    bisected.add("Middle", grades(passed=names[:1], failed=names[1:]))
    bisected.add("Bad", grades(failed=names))
    assert candidates(bisected, bisected.find("Good")) == ["Bad"]
    out = capsys.readouterr().out
    assert "failed at --bad: 3 of 3 checks" in out
    assert "passed at --good: 1 of these" in out
    assert "compared at each commit: 0.7.0-x (outputs)" in out
    assert "failed at both: 0.7.0-x (loss)" in out
    assert "can't be checked at --good: 0.7.0-x (batch)" in out


def test_a_bad_commit_that_passes_when_it_is_checked_again(
    bisected, monkeypatch
):
    bisected.line(BAD)
    grade = RecordedGrader.grade

    def flaky(self, commit, checks=None, **options):
        found = grade(self, commit, checks, **options)
        return found if not options else type(found)(passed=[NAME])

    monkeypatch.setattr(RecordedGrader, "grade", flaky)
    with pytest.raises(InconclusiveError, match="checked again") as raised:
        bisected.find()
    assert raised.value.facts == {
        "commit": bisected.history.title("1"),
        "checks": "0.7.0-x (outputs)",
        "cause": "all of them passed",
    }


def test_git_says_why_it_fails(bisected):
    bisected.line(GOOD, BAD, BAD)
    bisected.interrupted("1")
    (bisected.state_dir.folder / "worktree/.git/BISECT_TERMS").write_text("x")
    with pytest.raises(CompatError, match="git bisect failed") as raised:
        bisected.find()
    assert raised.value.facts["git says"]
    assert "--reset" in raised.value.remedy
    # Nothing is lost by a failure of git.
    assert bisected.state_dir.read() is not None
