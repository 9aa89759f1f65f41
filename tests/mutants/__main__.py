"""Run mutants and print the score.

``python tests/mutants`` runs all, ``python tests/mutants WORD ...`` those whose
name contains one of the words, with all that they print, and ``python
tests/mutants -- NAME ...`` those of these names.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from preloading import preload
from runner import right, timed, wrong_fix
from tables import ALL


def main(names: list[str]) -> int:
    """Run those that are meant, and return the exit status."""
    exact = names[:1] == ["--"]
    words = names[1:] if exact else names
    chosen = [
        m
        for m in ALL
        if not words
        or (m.name in words if exact else any(w in m.name for w in words))
    ]
    preload()
    begin = time.perf_counter()
    counts = {"verdict": [0, 0], "cause": [0, 0], "step": [0, 0]}
    for mutant in chosen:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome, took = timed(mutant, Path(folder))
            except AssertionError as error:
                print(f"BROKEN {mutant.name}: {error}", flush=True)
                counts["verdict"][1] += 1
                continue
            log = (Path(folder) / "log.txt").read_text(encoding="utf-8")
        tally(mutant, outcome, took, counts)
        if words and not exact:
            print(log, *outcome.failed.values(), outcome.step, sep="\n")
    for what, (good, total) in counts.items():
        print(f"{what}: {good} of {total}")
    print(f"{len(chosen)} mutants in {time.perf_counter() - begin:.0f} s")
    return int(any(good < total for good, total in counts.values()))


def tally(mutant, outcome, took, counts):
    """Count one outcome in, and print its line."""
    red = bool(outcome.failed)
    wrong = right(mutant, outcome)
    note = wrong_fix(mutant, outcome) if red else ""
    counts["verdict"][0] += red == bool(mutant.kind)
    counts["verdict"][1] += 1
    if mutant.kind:
        counts["cause"][0] += not wrong
        counts["cause"][1] += 1
    if mutant.fixable:
        counts["step"][0] += not note
        counts["step"][1] += 1
    what = f"{outcome.kind}: {outcome.cause}" if red else "green"
    print(
        f"{'ok ' if not wrong else 'BAD'} {mutant.name}: {what} "
        f"[{outcome.module}] {took:.1f} s (cause {outcome.seconds:.1f} s, "
        f"step {outcome.suggesting:.1f} s)",
        *(f"    {text}" for text in (wrong, note) if text),
        sep="\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
