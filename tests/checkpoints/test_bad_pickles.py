"""A pickle that does what none of torch.save does is refused."""

from __future__ import annotations

import collections
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError

STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + (
    b"0X\3\0\0\0cpuK\4tQ"
)
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(%b%b\x89ccollections\n" + (
    b"OrderedDict\n)R%btR"
)


def tensor(
    storage: bytes = STORAGE,
    place: bytes = b"K\0K\4\x85K\1\x85",
    more: bytes = b"",
) -> bytes:
    return TENSOR % (storage, place, more)


def text(content: str) -> bytes:
    encoded = content.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "is cut short"),
        (b"X\xff\0\0\0a.", "is cut short"),
        (b"\x95\2\0\0\0\0\0\0\0N.", "uses the opcode FRAME"),
        (b".", "takes what it never put down"),
        (b"t.", "takes what it never put down"),
        (b"q\0.", "takes what it never put down"),
        (b"NR.", "takes what it never put down"),
        (b"NN.", "leaves something behind"),
        (b"(N.", "leaves something behind"),
        (
            b"N.\x80\x02cos\nsystem\nX\2\0\0\0ls\x85R.",
            "goes on after its end: a second pickle may be hidden there",
        ),
        (b"N0.", "uses the opcode POP"),
        (b"\x82\1.", "uses the opcode EXT1"),
        (b"P1\n.", "uses the opcode PERSID"),
        (b"I1\n.", "uses the opcode INT"),
        (b"\x98.", "uses the opcode READONLY_BUFFER"),
        (b"\0.", "uses the opcode 0x00"),
        (b"\x80\x02N.", "uses the opcode PROTO"),
        (b"h\1.", "holds a use of a name that it never gave"),
        (b"Nq\0q\0.", "holds a name that is out of order"),
        (b"X\1\0\0\0\xff.", "holds text that is not UTF-8"),
        (
            b"\x8b\0\1\0\0" + bytes(256) + b".",
            "holds an integer of more than 255 bytes",
        ),
        (b"Nr\xff\xff\xff\xff.", "holds a name that is out of order"),
        (b"NNa.", "holds items for a NoneType"),
        (b"NNNs.", "holds items with keys for a NoneType"),
        (b"}(Nu.", "holds items with keys for a dict"),
        (b"}]Ns.", "holds a key that is a list"),
        (b"}NNN\x87\x85Ns.", "holds a key that is a tuple"),
        (
            b"}" + text("k" * 5000) + b"Ns.",
            "holds a key of 5000 characters",
        ),
        (
            b"}\x8a\x08" + b"\xff" * 7 + b"\x1fNs.",
            "holds a key that is a very large number",
        ),
        (b"cos\n", "holds a name that can't be one: "),
        (b"cos\nsys.tem\n.", "holds a name that can't be one: sys.tem"),
        (
            b"cos\nsystem\x1b[2J\n.",
            "holds a name that can't be one: system\\x1b[2J",
        ),
        (b"c\nsystem\n.", "holds a name that can't be one: "),
        (b"N)R.", "holds a call of a NoneType"),
        (b"(cos\nsystem\no.", "uses the opcode OBJ"),
        (b"(ios\nsystem\n.", "uses the opcode INST"),
        (b"cos\nsystem\nNR.", "holds a call without arguments"),
        (b"]}b.", "holds a state for a list"),
        (b"cos\nsystem\n)R}b}b.", "holds a state for a os.system"),
        (
            b"ccollections\nOrderedDict\n)R}X\5\0\0\0itemsNsb.",
            "holds an OrderedDict with a changed part",
        ),
        (
            b"ccollections\nOrderedDict\nN\x85R.",
            "holds a call of collections.OrderedDict with unknown arguments",
        ),
        (
            b"ccollections\nOrderedDict\nNN\x86R.",
            "holds a call of collections.OrderedDict with unknown arguments",
        ),
        (
            b"cbuiltins\nset\nN\x85R.",
            "holds a call of builtins.set with unknown arguments",
        ),
        (
            b"c_codecs\nencode\nNN\x86R.",
            "holds a call of _codecs.encode with unknown arguments",
        ),
        (
            b"c_codecs\nencode\n"
            + text("\N{SNOWMAN}")
            + text("latin1")
            + b"\x86R.",
            "holds a call of _codecs.encode with unknown arguments",
        ),
        (b"cos\nsystem\n)R)R.", "holds a call of a os.system"),
        (b"cm\nC\n)RNa.", "holds items for a m.C"),
        (
            STORAGE.replace(b"Float", b"QInt8") + b".",
            "holds an unknown kind of storage: torch.QInt8Storage",
        ),
        (b"NQ.", "holds a persistent id that is not that of a storage"),
        (
            tensor(STORAGE.replace(b"Float", b"Short")),
            "holds a storage of 8 bytes whose record, data/0, has 16",
        ),
        (
            tensor(STORAGE.replace(b"\0000X", b"\0009X")),
            "holds a storage that the file does not have: 9",
        ),
        (
            tensor(STORAGE.replace(b"Float", b"Other")),
            "holds an unknown kind of storage: torch.OtherStorage",
        ),
        (
            tensor(STORAGE.replace(b"torch", b"torchy")),
            "holds an unknown kind of storage: torchy.FloatStorage",
        ),
        (
            STORAGE + STORAGE.replace(b"cpu", b"gpu") + b".",
            "holds two descriptions of data/0",
        ),
        (
            tensor(place=b"K\1K\4\x85K\1\x85"),
            "holds a tensor that reaches beyond its storage, data/0",
        ),
        (
            tensor(place=b"K\0\x8a\x08" + b"\xff" * 7 + b"\x7f\x85K\0\x85"),
            "holds a tensor whose description makes no sense",
        ),
        (
            tensor(place=b"K\0J\xff\xff\xff\xff\x85K\1\x85"),
            "holds a tensor whose description makes no sense",
        ),
        (
            tensor(place=b"K\0K\4K\1\x86K\1\x85"),
            "holds a tensor whose description makes no sense",
        ),
        (
            tensor(STORAGE.replace(b"Float", b"Int")).replace(b"\x89", b"\x88"),
            "holds a gradient for a tensor of the type int32",
        ),
        (
            tensor().replace(b")R", b")RK\1K\1s"),
            "holds a tensor with functions hooked to it",
        ),
        (
            tensor(more=b"}X\4\0\0\0conj\x88s"),
            "holds a tensor with metadata, as conjugated ones have",
        ),
        (
            STORAGE.replace(b"cpu", b"../") + b".",
            "holds a storage on an unknown device: ../",
        ),
        (
            b"ctorch._utils\n_rebuild_parameter\nNNN\x87R.",
            "holds a call of torch._utils._rebuild_parameter with unknown "
            "arguments",
        ),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_refused_pickles(craft: Any, body: bytes, what: str) -> None:
    path = craft(b"\x80\x02" + body, {"data/0": bytes(16)})
    with pytest.raises(CompatError) as caught:
        read_checkpoint(path)
    assert caught.value.what == f"crafted.ckpt has a data.pkl that {what}."


