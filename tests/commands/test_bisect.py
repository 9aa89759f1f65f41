"""``nlam-compat bisect`` on a history of a real neural-lam."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from histories import History

from pytest_nlam_compat.bisect.clone import Clone
from pytest_nlam_compat.bisect.judging import Examined, Verdict
from pytest_nlam_compat.bisect.state_dir import Asked, Place
from pytest_nlam_compat.cli import main

ONE = ("--release", "==0.7.0", "--case", "graph_lam")
NORM = "nn.LayerNorm(blueprint[-1]"
KEPT = (
    "What was found out is kept: the same command goes on from here, and\n"
    "nlam-compat bisect --reset throws it away.\n"
)
GOING_ON = "Going on with the bisect that was interrupted.\n"
SEARCHING = "Searching 6 commits, about 2 steps\n"


class Bisecting:
    """A clone, and the command run in it."""

    def __init__(self, folder):
        self.history = History(folder / "my clone")
        self.cache = folder / "cache"

    def start(self, *arguments):
        # With a group of its own, as a shell would begin it.
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest_nlam_compat", "bisect"),
                *map(str, arguments),
            ],
            cwd=self.history.folder,
            env={
                **{k: v for k, v in os.environ.items() if k[:6] != "PYTEST"},
                "NLAM_COMPAT_CACHE": str(self.cache),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever runs the tests in the background ignores the key.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        print(out, err)
        return process.returncode, self.plain(out), err

    def interrupted(self, line, how, *arguments):
        """Run until a line, and then end it."""
        process = self.start(*arguments)
        out = ""
        for each in process.stdout:
            out += each
            if re.match(line, each):
                break
        # In the middle of whatever comes next.
        time.sleep(1)
        how(process)
        # Not `communicate`, which would lose what is buffered.
        out += process.stdout.read()
        err = process.stderr.read()
        print(out, err)
        return process.wait(timeout=60), self.plain(out), err

    def plain(self, text):
        """Name commits by their subjects, and take the times out."""
        for subject, commit in self.history.commits.items():
            text = text.replace(commit, f"<{subject}>")
            text = text.replace(commit[:7], "<>")
        return re.sub(r" +\d+ s  ", "  N s  ", text)

    def leftovers(self):
        return sorted(each.suffix for each in (self.cache / "bisect").iterdir())


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A history in which one commit of seven changed the meaning."""
    bisecting = Bisecting(tmp_path_factory.mktemp("bisect"))
    history = bisecting.history
    installed = Path(importlib.util.find_spec("neural_lam").origin).parent
    package = history.folder / "neural_lam"
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(installed, package, ignore=without)
    history.write("notes.md", "1\n")
    history.commit("Begin")
    history.git("checkout", "-q", "-b", "side")
    history.write("side.md", "")
    history.commit("Write a side note")
    history.git("checkout", "-q", "main")
    history.merge("side", "Merge the side note")
    init = "neural_lam/__init__.py"
    history.edit(init, '"""Neural-LAM', 'import nowhere\n"""Neural-LAM')
    history.commit("Import from nowhere")
    history.edit(init, "import nowhere\n", "")
    history.commit("Import no more")
    history.edit(
        "neural_lam/utils/networks.py", f"{NORM})", f"{NORM}, eps=1e-6)"
    )
    history.commit("Tune the normalisation")
    history.write("notes.md", "2\n")
    history.commit("Document")
    return bisecting


@pytest.fixture(scope="module")
def story(real):
    """Interrupt it by a key, kill it, let it end; by a busy user."""
    history = real.history
    history.git("bisect", "start", "main", history.commits["Begin"])
    history.write("notes.md", "stashed\n")
    history.git("stash")
    history.write("staged.md", "staged\n")
    history.git("add", "staged.md")
    history.write("neural_lam/__init__.py", "raise RuntimeError('mine')\n")
    history.write("untracked.md", "untracked\n")
    arguments = ("--good", history.commits["Begin"], "--bad", "main", *ONE)

    def by_key(process):
        os.killpg(process.pid, signal.SIGINT)

    return {
        "before": history.everything(),
        "key": real.interrupted("Searching ", by_key, *arguments),
        "after the key": history.everything(),
        "other": real.run("--good", "main~1", "--bad", "main"),
        "kill": real.interrupted(" +since ", subprocess.Popen.kill, *arguments),
        "end": real.run(*arguments),
        "after": history.everything(),
        "leftovers": real.leftovers(),
        "titles": {name: history.title(name) for name in history.commits},
    }


