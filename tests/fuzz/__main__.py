"""Fuzz for some minutes: ``python tests/fuzz --minutes 10``.

Files that two readers read differently, that raise anything but a CompatError
or that take more than 2 s or 300 MB are put into ``found/``, from where the
tests read them ever after.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count, takewhile
from pathlib import Path

from fuzzing import kind_of, mutated, run

FOUND = Path(__file__).with_name("found")
MEGABYTES = 300


def limit_memory() -> None:
    """Let this process have a little more memory; beyond it is MemoryError."""
    if sys.platform == "linux":
        import resource

        mutated(0)
        text = Path("/proc/self/status").read_text()
        used = int(re.findall(r"VmData:\s*(\d+)", text)[0]) * 1024
        limit = used + MEGABYTES * 1024**2
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def fuzz(
    first: int, step: int, end: float
) -> tuple[Counter[str], dict[int, str]]:
    """Run every `step`-th seed from the first on, until a time."""
    memory = Path("/dev/shm")
    seeds: Iterator[int] = takewhile(
        lambda _: time.time() < end, count(first, step)
    )
    with tempfile.TemporaryDirectory(
        dir=memory if memory.is_dir() else None
    ) as folder:
        return run(seeds, Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    end = time.time() + 60 * options.minutes
    firsts = range(options.seed, options.seed + options.workers)
    with ProcessPoolExecutor(options.workers, initializer=limit_memory) as pool:
        work = partial(fuzz, step=options.workers, end=end)
        results = list(pool.map(work, firsts))
    counts: Counter[str] = sum((each for each, _ in results), Counter())
    found = {seed: what for _, each in results for seed, what in each.items()}
    for name, number in sorted(counts.items()):
        print(f"{name}: {number:,}")
    for seed, what in sorted(found.items()):
        FOUND.mkdir(exist_ok=True)
        file = FOUND / f"{seed}{kind_of(seed).suffix}"
        file.write_bytes(mutated(seed))
        print(f"{file}: {what}")
    print(f"found: {len(found)}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
