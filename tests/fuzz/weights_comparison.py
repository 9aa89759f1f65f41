"""Compare our reader of safetensors with the library, on mutated files."""

from __future__ import annotations

import contextlib
import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.weights import (
    Weights,
    WeightsFile,
    write_weights,
)


@cache
def weights_files() -> list[bytes]:
    torch.manual_seed(0)
    kinds = {
        str(kind).removeprefix("torch."): torch.ones(2, 3).to(kind)
        for kind in (
            *(torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64),
            *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        )
    }
    return [
        save(
            torch.nn.Linear(2, 3).state_dict(), {"format": "pt", STAMP: "[1]"}
        ),
        save(kinds),
        save(
            {
                "empty": torch.empty(0, 3),
                "scalar": torch.tensor(1.0),
                "b\n\u00e9\U0001f600": torch.arange(5),
                "": torch.ones(1, 1, 1),
            }
        ),
        save({}, {"a": ""}),
    ]


NUMBERS = (
    *(0, 1, 2, 3, 4, 6, 8, 24, -1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30),
    *(0.0, 1.5, 1e400, True, None, "1", [], {}),
)
SNIPPETS = (
    *('"', "\\", "{", "}", "[", "]", ",", ":", " ", "\t", "\n", "0", "-", "1"),
    *(
        ".0",
        "e1",
        "NaN",
        "null",
        "\\u0000",
        "\\ud800",
        "\u00e9",
        "\ufeff",
        "\0",
    ),
    *('"__metadata__":{},', '"a":{"dtype":"F32"},', '"shape":[0],', "/**/"),
)


def mutate_weights(content: bytes, dice: random.Random) -> bytes:
    """Change the header of a file, its length, or what follows it."""
    end = 8 + int.from_bytes(content[:8], "little")
    text, data = content[8:end].decode(), content[end:]
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        if dice.randrange(2):
            with contextlib.suppress(ValueError):
                text = change_table(json.loads(text), dice)
        else:
            text = change_text(text, dice)
    header = text.encode("utf-8", "surrogatepass")
    length = len(header)
    if not dice.randrange(8):
        length = max(0, length + dice.choice([-8, -1, 1, 8, 2**20, 2**62]))
    if not dice.randrange(8):
        data = dice.choice([data[:-1], data + b"\0", data + data, data[1:]])
    return length.to_bytes(8, "little") + header + data


def change_table(table: Any, dice: random.Random) -> str:
    names = [*table] if isinstance(table, dict) else []
    if not names:
        return json.dumps(table)
    name, other = dice.choice(names), dice.choice(names)
    entry = table[name]
    number = dice.choice(NUMBERS)
    kind = dice.randrange(8)
    if kind == 0:
        table[name] = table[other]
    elif kind == 1:
        table[name], table[other] = table[other], entry
    elif kind == 2:
        table[str(number)] = table.pop(name)
    elif kind == 3:
        names = dice.sample(names, len(names))
        table = {each: table[each] for each in names}
    elif kind == 4 and isinstance(entry, dict) and entry:
        entry[dice.choice([*entry, str(number)])] = number
    elif kind == 5 and isinstance(entry, dict):
        entry["dtype"] = dice.choice(
            [
                *(
                    "F32",
                    "I32",
                    "F64",
                    "F8_E4M3",
                    "F4",
                    "C64",
                    "BOOL",
                    "U8",
                    "f32",
                )
            ]
        )
    elif isinstance(entry, dict):
        part = entry.get(dice.choice(["shape", "data_offsets"]))
        if isinstance(part, list):
            at = dice.randrange(len(part) + 1)
            part[at : at + dice.randrange(2)] = [number]
    separators = dice.choice([(",", ":"), (", ", ": ")])
    return json.dumps(
        table, separators=separators, ensure_ascii=bool(dice.randrange(2))
    )


def change_text(text: str, dice: random.Random) -> str:
    at, other = sorted(dice.randrange(len(text) + 1) for _ in range(2))
    end = at + dice.randrange(3)
    kind = dice.randrange(5)
    numbers = [*re.finditer(r"\d+", text)]
    if kind == 4 and numbers:
        # The same number for one reader or another.
        start, stop = dice.choice(numbers).span()
        truth = {"0": "false", "1": "true"}.get(text[start:stop], "{}e+0")
        forms = ["-{}", "0{}", "{}.0", "{}e0", "+{}", '"{}"', truth]
        same = dice.choice(forms)
        return text[:start] + same.format(text[start:stop]) + text[stop:]
    if kind == 0:
        return text[:at] + dice.choice(SNIPPETS) + text[end:]
    if kind == 1:
        return text[:other] + text[at : at + 40] + text[other:]
    if kind == 2:
        return text[:at] + text[at:other].swapcase() + text[other:]
    return text + " " * dice.randrange(9)


def check_weights(content: bytes, folder: Path) -> bool:
    """Compare the readers on one file; return whether ours accepts it."""
    path, again = folder / "mutated.safetensors", folder / "again.safetensors"
    path.write_bytes(content)
    try:
        file = WeightsFile(path)
    except CompatError:
        return False
    with Weights(file) as weights:
        refs = weights.data["state_dict"]
        ours = {name: content_of(ref.load()) for name, ref in refs.items()}
        found, metadata = by_the_library(path)
        assert found == ours
        assert metadata == file.metadata
        write_weights(weights, again, overwrite=True)
    found, metadata = by_the_library(again)
    assert found == ours
    # What was JSON there is now as we write JSON.
    assert metadata.keys() == file.metadata.keys()
    return True


def by_the_library(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with safe_open(path, "pt") as file:
        names = file.keys()
        found = {name: content_of(file.get_tensor(name)) for name in names}
        return found, file.metadata() or {}


def content_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    values = tensor.contiguous().reshape(-1).view(torch.uint8).tolist()
    return tensor.dtype, tuple(tensor.shape), tensor.stride(), values
