"""Small files that ask for much: refused within 2 s and 300 MB."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint

SECONDS = 2
MEGABYTES = 300

# What a command takes; what getrusage says of memory may be of the parent.
MEASURED = """
import re, sys, time
from pytest_nlam_compat.cli import main
start = time.process_time()
status = main(sys.argv[1:])
seconds = time.process_time() - start
text = open("/proc/self/status").read()
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+)", text)[1]) / 1024, status)
"""


def refusal(*arguments: object) -> str:
    """Run a command that is to refuse; return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    seconds, megabytes, status = map(float, done.stdout.split()[-3:])
    assert status == 1, done.stdout
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
    return done.stderr


def number(value: int) -> bytes:
    """Write an integer as pickle does."""
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def table(keys: list[int], batch: int) -> bytes:
    """Write a dict with such keys, so many at a time."""
    content = b"\x80\x02}"
    for start in range(0, len(keys), batch):
        entries = b"".join(
            number(key) + b"N" for key in keys[start : start + batch]
        )
        content += b"(" + entries + b"u"
    return content + b"."


def colliding() -> list[int]:
    """Return keys that fill a path of slots, and others that follow it.

    CPython looks for a key in the slots ``5 * slot + 1 + rest``, where the rest
    of the key loses five bits each time. On a path with no rest, each of the
    others meets all keys of the path behind it.
    """
    mask, length, others = (1 << 17) - 1, 65_000, 20_000
    path, slot = [], 1
    for _ in range(length):
        path.append(slot)
        slot = (5 * slot + 1) & mask
    filled = np.zeros(mask + 1, bool)
    filled[path] = True
    keys = np.arange(1 << 17, 1 << 20)
    slots, rest = keys & mask, keys.copy()
    meets = filled[slots]
    for _ in range(5):
        rest >>= 5
        slots = (5 * slots + rest + 1) & mask
        meets &= filled[slots]
    return [*path, *keys[meets][:others].tolist()]


def crafted_set(keys: list[int]) -> bytes:
    members = b"".join(map(number, keys))
    return b"\x80\x02cbuiltins\nset\n](" + members + b"e\x85R."


def test_members_of_a_set_made_to_collide(craft: Any) -> None:
    path = craft(crafted_set(colliding()))
    assert "asks for far more memory or time" in refusal("inspect", path)


@pytest.mark.parametrize("batch", [1, 1000, 10**6])
def test_keys_made_to_collide(craft: Any, batch: int) -> None:
    path = craft(table(colliding(), batch))
    assert path.stat().st_size < 2_000_000
    assert "asks for far more memory or time" in refusal("inspect", path)


def test_keys_that_count_up_are_accepted(craft: Any) -> None:
    path = craft(table(list(range(50_000)), 1000))
    with read_checkpoint(path) as checkpoint:
        assert len(checkpoint.data) == 50_000
    # And a few of any size, such as pressures in Pa.
    path = craft(table([100_000 * k for k in range(-100, 100)], 1))
    with read_checkpoint(path) as checkpoint:
        assert len(checkpoint.data) == 200


def test_a_tensor_of_stride_0_in_a_graph(
    reference_of: Any, tmp_path: Path
) -> None:
    reference = reference_of("0.5.0-graph_lam")
    file = reference.write(tmp_path)
    graph = reference.graph_folder(tmp_path)
    huge = torch.zeros(1).expand(2**20, 2**20)
    torch.save(huge, graph / "g2m_features.pt")
    assert (graph / "g2m_features.pt").stat().st_size < 2000
    said = refusal("upgrade", file, "--graph", graph)
    assert (
        "g2m_features.pt asks for far more memory or time than its size" in said
    )


def save_old(file: Path) -> None:
    """Save a checkpoint that needs its graph."""
    weights = {"grid_embedder.0.weight": torch.zeros(2, 2)}
    torch.save({"state_dict": weights}, file)


def doubling(level: int = 0) -> bytes:
    """Nest pairs of one list: 2^40 paths through some hundred bytes."""
    if level == 40:
        return b"]q\x28"
    inside = doubling(level + 1) + b"h" + bytes([level + 1])
    return b"]q" + bytes([level]) + b"(" + inside + b"e"


def test_containers_shared_again_and_again(craft: Any) -> None:
    assert "so often that it has no end" in refusal(
        "inspect", craft(b"\x80\x02" + doubling() + b".")
    )


@pytest.mark.parametrize("opcode", [b"]", b"}", b")"])
def test_containers_nested_deeply(craft: Any, opcode: bytes) -> None:
    count = 200_000
    path = {
        b"]": b"]" * count + b"a" * (count - 1),
        b"}": b"}X\x01\x00\x00\x00k" * count + b"N" + b"s" * count,
        b")": b")" + b"\x85" * count,
    }[opcode]
    said = refusal("inspect", craft(b"\x80\x02" + path + b"."))
    assert "levels deep" in said or "far more memory or time" in said


TENSOR = '"dtype": "F32", "data_offsets": [0, 4], "shape": '
HEADERS = {
    "dimensions": f'{{"a": {{{TENSOR}[{",".join("1" * 1_000_000)}]}}}}',
    "digits": f'{{"a": {{{TENSOR}[{"9" * 1_000_000}]}}}}',
    "lists": '{"a": ' + "[" * 1_000_000 + "]" * 1_000_000 + "}",
    "tensors": "{"
    + ",".join(
        f'"{i}": {{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'
        for i in range(60_000)
    )
    + "}",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_safetensors(tmp_path: Path, kind: str) -> None:
    header = HEADERS[kind].encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    assert "x.safetensors" in refusal("inspect", file)
    old = tmp_path / "old.ckpt"
    save_old(old)
    said = refusal("upgrade", old, "--from", "0.3.0", "--statistics", file)
    assert "x.safetensors" in said