def test_the_tensors_above_would_be_good_ones(craft: Any) -> None:
    body = b"\x80\x02" + tensor() + b"."
    with read_checkpoint(craft(body, {"data/0": bytes(16)})) as good:
        assert good.data.load().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("pickle", "what"),
    [
        (b"N.", "is no pickle"),
        (b"\x80\x01N.", "is of pickle protocol 1"),
        (b"\x80\x06N.", "is of pickle protocol 6"),
    ],
)
def test_other_beginnings(craft: Any, pickle: bytes, what: str) -> None:
    with pytest.raises(CompatError, match=what):
        read_checkpoint(craft(pickle))


def test_a_message_says_where(craft: Any) -> None:
    path = craft(b"\x80\x02N0.")
    with pytest.raises(CompatError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == (
        "crafted.ckpt has a data.pkl that uses the opcode POP.\n"
        f"  file: {path}\n"
        "  at its byte: 4\n"
        "No checkpoint of neural-lam is like this. Do not pass it to "
        "torch.load unless you know who made it and how."
    )


@pytest.mark.parametrize(
    "body",
    [
        b"]q\0h\0a.",
        b"}q\0X\1\0\0\0ah\0s.",
        b"]q\0(h\0ta.",
        b"cm\nC\n)\x81q\0}X\1\0\0\0mh\0sb.",
        # No circle, but the call has seen an empty list.
        b"]q\0(cm\nC\nh\0\x85Rh\0K\1a.",
    ],
)
def test_an_object_that_changes_after_its_use(craft: Any, body: bytes) -> None:
    with pytest.raises(CompatError, match="that changes after its use"):
        read_checkpoint(craft(b"\x80\x02" + body))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_other_protocols_are_refused_with_what_to_do(
    tmp_path: Path, protocol: int
) -> None:
    path = tmp_path / "new.ckpt"
    torch.save({"a": torch.ones(2)}, path, pickle_protocol=protocol)
    with pytest.raises(CompatError) as caught:
        read_checkpoint(path)
    assert caught.value.what.endswith(f"is of pickle protocol {protocol}.")
    assert "save it again with torch.save" in caught.value.remedy


@pytest.mark.parametrize(
    "opcode",
    ["FRAME", "MEMOIZE", "EMPTY_SET", "FROZENSET", "STACK_GLOBAL", "NEWOBJ_EX"],
)
def test_the_opcodes_of_other_protocols(craft: Any, opcode: str) -> None:
    body = b"\x80\x02N" + getattr(pickle, opcode) + bytes(8) + b"."
    with pytest.raises(CompatError, match=f"uses the opcode {opcode}"):
        read_checkpoint(craft(body))


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({(1, 2): 3}, "a key that is a tuple"),
        ({b"a": 3}, "a key that is a bytes"),
        (2**3000, "an integer of more than 255 bytes"),
        (collections.deque([1]), "items for a collections.deque"),
        (torch.tensor([1j]).conj(), "a tensor with metadata, as conjugated"),
        (
            torch.ones(2, dtype=torch.complex32),
            "an unknown kind of storage: torch.storage.UntypedStorage",
        ),
        (
            torch.ones(2).to(torch.float8_e4m3fn),
            "an unknown kind of storage: torch.storage.UntypedStorage",
        ),
    ],
    ids=lambda value: str(type(value)),
)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_what_torch_writes_and_no_checkpoint_needs(
    tmp_path: Path, value: Any, what: str
) -> None:
    torch.save([value], tmp_path / "value.pt")
    with pytest.raises(CompatError) as caught:
        read_checkpoint(tmp_path / "value.pt")
    assert f"has a data.pkl that holds {what}" in caught.value.what
    assert "convert this part or leave it out" in caught.value.remedy


