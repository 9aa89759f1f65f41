"""Checkpoints as torch.save writes them, and how they are changed."""

from __future__ import annotations

import argparse
import collections
import io
import itertools
import pickletools
import random
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Odd:
    """A class that no reader knows."""

    def __init__(self, value: Any) -> None:
        self.value = value

    class Inner:
        pass


@cache
def originals() -> list[bytes]:
    torch.manual_seed(0)
    shared = torch.arange(6.0).reshape(2, 3)
    weights = torch.nn.Linear(2, 3).state_dict()
    weights["tied"] = weights["weight"][1:]
    trees: list[Any] = [
        {
            "epoch": 1,
            "state_dict": weights,
            "optimizer_states": [
                {"state": {0: {"step": 1.5}}, "param_groups": [{"lr": 1e-3}]}
            ],
            "hyper_parameters": {"args": argparse.Namespace(a=1, b=None)},
            "shared": (shared, shared.t(), shared[1:, 1:]),
        },
        [
            torch.nn.Parameter(torch.ones(2)),
            torch.tensor([1 + 2j]),
            torch.empty(0, 3),
            torch.ones(1).expand(3, 4),
            torch.ones(2, requires_grad=True),
            torch.tensor([True, False]),
        ],
        {
            "set": {1, 2},
            "frozen": frozenset("a"),
            "bytes": b"\x00\xff",
            "large": 2**70,
            1.5: -1,
            "more": ["a", ("a", "b", "c", "d")],
        },
        [
            Odd([1, 2]),
            Odd.Inner,
            1 + 2j,
            bytearray(b"abc"),
            np.float32(2),
            collections.Counter("aab"),
            collections.defaultdict(list, a=1),
            Path("a/b"),
            torch.Size([1, 2]),
            torch.device("cpu"),
            torch.float32,
            torch.FloatStorage,
        ],
    ]
    contents = []
    for tree in trees:
        stream = io.BytesIO()
        torch.save(tree, stream)
        contents.append(stream.getvalue())
    return contents


# Mutating.


@cache
def records_of(content: bytes) -> list[dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [
            {
                "name": info.filename.encode(),
                "content": archive.read(info),
                "flags": info.flag_bits,
                "align": True,
            }
            for info in archive.infolist()
        ]


@cache
def opcodes_of(pickle: bytes) -> list[bytes]:
    marks = [at for _, _, at in pickletools.genops(pickle)] + [len(pickle)]
    return [pickle[a:b] for a, b in itertools.pairwise(marks)]


class Zip:
    """An archive as its parts, each of which can be changed."""

    def __init__(self, content: bytes) -> None:
        self.records = [dict(record) for record in records_of(content)]
        self.before = self.behind = b""

    def build(self) -> bytes:
        out, directory = bytearray(self.before), bytearray()
        for record in self.records:
            out += record.get("gap", b"")
            record["at"] = len(out)
            name, content = record["name"], record["content"]
            crc = record.get("crc", zlib.crc32(content))
            size = record.get("size", len(content))
            described = record["flags"] & 8
            local_name = record.get("local name", name)
            numbers = (0, 0, 0) if described else (crc, size, size)
            extra = record.get("local extra", b"")
            gap = -(len(out) + 34 + len(local_name) + len(extra)) % 64
            if record["align"]:
                extra += struct.pack("<2sH", b"FB", gap) + b"Z" * gap
            out += struct.pack(
                "<4s5H3I2H",
                *(b"PK\3\4", 0, record.get("local flags", record["flags"])),
                *(record.get("local method", 0), 0, 0),
                *record.get("local numbers", numbers),
                *(len(local_name), len(extra)),
            )
            out += local_name + extra + content
            if described:
                out += record.get(
                    "descriptor",
                    struct.pack("<4s3I", b"PK\7\x08", crc, size, size),
                )
            extra = record.get("extra", b"")
            directory += struct.pack(
                "<4s6H3I5H2I",
                *(b"PK\1\2", 0, 0, record["flags"], record.get("method", 0)),
                *(0, 0, crc, record.get("packed", size), size, len(name)),
                *(len(extra), len(record.get("comment", b"")), 0, 0),
                *(
                    record.get("attributes", 0),
                    record.get("offset", record["at"]),
                ),
            )
            directory += name + extra + record.get("comment", b"")
        start, count = len(out) + len(self.behind), len(self.records)
        out += self.behind + directory
        numbers = (0, 0, count, count, len(directory), start)
        end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 798, 45, *numbers)
        out += end64 + struct.pack(
            "<4sIQI", b"PK\6\7", 0, start + len(directory), 1
        )
        return bytes(out + struct.pack("<4s4H2IH", b"PK\5\6", *numbers, 0))


