"""Kill commands at random moments, look what is left, and run them again."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from bisections import BAD, GOOD, Bisected, RecordedGrader
from nlam_runs import Project
from owned_runs import FIXTURES, Owner

from pytest_nlam_compat.bisect import bisect
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.cli import main
from pytest_nlam_compat.migrations import writing

# The children fork from here: what they import is imported already.
from pytest_nlam_compat.references import download  # noqa: F401
from pytest_nlam_compat.upgrade import upgrade  # noqa: F401

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
Files = dict[str, bytes]


def read(folder: Path) -> Files:
    """Return the content of each file below a folder, without locks."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix != ".lock"
    }


def start(command: Callable[[], object]) -> int:
    """Run a command in a child with a process group of its own."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    try:
        command()
    finally:
        os._exit(0)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def nlam_compat(*arguments: object) -> None:
    """Run the command line as a process does, signals included."""
    sys.argv = ["nlam-compat", *map(str, arguments)]
    main()


class Victim(ABC):
    """A command, and what may be in its folder before, between and after."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.prepare()
        self.before = read(folder)
        begun = time.perf_counter()
        os.waitpid(start(self.run), 0)
        self.seconds = time.perf_counter() - begun
        self.after = read(folder)
        assert self.after != self.before, "it does nothing"

    @abstractmethod
    def prepare(self) -> None:
        """Put into the folder what a user has there."""

    @abstractmethod
    def run(self) -> None:
        """Run the command, in a child."""

    def reset(self) -> None:
        """Make the folder as it was before."""
        for name in read(self.folder).keys() - self.before.keys():
            (self.folder / name).unlink()
        for name, content in self.before.items():
            if (self.folder / name).read_bytes() != content:
                (self.folder / name).write_bytes(content)

    def kill(self, dice: random.Random) -> str:
        """Kill it once; return what was there: before, between, after."""
        self.reset()
        child = start(self.run)
        time.sleep(dice.uniform(0, 1.1 * self.seconds))
        os.kill(child, dice.choice(SIGNALS))
        os.waitpid(child, 0)
        # A git that it has started has its locks until it ends.
        while is_alive(child):
            time.sleep(0.01)
        found = read(self.folder)
        self.refuse_lost(found)
        # What was cut short can simply be done again.
        os.waitpid(start(self.run), 0)
        again = read(self.folder)
        assert again == self.after, f"left: {again.keys() ^ self.after.keys()}"
        if found in (self.before, self.after):
            return "before" if found == self.before else "after"
        return "between"

    def refuse_lost(self, found: Files) -> None:
        """Insist that each file of the user is the old or the new one."""
        for name, content in self.before.items():
            assert found[name] in (content, self.after[name]), name
        for name in found.keys() & self.after.keys():
            known = (self.before.get(name), self.after[name])
            assert found[name] in known, name


def large(checkpoint: Path, file: Path) -> None:
    """Write a checkpoint that takes a while: 32 tensors of 512 kB more."""
    with read_checkpoint(checkpoint) as opened:
        opened.data["extra"] = [torch.rand(131_072) for _ in range(32)]
        write_checkpoint(opened.data, file)


class Upgrade(Victim):
    """An upgrade to a new file, with a graph."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        self.case = owner("0.3.0-graph_lam")
        super().__init__(folder)

    def prepare(self) -> None:
        large(self.case.checkpoint, self.folder / "old.ckpt")

    def run(self) -> None:
        nlam_compat(
            *("upgrade", self.folder / "old.ckpt"),
            *("-o", self.folder / "new.ckpt"),
            *("--statistics", self.case.statistics, "--graph", self.case.graph),
            *("--graph-out", self.folder / "graph"),
        )


class InPlace(Victim):
    """An upgrade in place."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        self.case = owner("0.6.0-graph_lam")
        super().__init__(folder)

    def prepare(self) -> None:
        large(self.case.checkpoint, self.folder / "old.ckpt")

    def run(self) -> None:
        nlam_compat("upgrade", self.folder / "old.ckpt", "--in-place")

    def refuse_lost(self, found: Files) -> None:
        super().refuse_lost(found)
        assert self.before["old.ckpt"] in found.values()


