"""Kill each command often: ``python tests/kills --each 40 --seed 0``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))

from killing import kill_all

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_all(Path(folder), options.each, options.seed)
    for name, counts in found.items():
        print(f"{name}: {sum(counts.values())} kills, {dict(counts)}")
    print("nothing was lost, and nothing is left")