def mutate_archive(content: bytes, dice: random.Random) -> bytes:
    """Change an archive where two readers could read it differently."""
    archive = Zip(content)
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        change_archive(archive, dice)
    return archive.build()


def change_archive(archive: Zip, dice: random.Random) -> None:
    record = dice.choice(archive.records)
    other = dice.choice(archive.records)
    small = dice.choice([0, 1, 2, 8, 16, 0xFFFF, 0xFFFFFFFF, 5000])
    junk = bytes(dice.randrange(256) for _ in range(dice.randrange(9)))
    name = record["name"]
    wide = struct.pack("<2HQ", 1, 8, dice.choice([0, 1, record.get("at", 0)]))
    changes = [
        lambda: archive.records.append(
            {
                **other,
                "name": dice.choice([name, name.upper(), name.title()]),
            }
        ),
        lambda: archive.records.insert(
            0, {**other, "name": name.swapcase(), "content": junk}
        ),
        lambda: dice.shuffle(archive.records),
        lambda: archive.records.remove(record),
        lambda: record.update(name=dice.choice([name.upper(), name + b"/"])),
        lambda: record.update(name=name[:500] + junk),
        lambda: record.update({"local name": other["name"]}),
        lambda: record.update({"local name": name.swapcase()}),
        lambda: record.update(
            flags=record["flags"] ^ (1 << dice.randrange(16))
        ),
        lambda: record.update({"local flags": 1 << dice.randrange(16)}),
        lambda: record.update(method=dice.choice([1, 8, 9, 12])),
        lambda: record.update({"local method": dice.choice([1, 8, 99])}),
        lambda: record.update(crc=small & 0xFFFFFFFF),
        lambda: record.update(size=small & 0xFFFFFFFF),
        lambda: record.update(packed=small & 0xFFFFFFFF),
        lambda: record.update(size=max(0, len(record["content"]) - 1)),
        lambda: record.update({"local numbers": (small & 0xFFFF,) * 3}),
        lambda: record.update(attributes=1 << dice.randrange(32)),
        lambda: record.update(attributes=0x10),
        lambda: record.update(extra=wide),
        lambda: record.update(extra=wide + wide),
        lambda: record.update({"local extra": wide}),
        lambda: record.update({"local extra": struct.pack("<2H", 7, 0) + junk}),
        lambda: record.update(extra=junk),
        lambda: record.update(offset=other.get("at", small & 0xFFFFFFFF)),
        lambda: record.update(comment=junk),
        lambda: record.update(gap=junk),
        lambda: record.update(align=False),
        lambda: record.update(descriptor=junk),
        lambda: record.update(descriptor=struct.pack("<3I", 0, 0, 0)),
        lambda: record.update(content=other["content"]),
        lambda: record.update(content=record["content"] + junk),
        lambda: setattr(archive, "before", junk),
        lambda: setattr(archive, "behind", junk),
    ]
    dice.choice(changes)()


