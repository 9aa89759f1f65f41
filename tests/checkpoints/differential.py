"""Compare our reader with torch.load on mutated checkpoints.

Whatever ours accepts, torch must read as the same tree; what is written from
it, both must read the same. ``python differential.py COUNT [SEED]`` runs many.
Payloads are inert: torch gets a pickle module that makes recorders of all
classes but those of plain values and tensors.
"""

from __future__ import annotations

import _codecs
import argparse
import collections
import io
import itertools
import pickle
import pickletools
import random
import struct
import sys
import tempfile
import time
import types
import warnings
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade.inspection import tensors

# torch.load, without harm.


class Recording(type):
    """Makes classes whose objects remember how they were made."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = cls.__new__(cls, *args, **kwargs)
        made.is_call = True
        return made


class Recorder(metaclass=Recording):
    path: tuple[str, str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Recorder:
        made = object.__new__(cls)
        made.cls, made.args, made.kwargs = cls, args, kwargs
        made.is_call = False
        made.state, made.list_items, made.dict_items = None, [], {}
        return made

    def __call__(self, *args: Any) -> Recorder:
        made = Recorder.__new__(Recorder, *args)
        made.cls, made.is_call = self, True
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, value: Any) -> None:
        self.list_items.append(value)

    def extend(self, values: Any) -> None:
        self.list_items.extend(values)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.dict_items[key] = value


REAL = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _codecs.encode,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, bytes)},
    **{
        ("torch", name): value
        for name, value in vars(torch).items()
        if isinstance(value, torch.dtype)
    },
}
MADE: dict[tuple[str, str], Any] = {}


def found(module: str, name: str) -> Any:
    path = module, name
    if path in REAL:
        return REAL[path]
    if path not in MADE:
        MADE[path] = Recording(name, (Recorder,), {"path": path})
    return MADE[path]


def path_of(value: Any) -> tuple[str, str] | None:
    if isinstance(value, Recording):
        return value.path
    for path, real in REAL.items():
        if real is value:
            return path
    return None


class Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, **options: Any) -> None:
        self._protocol = file.getbuffer()[1]
        super().__init__(file, **options)

    def find_class(self, module: str, name: str) -> Any:
        if self._protocol < 3:
            if (module, name) in NAME_MAPPING:
                module, name = NAME_MAPPING[module, name]
            else:
                module = IMPORT_MAPPING.get(module, module)
        return found(module, name)


INERT = types.SimpleNamespace(
    __name__="inert", Unpickler=Unpickler, load=None, UnpicklingError=Exception
)


def load_with_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=INERT
        )


# Comparing.


class DifferentError(AssertionError):
    """Ours and theirs are not the same tree."""


class Comparison:
    """Compares one pair of trees, and what is shared in each."""

    def __init__(self) -> None:
        self._pairs: dict[int, int] = {}
        self._kept: list[Any] = []

    def same(self, ours: Any, theirs: Any, at: str = "") -> None:
        if isinstance(ours, GlobalRef):
            path = path_of(theirs)
            storage = getattr(theirs, "dtype", None) if path is None else None
            if path != (ours.module, ours.name) and (
                storage is None or "Storage" not in ours.name
            ):
                self._fail(at, ours, theirs)
            return
        if isinstance(
            ours,
            (list, dict, set, frozenset, bytearray, InertObject, TensorRef),
        ):
            self._kept += [ours, theirs]
            known = self._pairs.setdefault(id(ours), id(theirs))
            if known != id(theirs):
                self._fail(at, "shared", "not shared")
            if len(self._kept) > 100_000:
                self._fail(at, "endless", "")
        compare = _COMPARE.get(type(ours), Comparison._plain)
        compare(self, ours, theirs, at)

    def _fail(self, at: str, ours: Any, theirs: Any) -> None:
        raise DifferentError(f"{at}: {ours!r:.200} / {theirs!r:.200}")

    def _plain(self, ours: Any, theirs: Any, at: str) -> None:
        if type(ours) is not type(theirs) or repr(ours) != repr(theirs):
            self._fail(at, ours, theirs)

    def _sequence(self, ours: Any, theirs: Any, at: str) -> None:
        if type(ours) is not type(theirs) or len(ours) != len(theirs):
            self._fail(at, ours, theirs)
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            self.same(one, other, f"{at}.{index}")

    def _table(self, ours: Any, theirs: Any, at: str) -> None:
        if type(ours) is not type(theirs):
            self._fail(at, ours, theirs)
        self._sequence(list(ours.items()), list(theirs.items()), at)
        extra = getattr(ours, "__dict__", {}), getattr(theirs, "__dict__", {})
        self._sequence(list(extra[0].items()), list(extra[1].items()), at)

    def _set(self, ours: Any, theirs: Any, at: str) -> None:
        def names(members: Any) -> list[str]:
            return sorted(
                repr(
                    (each.module, each.name)
                    if isinstance(each, GlobalRef)
                    else path_of(each) or each
                )
                for each in members
            )

        if type(ours) is not type(theirs) or names(ours) != names(theirs):
            self._fail(at, ours, theirs)

    def _object(self, ours: InertObject, theirs: Any, at: str) -> None:
        if (
            not isinstance(theirs, Recorder)
            or ours.is_call is not theirs.is_call
        ):
            self._fail(at, ours, theirs)
        if theirs.kwargs or theirs.list_items:
            self._fail(at, ours, theirs)
        for name in ("cls", "args", "state"):
            self.same(getattr(ours, name), getattr(theirs, name), at + name)
        self._table(ours.dict_items, theirs.dict_items, at)

    def _storage(self, ours: StorageRef, theirs: Any, at: str) -> None:
        content = ours.archive.read(ours.record)
        if bytes(content) != bytes(theirs._untyped_storage):
            self._fail(at, ours, theirs)

    def _tensor(self, ours: TensorRef, theirs: Any, at: str) -> None:
        if not isinstance(theirs, torch.Tensor):
            self._fail(at, ours, theirs)
        mine = ours.load()
        alike = [
            (
                type(each),
                each.dtype,
                each.shape,
                each.stride(),
                each.requires_grad,
                each.is_conj(),
                each.is_neg(),
                bool(each._backward_hooks),
                _bytes(each) if each.numel() < 10_000 else None,
            )
            for each in (mine, theirs)
        ]
        if alike[0] != alike[1] or ours.offset != theirs.storage_offset():
            self._fail(at, alike[0], alike[1])


def _bytes(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg()
    # contiguous() would keep the strides of a single element.
    plain = plain.clone(memory_format=torch.contiguous_format)
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


_COMPARE: dict[type, Any] = {
    list: Comparison._sequence,
    tuple: Comparison._sequence,
    dict: Comparison._table,
    collections.OrderedDict: Comparison._table,
    set: Comparison._set,
    frozenset: Comparison._set,
    InertObject: Comparison._object,
    StorageRef: Comparison._storage,
    TensorRef: Comparison._tensor,
}


def check(content: bytes, folder: Path) -> bool:
    """Compare the readers on one file; return whether ours accepts it."""
    path, again = folder / "mutated.ckpt", folder / "written.ckpt"
    path.write_bytes(content)
    try:
        checkpoint = read_checkpoint(path)
    except CompatError:
        return False
    with checkpoint:
        try:
            for ref in tensors(checkpoint.data).values():
                ref.load()
            checkpoint.archive.verify()
        except CompatError:
            return False
        theirs = load_with_torch(path)
        Comparison().same(checkpoint.data, theirs)
        write_checkpoint(checkpoint.data, again, overwrite=True)
    written = load_with_torch(again)
    with read_checkpoint(again) as checkpoint:
        Comparison().same(checkpoint.data, theirs)
        Comparison().same(checkpoint.data, written)
    return True


# Checkpoints to begin with.


class Odd:
    """A class that no reader knows."""

    def __init__(self, value: Any) -> None:
        self.value = value

    class Inner:
        pass


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


class Zip:
    """An archive as its parts, each of which can be changed."""

    def __init__(self, content: bytes) -> None:
        import zipfile

        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            self.records = [
                {
                    "name": info.filename.encode(),
                    "content": archive.read(info),
                    "flags": info.flag_bits,
                    "align": True,
                }
                for info in archive.infolist()
            ]
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
    marks = [at for _, _, at in pickletools.genops(whole)] + [len(whole)]
    steps = [whole[a:b] for a, b in itertools.pairwise(marks)]
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


MUTATIONS = (mutate_archive, mutate_pickle, mutate_pickle, mutate_bytes)


def mutated(seed: int, contents: list[bytes]) -> bytes:
    dice = random.Random(seed)
    content = dice.choice(contents)
    return dice.choice(MUTATIONS)(content, dice)


def run(seeds: range, folder: Path) -> tuple[int, list[tuple[int, str]]]:
    """Return how many were accepted, and the seeds that were not the same."""
    contents = originals()
    accepted, different = 0, []
    for seed in seeds:
        try:
            accepted += check(mutated(seed, contents), folder)
        except Exception as error:
            different.append((seed, f"{type(error).__name__}: {error}"[:300]))
    return accepted, different


def main() -> None:
    count = int(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    memory = Path("/dev/shm")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(
        dir=memory if memory.is_dir() else None
    ) as folder:
        accepted, different = run(range(first, first + count), Path(folder))
    for seed, what in different:
        print(f"seed {seed}: {what}")
    print(
        f"{count} mutated, {accepted} accepted, {len(different)} different, "
        f"{time.monotonic() - begun:.0f} s"
    )
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