class Folder(InPlace):
    """An upgrade of all files of a folder."""

    def prepare(self) -> None:
        for name in ("a", "b", "c"):
            large(self.case.checkpoint, self.folder / f"{name}.ckpt")

    def run(self) -> None:
        nlam_compat("upgrade", self.folder)

    def refuse_lost(self, found: Files) -> None:
        Victim.refuse_lost(self, found)


class Fetch(Victim):
    """A download from a server on the loopback, into a cache with another."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        super().__init__(folder)

    def fetch(self, release: str) -> None:
        os.environ["NO_PROXY"] = "127.0.0.1"
        nlam_compat(
            *("fetch", "--release", f"=={release}"),
            *("--url", self.url, "--cache", self.folder),
        )

    def prepare(self) -> None:
        os.waitpid(start(partial(self.fetch, "0.3.0")), 0)

    def run(self) -> None:
        self.fetch("0.7.0")


class Write(Victim):
    """What ``suggest --write`` does once it has found a step."""

    STEP = 'Migration("{}", "0.8.0", "Why.", (Rename("a", "b"),))'

    def prepare(self) -> None:
        writing.add_to(self.folder / "steps.py", [self.STEP.format("0.8.0-a")])

    def run(self) -> None:
        file = self.folder / "steps.py"
        if "0.8.0-b" not in file.read_text():
            writing.add_to(file, [self.STEP.format("0.8.0-b")])


class Suggest(Victim):
    """The whole of ``suggest --write``, which searches most of the time."""

    def prepare(self) -> None:
        project = Project(self.folder)
        project.neural_lam(("*", "self.encoding_grid_mlp", "self.grid_encoder"))
        project.write("tests/migrations/suggested.py", "MIGRATIONS = [\n]\n")
        path = os.pathsep.join(map(str, project.path))
        self.environment = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self) -> None:
        os.chdir(self.folder)
        command = [sys.executable, "-m", "pytest_nlam_compat", "suggest"]
        options = ["--release===0.7.0", "--case=graph_lam", "--write"]
        os.execve(sys.executable, [*command, *options], self.environment)


class Bisect(Victim):
    """A search in a clone, which is resumed."""

    def prepare(self) -> None:
        self.bisected = Bisected(self.folder / "clone")
        self.bisected.line(GOOD, GOOD, GOOD, BAD, BAD, BAD)
        self.bisected.history.everything()

    def run(self) -> None:
        os.environ["NLAM_COMPAT_CACHE"] = str(self.folder / "cache")
        bisect.CommitGrader = RecordedGrader
        commits = self.bisected.history.commits
        (self.folder / "found").unlink(missing_ok=True)
        sys.argv = [
            *("nlam-compat", "bisect", "--clone"),
            *(str(self.bisected.history.folder), "--good", commits["Begin"]),
            *("--bad", "main", "--json"),
        ]
        out = os.open(self.folder / "out", os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        assert main() == 0
        (self.folder / "out").replace(self.folder / "found")

    def reset(self) -> None:
        (self.folder / "found").unlink(missing_ok=True)

    def refuse_lost(self, found: Files) -> None:
        assert {
            name: found[name] for name in found if name.startswith("clone")
        } == {
            name: self.before[name]
            for name in self.before
            if name.startswith("clone")
        }


@contextmanager
def victims(folder: Path) -> Iterator[dict[str, Victim]]:
    """Prepare all of them."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(FIXTURES))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # That a client is killed is no error here.
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    owner = Owner(folder / "owned")
    torch.set_num_threads(1)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        yield {
            "upgrade": Upgrade(folder / "upgrade", owner),
            "in place": InPlace(folder / "in place", owner),
            "folder": Folder(folder / "folder", owner),
            "fetch": Fetch(folder / "fetch", url),
            "write": Write(folder / "write"),
            "suggest": Suggest(folder / "suggest"),
            "bisect": Bisect(folder / "bisect"),
        }
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        owner.close()


def kill_all(folder: Path, each: int, seed: int) -> dict[str, Counter[str]]:
    """Kill each victim so many times; return what was there, counted."""
    dice = random.Random(seed)
    with victims(folder) as prepared:
        return {
            name: Counter(
                # One takes as long as all others together.
                victim.kill(dice)
                for _ in range(-(-each // 8) if name == "suggest" else each)
            )
            for name, victim in prepared.items()
        }