def mutate_pickle(content: bytes, dice: random.Random) -> bytes:
    """Change the opcodes of a pickle, and fix the archive around it."""
    archive = Zip(content)
    record = next(r for r in archive.records if r["name"].endswith(b"data.pkl"))
    whole = record["content"]
    steps = [*opcodes_of(whole)]
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        if len(steps) < 2:
            break
        at, other = (dice.randrange(1, len(steps)) for _ in range(2))
        step = steps[at]
        kind = dice.randrange(10)
        if kind == 0:
            del steps[at]
        elif kind == 1:
            steps.insert(at, steps[other])
        elif kind == 2:
            steps[at], steps[other] = steps[other], step
        elif kind == 3:
            steps[at] = steps[other]
        elif kind == 4:
            code = dice.choice(pickletools.opcodes).code.encode("latin-1")
            steps[at] = code + step[1:]
        elif kind == 5:
            steps.insert(at, dice.choice(SNIPPETS))
        elif kind == 6 and len(step) > 1:
            place = dice.randrange(1, len(step))
            value = bytes(
                [dice.choice([0, 1, 2, 3, 4, 8, 255, dice.randrange(256)])]
            )
            steps[at] = step[:place] + value + step[place + 1 :]
        elif kind == 7:
            steps[at] = dice.choice([s for s in steps if len(s) == len(step)])
        elif kind == 8:
            end = at + dice.randrange(1, 12)
            steps[other:other] = steps[at:end]
        else:
            place = dice.randrange(2, len(whole))
            cut = b"".join(steps)
            size = dice.randrange(3)
            junk = bytes(dice.randrange(256) for _ in range(size))
            steps = [cut[:2], cut[2:place] + junk + cut[place + size :]]
    record["content"] = b"".join(steps)
    return archive.build()


SNIPPETS = [
    *(
        b"N",
        b"]",
        b"}",
        b")",
        b"(",
        b"K\1",
        b"\x88",
        b"K\0",
        b"K\2",
        b"J\0\0\0\x80",
    ),
    *(b"X\1\0\0\0a", b"G\x7f\xf8\0\0\0\0\0\0", b"\x8a\1\1", b"h\0", b"h\1"),
    *(
        b"h\2",
        b"q\0",
        b"r\1\0\0\0",
        b"a",
        b"s",
        b"\x85",
        b"\x86",
        b"R",
        b"\x81",
    ),
    *(b"b", b"cmod\nName\n", b"cos\nsystem\n", b"ccollections\nOrderedDict\n"),
    *(b")R", b"]a", b"}b", b"Nb", b"K\1K\2s", b"(K\1u", b"(K\1K\2u", b"(K\1e"),
    *(
        b"\x95\4\0\0\0\0\0\0\0",
        b"\x94",
        b"\x8f",
        b"(K\1\x90",
        b"(K\1\x91",
        b".",
    ),
    *(b"cmod\nName\n)R", b"cmod\nName\n)\x81", b"cmod\nName\n)\x81}b"),
    *(b"cargparse\nNamespace\n)\x81}X\1\0\0\0aK\1sb", b"ctorch\nfloat32\n"),
    *(
        b"cbuiltins\nset\n]\x85R",
        b"cbuiltins\ngetattr\n",
        b"]K\1a",
        b"}K\1K\2s",
    ),
    *(
        b"\x8c\1a",
        b"\x8c\3mod\x8c\1n\x93",
        b"C\1a",
        b"\x96" + bytes(8),
        b"2",
        b"0",
    ),
]


def mutate_bytes(content: bytes, dice: random.Random) -> bytes:
    """Change bytes of an archive anywhere."""
    mutable = bytearray(content)
    for _ in range(dice.choice([1, 1, 2, 4])):
        at = dice.randrange(len(mutable))
        kind = dice.randrange(4)
        if kind == 0:
            mutable[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            mutable[at] = dice.choice([0, 1, 0xFF, 0x10, dice.randrange(256)])
        elif kind == 2:
            del mutable[at : at + dice.randrange(1, 5)]
        else:
            mutable[at:at] = bytes(dice.randrange(256) for _ in range(2))
    return bytes(mutable)