KNOWN = [
    b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    + text("ftp://example.org/x")
    + b"\x85R",
    b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n)\x81}b",
    b"cargparse\nNamespace\n" + text("a") + b"\x85\x81",
    b"cargparse\nNamespace\n)R}b",
    b"cargparse\nNamespace\n)\x81}K\1K\1sb",
    b"cneural_lam.config\nDatastoreKindStr\nK\1\x85\x81",
    b"cneural_lam.config\nNeuralLAMConfig\nK\1\x85R",
    b"cpathlib\nPosixPath\nK\1\x85R",
    b"cnumpy\ndtype\n" + text("O8") + b"\x89\x88\x87R",
    b"cnumpy._core.multiarray\nscalar\nNN\x86R",
    b"ctorch\ndevice\n" + text("cpu:0") + b"\x85R",
    b"ctorch\nSize\nK\1\x85R",
    b"cbuiltins\nint\n" + text("9" * 5000) + b"\x85R",
    b"ccollections\ndefaultdict\ncos\nsystem\n\x85R",
    b"ccollections\ndefaultdict\ncbuiltins\neval\n\x85R",
    b"cbuiltins\nset\n)\x81",
    b"ctorch._utils\n_rebuild_tensor_v2\n)\x81",
]


@pytest.mark.parametrize("body", KNOWN, ids=ascii)
def test_known_classes_in_another_form(craft: Any, body: bytes) -> None:
    with pytest.raises(CompatError, match="in a way in which no checkpoint"):
        read_checkpoint(craft(b"\x80\x02" + body + b"."))


