"""Whatever is in a file, an upgrade is done or ends with a clear error."""

from __future__ import annotations

import contextlib
import io
import json
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bare_weights import export

from pytest_nlam_compat.checkpoints.writer import ZipWriter
from pytest_nlam_compat.cli import main

pytestmark = pytest.mark.slow

FUZZ = settings(
    max_examples=60,
    deadline=4000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Short names of the history's oldest, with all steps, and of the newest.
CASES = ("0.1.0-graph_lam", "0.3.0-hi_lam", "0.6.0-graph_lam")

OPCODES = st.sampled_from(
    [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
)
PUT = st.one_of(
    st.binary(max_size=4),
    st.lists(OPCODES, max_size=4).map(b"".join),
)
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 8), PUT),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    mutable = bytearray(content)
    for share, drop, put in edits:
        at = int(share * len(mutable))
        mutable[at : at + drop] = put
    return bytes(mutable)


def with_pickle(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Edit the pickle alone, so that the archive around it is whole."""
    out = io.BytesIO()
    writer = ZipWriter(out, "archive")
    with zipfile.ZipFile(io.BytesIO(content)) as real:
        for name in real.namelist():
            part = real.read(name)
            if name.endswith("data.pkl"):
                part = edited(part, edits)
            writer.add(name.partition("/")[2], part)
    writer.finish()
    return out.getvalue()


def upgrade(case, content: bytes, folder: Path, suffix: str, *options) -> None:
    """Upgrade, and check what is left in the folder."""
    old = folder / f"old{suffix}"
    old.write_bytes(content)
    graph, said = folder / "graph", (io.StringIO(), io.StringIO())
    with (
        contextlib.redirect_stdout(said[0]),
        contextlib.redirect_stderr(said[1]),
    ):
        status = main(
            [
                *("upgrade", str(old), *options),
                *("--statistics", str(case.statistics)),
                *("--graph", str(case.graph), "--graph-out", str(graph)),
            ]
        )
    assert old.read_bytes() == content
    new = old.with_name(f"upgraded_{old.name}")
    if status:
        assert (status, said[0].getvalue()) == (1, "")
        assert len(said[1].getvalue().splitlines()) > 1
        assert "Traceback" not in said[1].getvalue()
        assert not new.exists()
    assert {file.name for file in folder.iterdir()} <= {
        *(old.name, new.name, "graph")
    }
    assert not list(folder.glob("**/*.part"))
    new.unlink(missing_ok=True)
    for file in graph.glob("*"):
        file.unlink()
    if graph.exists():
        graph.rmdir()


@pytest.mark.parametrize("name", CASES)
@given(edits=EDITS)
@FUZZ
def test_mutated_files(name, owned, tmp_path, edits):
    case = owned(name)
    content = edited(case.checkpoint.read_bytes(), edits)
    upgrade(case, content, tmp_path, ".ckpt", "--from", case.release)


@pytest.mark.parametrize("name", CASES)
@given(edits=EDITS)
@FUZZ
def test_mutated_pickles(name, owned, tmp_path, edits):
    case = owned(name)
    content = with_pickle(case.checkpoint.read_bytes(), edits)
    upgrade(case, content, tmp_path, ".ckpt")


@given(edits=EDITS)
@FUZZ
def test_mutated_weights(owned, tmp_path, edits):
    case = owned("0.4.0-graph_lam")
    file = tmp_path / "old.safetensors"
    export(case.checkpoint, file)
    content = edited(file.read_bytes(), edits)
    upgrade(case, content, tmp_path, file.suffix, "--from", "0.4.0")


TREES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(),
        st.text(max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(
                    [
                        *("args", "config", "state", "param_groups", "params"),
                        *("step", "layout", "migrations", "stamp", "dataset"),
                        *("graph", "datastore", "kind", "training"),
                    ]
                ),
                st.integers(0, 3),
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("release", ["0.1.0", "0.3.0", "0.6.0", None])
@given(
    parts=st.dictionaries(
        st.sampled_from(
            [
                *("state_dict", "hyper_parameters", "optimizer_states"),
                *("nlam_compat", "neural_lam_checkpoint_version"),
                *("callbacks", "epoch"),
            ]
        ),
        TREES,
        min_size=1,
    )
)
@FUZZ
def test_parts_of_other_types(release, owned, tmp_path, parts):
    """A whole checkpoint whose parts have other types than usual."""
    from pytest_nlam_compat.checkpoints.reader import read_checkpoint
    from pytest_nlam_compat.checkpoints.writer import write_checkpoint

    case = owned(f"{release or '0.2.0'}-graph_lam")
    file = tmp_path / "old.ckpt"
    with read_checkpoint(case.checkpoint) as checkpoint:
        checkpoint.data.update(parts)
        write_checkpoint(checkpoint.data, file, overwrite=True)
    options = ("--from", release) if release else ()
    upgrade(case, file.read_bytes(), tmp_path, ".ckpt", *options)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["inspect", str(file), "--json"]) == 0
    json.loads(said.getvalue())


BOUNDED = """
import re, sys
sys.path[:0] = sys.argv[1].split(":")
from pytest_nlam_compat.cli import main
# What the imports take is not counted.
import pytest_nlam_compat.upgrade.upgrade
status = main(["upgrade", sys.argv[2], "--from", "0.6.0"])
# Of this process alone; getrusage knows of what it was forked from.
used = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())
print(status, used[1])
"""


def test_memory_stays_bounded(owned, tmp_path):
    """A pickle of 2 MB that asks for 64 bytes of memory for each of its own."""
    content = owned("0.6.0-graph_lam").checkpoint.read_bytes()
    old = tmp_path / "old.ckpt"
    # An empty dict, again and again, behind the protocol.
    old.write_bytes(
        with_pickle(content, [(0, 2, b"\x80\x02" + b"}" * 2_000_000)])
    )
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, ":".join(sys.path), str(old)],
        capture_output=True,
        text=True,
        check=True,
    )
    status, kilobytes = map(int, done.stdout.split())
    assert status == 1
    assert "asks for far more memory or time than its size" in done.stderr
    assert kilobytes < 160_000
