"""How much faster two workers of pytest-xdist are than one process.

Prints the ratio of wall times with all references, and with eight copies of
each, and ends with exit status 1 when a bound is broken. Two cores have to be
idle: unlike `overhead.py` it can't tell what else the machine did.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys

from overhead import (
    CORES,
    NEEDED,
    OURS,
    ROOT,
    BenchmarkError,
    Row,
    print_table,
    timed,
    use_two_cores,
)

COPIES = 8
# With few references importing neural_lam, which each worker does, counts.
BOUNDS = {1: 1.5, COPIES: 1.8}


def main() -> int:
    """Measure and print the table; return 0 if all bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument(
        "--few", action="store_true", help="without copies of references"
    )
    arguments = parser.parse_args()
    use_two_cores()
    rows = []
    try:
        for copies, bound in BOUNDS.items():
            if copies == 1 or not arguments.few:
                rows.append(compare(copies, bound, arguments.repeat))
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print_table(rows)
    return 0 if all(row.held for row in rows) else 1


def compare(copies: int, bound: float, repeat: int) -> Row:
    """Compare two workers with one process; see `copies.py`."""
    os.environ["COPIES"] = str(copies)
    os.environ["PYTHONPATH"] = str(ROOT / "bench")
    command = [sys.executable, "-m", "pytest", *OURS, *NEEDED, "-p", "copies"]
    command.append("--nlam-compat")
    one, two = [], []
    for number in range(1, repeat + 1):
        one.append(timed(command))
        two.append(timed([*command, "-p", "xdist", f"-n{CORES}"]))
        print(f"run {number} of {repeat}: {one[-1]}, {two[-1]}", flush=True)
    ratio = statistics.median(run.wall for run in one) / statistics.median(
        run.wall for run in two
    )
    return Row(
        f"{CORES} workers over 1 process, {one[0].references} references",
        f"{bound:.2f}x",
        f"{ratio:.2f}x",
        ratio >= bound,
    )


if __name__ == "__main__":
    sys.exit(main())
