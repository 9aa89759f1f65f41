"""``nlam-compat bisect`` on a history of a real neural-lam."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from histories import History

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

ONE = ("--release", "==0.7.0", "--case", "graph_lam")
NORM = "nn.LayerNorm(blueprint[-1]"
RESUMING = "Resuming the interrupted bisect.\n"


class RealBisect:
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


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A history in which one commit of seven changed the outputs."""
    real = RealBisect(tmp_path_factory.mktemp("bisect"))
    history = real.history
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
    return real


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

    before = history.everything()
    return {
        "before": before,
        "key": real.interrupted("Searching ", by_key, *arguments),
        "after the key": history.everything(),
        "other": real.run("--good", "main~1", "--bad", "main"),
        "kill": real.interrupted(
            " +because ", subprocess.Popen.kill, *arguments
        ),
        "after the kill": history.everything(),
        "end": real.run(*arguments),
        "after": history.everything(),
        "left": [each.suffix for each in (real.cache / "bisect").iterdir()],
    }


def test_a_key_ends_it(story):
    status, out, err = story["key"]
    assert (status, err) == (130, "Interrupted.\n")
    assert out.startswith(
        "Checking --bad, <> Document\n"
        "Checking --good, <> Begin\n"
        "  failed at --bad: 5 of 9 checks\n"
        "  passed at --good: 5 of these\n"
        "  compared at each commit: 0.7.0-graph_lam (outputs, "
    )
    assert "\nSearching 6 commits" in out
    assert "run the same command again to resume" in out
    assert "nlam-compat bisect --reset" in out


def test_another_does_not_take_its_place(story):
    status, out, err = story["other"]
    assert (status, out) == (1, "")
    assert "case: graph_lam\n" in err
    assert "nlam-compat bisect --reset" in err


def test_after_a_kill_it_resumes_from_the_last_verdict(story):
    status, out, _ = story["kill"]
    assert status == -signal.SIGKILL
    assert out.startswith(RESUMING)
    assert "Checking --" not in out
    assert "<> skip  N s  Import from nowhere\n" in out
    assert "No module named 'nowhere'" in out
    _, out, _ = story["end"]
    assert out.startswith(RESUMING)
    assert "Checking --" not in out
    assert "Import from nowhere" not in out


def test_the_first_bad_commit_is_named_with_its_cause(story):
    status, out, err = story["end"]
    assert (status, err) == (0, "")
    search, _, report = out.partition("\n\n")
    assert search.endswith(
        "<> good  N s  Import no more\n"
        "<> bad  N s  Tune the normalisation\n"
        "Looking for the cause at <> Tune the normalisation"
    )
    assert (
        "  commit: <Tune the normalisation>\n"
        "  author: A U Thor <author@example.org>\n"
        "  date: 2026-11-01 12:00:00 +0000\n"
        "  subject: Tune the normalisation\n"
    ) in report
    failed = "outputs, outputs_float32, native, loss, resumes"
    assert f"What failed there: 0.7.0-graph_lam ({failed})\n" in report
    assert "FAILED nlam-compat: LayerNorm " in report
    assert "    source: neural_lam/utils/networks.py:" in report
    assert "--good and --bad: 3, of which skipped: 1" in report


def test_the_clone_of_a_busy_user_is_as_it_was(story):
    # With a bisect under way, a stash, and files of each kind.
    assert ".git/BISECT_LOG" in story["before"]
    assert ".git/refs/stash" in story["before"]
    for moment in ("after the key", "after the kill", "after"):
        assert story[moment] == story["before"]
    assert story["left"] == [".lock"]