def holding_itself() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    "value",
    [
        holding_itself(),
        [[] for _ in range(400_000)],
        {"k" * 5000: 1},
        {2**70: 1},
    ],
    ids=["a cycle", "many lists", "a long key", "a large key"],
)
def test_torch_is_not_said_to_write_no_such_file(
    tmp_path: Path, value: Any
) -> None:
    torch.save(value, tmp_path / "value.pt")
    with pytest.raises(CompatError) as caught:
        read_checkpoint(tmp_path / "value.pt")
    assert "torch.save writes" not in str(caught.value)


@pytest.mark.parametrize("depth", [100, 10_000])
def test_deep_nesting(craft: Any, depth: int) -> None:
    with pytest.raises(CompatError, match="more than 100 levels deep"):
        read_checkpoint(craft(b"\x80\x02)" + b"\x85" * depth + b"."))


def test_long_paths(craft: Any) -> None:
    key = text("k" * 4000)
    body = b"}" + (key + b"}") * 3 + b"s" * 3
    with pytest.raises(CompatError, match="very long names inside of each"):
        read_checkpoint(craft(b"\x80\x02" + body + b"."))


def test_parts_that_are_shared_without_end(craft: Any) -> None:
    # 2**90 paths lead to the innermost.
    body = b"\x80\x02)" + b"".join(
        b"q%ch%c\x86" % (index, index) for index in range(90)
    )
    start = time.monotonic()
    with pytest.raises(CompatError, match="shares its parts so often"):
        read_checkpoint(craft(body + b"."))
    assert time.monotonic() - start < 1


def test_a_tensor_that_claims_more_than_there_is(craft: Any) -> None:
    place = b"K\0\x8a\6\0\0\0\0\0\1\x85K\0\x85"
    path = craft(
        b"\x80\x02" + tensor(place=place) + b".", {"data/0": bytes(16)}
    )
    with pytest.raises(CompatError, match="asks for far more memory or time"):
        read_checkpoint(path)


PEAK = """
import resource, sys
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_checkpoint(sys.argv[1])
except CompatError as error:
    print(error.what)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    "body",
    [
        b"]" * 5_000_000,
        b"}" * 5_000_000,
        b"(" * 5_000_000,
        b"\x8f" * 5_000_000,
        b"]" + b"(NNNt" * 1_000_000 + b"e",
        b"]" + b"G\0\0\0\0\0\0\0\1" * 600_000,
        b"".join(b"Nr" + i.to_bytes(4, "little") for i in range(900_000)),
        text("a" * 20_000_000 + "\N{SNOWMAN}\U0001f600"),
        b"cm\nC\nq\0" + b"h\0)R" * 1_000_000,
        # Calls that share a long argument.
        b"cbuiltins\nset\nq\0](" + b"K\1" * 100_000 + b"e\x85q\1"
        b"h\0h\1R" * 100_000,
        b"c_codecs\nencode\nq\0"
        + (text("a" * 1_000_000) + text("latin1") + b"\x86q\1")
        + b"h\0h\1R" * 100_000,
        b"}q\0("
        + b"".join(text(f"k{index}") + b"N" for index in range(50_000))
        + b"uccollections\nOrderedDict\nq\1"
        + b"h\1)Rh\0b" * 100_000,
    ],
    ids=lambda body: ascii(body)[:20],
)
def test_memory_is_bounded(craft: Any, body: bytes) -> None:
    path: Path = craft(b"\x80\x02" + body + b".")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    *_, kilobytes = done.stdout.split()
    size = path.stat().st_size
    assert int(kilobytes) * 1024 < max(80_000_000, 4 * size)