@pytest.mark.neural_lam
def test_a_key_ends_it_and_leaves_the_clone_as_it_was(story):
    status, out, err = story["key"]
    assert (status, err) == (130, "Interrupted.\n")
    assert out == (
        "Checking --bad, <> Document\n"
        "  5 of 8 checks failed\n"
        "Checking --good, <> Begin\n"
        f"  5 of these passed\n{SEARCHING}{KEPT}"
    )
    assert story["after the key"] == story["before"]


@pytest.mark.neural_lam
def test_another_does_not_take_its_place(story):
    assert story["other"] == (
        1,
        "",
        "An interrupted bisect of something else is there.\n"
        f"  --good: {story['titles']['Begin']}\n"
        f"  --bad: {story['titles']['Document']}\n"
        "  --release: ==0.7.0\n"
        "  --case: graph_lam\n"
        "Give these options again to go on with it, or throw it away: "
        "nlam-compat bisect --reset\n",
    )


@pytest.mark.neural_lam
def test_after_a_kill_it_goes_on_from_the_last_verdict(story):
    status, out, _ = story["kill"]
    assert status == -signal.SIGKILL
    assert out == (
        f"{GOING_ON}{SEARCHING}<> skip  N s  Import from nowhere\n"
        "    since neural_lam is installed but its import fails. "
        "ModuleNotFoundError: No module named 'nowhere'\n"
    )
    _, out, _ = story["end"]
    assert "Import from nowhere" not in out


@pytest.mark.neural_lam
def test_the_commit_that_changed_the_meaning_is_named(story):
    assert story["end"] == (
        0,
        f"{GOING_ON}{SEARCHING}"
        "<> good  N s  Import no more\n"
        "<> bad  N s  Tune the normalisation\n"
        "Looking for the cause at <> Tune the normalisation\n"
        "\n"
        "The first commit that changed the meaning:\n"
        "  commit: <Tune the normalisation>\n"
        "  author: A U Thor <author@example.org>\n"
        "  date: 2026-11-01 12:00:00 +0000\n"
        "  subject: Tune the normalisation\n"
        "What failed there: 0.7.0-graph_lam (native, outputs, "
        "outputs_float32, loss, resumes)\n"
        "\n"
        "1 cause\n"
        "  5 failures: LayerNorm gives different outputs for the same input\n"
        "    at neural_lam/models/step_predictors/graph/base.py:228\n"
        "    in 0.7.0-graph_lam\n"
        "  nlam-compat suggest searches for a migration that fixes it\n"
        "\n"
        "Tried: 3 commits besides --good and --bad, 1 skipped.\n",
        "",
    )


