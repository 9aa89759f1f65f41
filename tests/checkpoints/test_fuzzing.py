"""Whatever is in a file, reading it ends, with a tree or a CompatError."""

from __future__ import annotations

import contextlib
import io
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import ZipWriter
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade.inspection import tensors

OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
FUZZ = settings(
    max_examples=200,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Places (as parts of the whole), bytes to drop there, bytes to put."""
    place = st.floats(0, 1, exclude_max=True)
    opcodes = st.sampled_from(OPCODES)
    put = st.one_of(st.binary(max_size=4), st.lists(opcodes, max_size=8))
    return [
        (at, drop, put if isinstance(put, bytes) else b"".join(put))
        for at, drop, put in draw(
            st.lists(
                st.tuples(place, st.integers(0, 8), put),
                min_size=1,
                max_size=6,
            )
        )
    ]


def edited(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    mutable = bytearray(content)
    for at, drop, put in changes:
        start = int(at * len(mutable))
        mutable[start : start + drop] = put
    return bytes(mutable)


def read_all(path: Path) -> None:
    with (
        contextlib.suppress(CompatError),
        read_checkpoint(path) as checkpoint,
    ):
        for ref in tensors(checkpoint.data).values():
            ref.load()


@given(changes=edits())
@FUZZ
def test_mutated_files(
    lightning_bytes: bytes,
    tmp_path: Path,
    changes: list[tuple[float, int, bytes]],
) -> None:
    path = tmp_path / "mutated.ckpt"
    path.write_bytes(edited(lightning_bytes, changes))
    read_all(path)


@given(changes=edits())
@FUZZ
def test_mutated_pickles(
    lightning_bytes: bytes,
    tmp_path: Path,
    changes: list[tuple[float, int, bytes]],
) -> None:
    path = tmp_path / "mutated.ckpt"
    with (
        zipfile.ZipFile(io.BytesIO(lightning_bytes)) as real,
        path.open("wb") as mutated,
    ):
        writer = ZipWriter(mutated, "archive")
        for name in real.namelist():
            content = real.read(name)
            if name.endswith("data.pkl"):
                content = edited(content, changes)
            writer.add(name.partition("/")[2], content)
        writer.finish()
    read_all(path)


@given(
    body=st.lists(
        st.one_of(st.sampled_from(OPCODES), st.binary(max_size=3)),
        max_size=60,
    )
)
@FUZZ
def test_opcodes_in_any_order(
    craft: Callable[..., Path], body: list[bytes]
) -> None:
    read_all(craft(b"\x80\x02" + b"".join(body) + b"."))
