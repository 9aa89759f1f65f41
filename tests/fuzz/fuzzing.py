"""Mutate files by seeds, and compare the readers on each."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from mutations import mutate_archive, mutate_bytes, mutate_pickle, originals
from torch_comparison import check
from weights_comparison import check_weights, mutate_weights, weights_files

#: What a file of at most 2 MB may take.
SECONDS = 2


class Kind(NamedTuple):
    """One kind of files, and how they are mutated and compared."""

    name: str
    suffix: str
    originals: Callable[[], list[bytes]]
    mutate: Callable[[bytes, random.Random], bytes]
    check: Callable[[bytes, Path], bool]


PICKLES = Kind("pickles", ".ckpt", originals, mutate_pickle, check)
ARCHIVES = Kind("archives", ".ckpt", originals, mutate_archive, check)
BYTES = Kind("archives", ".ckpt", originals, mutate_bytes, check)
WEIGHTS = Kind(
    *("safetensors", ".safetensors", weights_files),
    *(mutate_weights, check_weights),
)
#: The kind of each seed, in turn.
KINDS = (ARCHIVES, BYTES, WEIGHTS, *10 * [PICKLES])


def kind_of(seed: int) -> Kind:
    return KINDS[seed % len(KINDS)]


def mutated(seed: int) -> bytes:
    dice = random.Random(seed)
    kind = kind_of(seed)
    return kind.mutate(dice.choice(kind.originals()), dice)


def run(
    seeds: Iterable[int], folder: Path
) -> tuple[Counter[str], dict[int, str]]:
    """Return counts by kind, and what was found, by seed."""
    counts: Counter[str] = Counter()
    found = {}
    for seed in seeds:
        kind, content = kind_of(seed), mutated(seed)
        counts[kind.name] += 1
        begun = time.process_time()
        try:
            accepted = kind.check(content, folder)
        # Any is a bug: ours refuses by CompatError, and `check` catches it.
        except Exception as error:
            found[seed] = f"{type(error).__name__}: {error}"[:300]
            continue
        if time.process_time() - begun > SECONDS:
            found[seed] = f"more than {SECONDS} s"
        counts[f"{kind.name} accepted"] += accepted
    return counts, found