@pytest.mark.neural_lam
def test_the_clone_of_a_busy_user_is_as_it_was(story):
    # With a bisect under way, a stash, and files of each kind.
    assert ".git/BISECT_LOG" in story["before"]
    assert ".git/refs/stash" in story["before"]
    assert story["after"] == story["before"]
    assert story["leftovers"] == [".lock"]


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A clone whose commits nobody has to run."""
    monkeypatch.setenv("NLAM_COMPAT_CACHE", str(tmp_path / "cache"))
    history = History(tmp_path / "clone")
    history.write("neural_lam/__init__.py", "")
    history.commit("Begin")
    monkeypatch.chdir(history.folder)
    return history


def line(history, *subjects):
    for subject in subjects:
        history.write("neural_lam/__init__.py", f"# {subject}")
        history.commit(subject)


@pytest.fixture
def remembered(history):
    """What a bisect had found out when it was interrupted."""

    def remember(begin, end, **found):
        place = Place.of(Clone.at(history.folder).repository)
        asked = Asked(history.commits[begin], history.commits[end], "", "*")
        place.begin(asked)
        for name, content in found.items():
            place.write(name, content)
        return place

    return remember


def examined(offered=("test_a[0.7.0-x]", "test_b[0.7.0-x]"), failed=(), why=""):
    properties = {name: {} for name in failed}
    return asdict(Examined(why, "0.6.0", list(offered), properties))


def judged(history, **words):
    return {
        f"verdict-{history.commits[subject]}": asdict(Verdict(*word))
        for subject, word in words.items()
    }


def bisect(*arguments):
    return main(["bisect", *map(str, arguments)])


def refusal(capsys, *arguments):
    assert bisect(*arguments) == 1
    return capsys.readouterr().err


def test_nothing_fails_at_bad(history, remembered, capsys):
    line(history, "End")
    place = remembered("Begin", "End", bad=examined())
    assert refusal(capsys, "--good", "main~1", "--bad", "main") == (
        "Nothing fails at --bad.\n"
        f"  commit: {history.title('End')}\n"
        "  passed: 2 checks\n"
        "Name a commit at which `pytest --nlam-compat` fails; files that are "
        "not committed are not looked at.\n"
    )
    assert not place.folder.exists()


def test_all_fails_at_good_too(history, remembered, capsys):
    line(history, "End")
    both = ["test_a[0.7.0-x]", "test_b[0.7.0-y]"]
    place = remembered(
        "Begin",
        "End",
        bad=examined(both, both),
        good=examined(both[:1], both[:1]),
    )
    assert refusal(capsys, "--good", "main~1", "--bad", "main") == (
        "Nothing that fails at --bad passes at --good.\n"
        f"  commit: {history.title('Begin')}\n"
        "  fails there, too: 0.7.0-x (a)\n"
        "  can't be checked there: 0.7.0-y (b); the code was taken for 0.6.0\n"
        "Name a commit at which it still passed: an older one if it fails "
        "there, a newer one if it can't be checked.\n"
    )
    assert not place.folder.exists()


@pytest.mark.parametrize(
    ("option", "subject", "found"),
    [
        ("--bad", "End", {"bad": examined(why="it broke")}),
        (
            "--good",
            "Begin",
            {
                "bad": examined(failed=["test_a[0.7.0-x]"]),
                "good": examined(why="it broke"),
            },
        ),
    ],
)
def test_an_end_that_can_not_be_checked(
    history, remembered, capsys, option, subject, found
):
    line(history, "End")
    remembered("Begin", "End", **found)
    assert refusal(capsys, "--good", "main~1", "--bad", "main") == (
        f"The code at {option} can't be checked.\n"
        f"  commit: {history.title(subject)}\n"
        "  cause: it broke\n"
        "Name another commit, or make this one run in this environment.\n"
    )


def test_what_does_not_tell_them_apart_is_left_out(history, remembered, capsys):
    line(history, "Middle", "Skipped", "End")
    names = [f"test_{check}[0.7.0-x]" for check in "abc"]
    remembered(
        "Begin",
        "End",
        bad=examined(names, names),
        good=examined(names[:2], names[:1]),
        **judged(
            history, Middle=("skip", "it broke"), Skipped=("skip", "it did")
        ),
    )
    assert bisect("--good", "main~3", "--bad", "main") == 1
    assert capsys.readouterr() == (
        f"{GOING_ON}"
        "  3 of 3 checks failed\n"
        "  1 of these passed\n"
        "  left out, fails at both: 0.7.0-x (a)\n"
        "  left out, can't be checked at --good: 0.7.0-x (c)\n"
        "Searching 3 commits, about 1 step\n"
        "\n"
        "Not found: only commits that can't be judged are left.\n"
        "The first commit that changed the meaning is one of\n"
        f"  {history.title('End')}\n"
        f"  {history.title('Skipped')}: it did\n"
        f"  {history.title('Middle')}: it broke\n"
        "Tried: 2 commits besides --good and --bad, 2 skipped.\n",
        "",
    )


def test_a_branch_that_lacks_what_was_mended_before_good(
    history, remembered, capsys
):
    history.git("checkout", "-q", "-b", "side")
    history.write("side.md", "")
    history.commit("Side")
    history.git("checkout", "-q", "main")
    line(history, "Mended")
    history.merge("side", "Merge")
    remembered(
        "Mended",
        "Merge",
        wanted={"checks": ["test_a[0.7.0-x]"]},
        **judged(history, Side=("bad",), Begin=("bad",)),
    )
    assert refusal(capsys, "--good", "main~1", "--bad", "main") == (
        "The search ended at a commit whose parent fails as well.\n"
        f"  commit: {history.title('Side')}\n"
        f"  parent: {history.title('Begin')}\n"
        f"  --good: {history.title('Mended')}\n"
        "That branch was begun before --good, and lacks what was mended until "
        "then. Name an older --good, from which both come.\n"
    )


def test_reset_throws_it_away(history, remembered, capsys):
    line(history, "End")
    place = remembered("Begin", "End")
    before = history.everything()
    # As a killed process leaves it.
    history.git("worktree", "add", "--detach", str(place.tree))
    assert bisect("--reset") == 0
    assert capsys.readouterr() == ("Thrown away.\n", "")
    assert history.everything() == before
    assert not place.folder.exists()
    assert bisect("--reset") == 0
    assert capsys.readouterr() == ("There is none to throw away.\n", "")


def test_one_at_a_time(history, remembered, capsys):
    line(history, "End")
    place = remembered("Begin", "End")
    with place.held():
        text = refusal(capsys, "--good", "main~1", "--bad", "main")
    assert text == (
        "Another nlam-compat bisect of this clone is running.\n"
        f"  lock: {place.folder}.lock\n"
        "Wait for it, or end it.\n"
    )


def test_a_verdict_that_does_not_come_back(history, remembered, capsys):
    line(history, "End")
    wanted = {"checks": ["test_a[0.7.0-x]"]}
    place = remembered("Begin", "End", wanted=wanted)
    # There is no code in it that could be checked.
    assert refusal(capsys, "--good", "main~1", "--bad", "main").startswith(
        "A commit that was judged bad is not when it is checked again.\n"
        f"  commit: {history.title('End')}\n"
        "  checks: 0.7.0-x (a)\n"
        "  cause: neural_lam is installed but its import fails. "
    )
    assert not place.folder.exists()


def test_a_cache_that_can_not_be_written(history, tmp_path, capsys):
    line(history, "End")
    (tmp_path / "cache").write_text("a file")
    assert refusal(capsys, "--good", "main~1", "--bad", "main") == (
        "What a bisect finds out can't be kept.\n"
        f"  folder: {tmp_path / 'cache' / 'bisect'}\n"
        "  cause: [Errno 20] Not a directory: "
        f"'{tmp_path / 'cache' / 'bisect'}'\n"
        "Set NLAM_COMPAT_CACHE to a folder that can be written.\n"
    )


def test_both_commits_are_needed(history, capsys):
    assert refusal(capsys, "--good", "main") == (
        "Two commits are needed to search between them.\n"
        "  expected: --good REV and --bad REV\n"
        "Give both.\n"
    )


@pytest.mark.parametrize(
    "revision", ["nowhere", "", "--all", "main:neural_lam"]
)
def test_a_revision_that_is_none(history, capsys, revision):
    arguments = (f"--good={revision}", "--bad=main")
    assert refusal(capsys, *arguments) == (
        f"There is no commit {revision!r}.\n"
        "  option: --good\n"
        f"  repository: {history.folder / '.git'}\n"
        "Name a commit, branch or tag of this clone; `git fetch --tags` "
        "brings those of its origin.\n"
    )


def test_a_repository_of_something_else(history, capsys):
    line(history, "Middle")
    history.git("rm", "-rq", "neural_lam")
    history.commit("End")
    assert refusal(capsys, "--good", "main~1", "--bad", "main") == (
        "--bad is no commit of neural-lam.\n"
        f"  commit: {history.title('End')}\n"
        "  expected: neural_lam/__init__.py at the root of the repository\n"
        f"  repository: {history.folder / '.git'}\n"
        "Run it in a clone of neural-lam, or name one with --clone.\n"
    )


@pytest.mark.parametrize(
    ("good", "bad", "what"),
    [
        ("main", "main~1", "--good is not in the history of --bad."),
        ("main", "main", "--good and --bad are the same commit."),
    ],
)
def test_commits_with_nothing_between(history, capsys, good, bad, what):
    line(history, "End")
    titles = {"main": history.title("End"), "main~1": history.title("Begin")}
    assert refusal(capsys, "--good", good, "--bad", bad) == (
        f"{what}\n"
        f"  --good: {titles[good]}\n"
        f"  --bad: {titles[bad]}\n"
        "Name an older commit of the same branch as --good; `git merge-base "
        "GOOD BAD` gives the newest.\n"
    )


def test_no_repository(history, tmp_path, capsys):
    folder = tmp_path / "elsewhere"
    arguments = ("--clone", folder, "--good", "a", "--bad", "b")
    assert refusal(capsys, *arguments) == (
        "There is no git repository.\n"
        f"  looked in: {folder}\n"
        "Run it in a clone of neural-lam, or name one with --clone.\n"
    )


def test_no_git(history, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert refusal(capsys, "--good", "main", "--bad", "main") == (
        "git is not installed.\n"
        "  expected: a program git on the PATH\n"
        "Install it.\n"
    )


def test_a_clone_elsewhere_and_its_worktrees(history, tmp_path, capsys):
    line(history, "End")
    linked = tmp_path / "linked"
    history.git("worktree", "add", "--detach", str(linked))
    for clone in (history.folder, linked):
        arguments = ("--clone", clone, "--good", "main", "--bad", "nowhere")
        assert refusal(capsys, *arguments).splitlines()[2] == (
            f"  repository: {history.folder / '.git'}"
        )
