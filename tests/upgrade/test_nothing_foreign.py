"""Nothing that a file names is imported or called."""

import subprocess
import sys

import pytest
from owned_runs import IDS

# The hook sees what no later code can hide: each import, and each call that
# could start something.
WATCHED = """
import sys

seen, called = [], []
calls = ("os.system", "subprocess", "os.exec", "pickle.")

def hook(event, arguments):
    if event == "import":
        seen.append(arguments[0])
    elif event.startswith(calls):
        called.append(event)

sys.addaudithook(hook)
from pytest_nlam_compat.cli import main

foreign = sys.argv.pop(1).split(",")
status = main(sys.argv[1:])
bad = [
    name
    for name in seen
    if name in foreign or name.startswith(tuple(f"{each}." for each in foreign))
]
assert not bad + called, bad + called
assert len(seen) > 20
sys.exit(status)
"""


FOREIGN = ("neural_lam", "pytorch_lightning", "lightning", "evil")


def watched(*arguments, foreign=("torch", *FOREIGN)):
    return subprocess.run(
        [
            *(sys.executable, "-c", WATCHED),
            *(",".join(foreign), *map(str, arguments)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def hostile(owned, tmp_path):
    """A checkpoint whose pickle would run a command when it is loaded."""
    import os

    import torch

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = tmp_path / "hostile.ckpt"
    file = owned("0.6.0-graph_lam").checkpoint
    content = torch.load(file, weights_only=False)
    content["callbacks"] = {"x": Payload()}
    torch.save(content, path)
    return path


# One of each release, and of each kind of pickled class.
FILES = [
    name
    for name in IDS
    if name.endswith(("-graph_lam", "-hi_lam_parallel-clamp"))
]


@pytest.mark.parametrize("name", FILES)
def test_inspecting_a_file_imports_nothing_of_it(name, owned):
    done = watched("inspect", owned(name).checkpoint)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_upgrading_a_file_imports_nothing_of_it(name, owned, tmp_path):
    case = owned(name)
    done = watched(
        *("upgrade", case.checkpoint, "-o", tmp_path / "new.ckpt"),
        *("--graph", case.graph, "--graph-out", tmp_path / "graph"),
        *("--statistics", case.statistics),
        # Steps, and comparing the graph, need the values of tensors.
        foreign=FOREIGN,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("0.6")])
def test_renaming_imports_no_torch(name, owned, tmp_path):
    case = owned(name)
    done = watched("upgrade", case.checkpoint, "-o", tmp_path / "new.ckpt")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new.ckpt").exists()


def test_inspecting_a_hostile_file_runs_nothing_and_marks_it(hostile):
    done = watched("inspect", hostile)
    assert (done.returncode, done.stderr) == (0, "")
    assert "posix.system  (UNKNOWN: may run anything when" in done.stdout
    assert not hostile.with_name("ran").exists()


def test_upgrading_a_hostile_file_is_refused(hostile):
    done = watched("upgrade", hostile, "--from", "0.6.0")
    assert done.returncode == 1
    what, file, unknown, remedy = done.stderr.splitlines()
    assert what.startswith("hostile.ckpt names classes ")
    assert file == f"  file: {hostile}"
    assert unknown == "  unknown: posix.system"
    assert remedy.endswith("--allow posix.system")
    assert {file.name for file in hostile.parent.iterdir()} == {hostile.name}


def test_an_allowed_class_is_written_and_still_not_run(hostile):
    done = watched(
        *("upgrade", hostile, "--from", "0.6.0", "--allow", "posix.system")
    )
    assert (done.returncode, done.stderr) == (0, "")
    new = hostile.with_name("upgraded_hostile.ckpt")
    assert b"posix" in new.read_bytes()
    assert not hostile.with_name("ran").exists()
