"""Kills upgrades in place at random moments; a process of its own.

Called as ``python killed_upgrades.py FILE NEW COUNT``: FILE is upgraded in
place again and again, NEW is what it becomes. Prints how often the old and how
often the new file was there.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

# The children fork from here: what they import is imported already.
from pytest_nlam_compat.upgrade.output import UPGRADED, OutputFile
from pytest_nlam_compat.upgrade.request import UpgradeRequest
from pytest_nlam_compat.upgrade.upgrade import upgrade


def start(file):
    """Fork a child that upgrades; it leaves without any cleaning up."""
    child = os.fork()
    if child == 0:
        output = OutputFile(file, None, UPGRADED, in_place=True)
        upgrade(output, UpgradeRequest(origin="0.6.0"))
        os._exit(0)
    return child


def main(file, new_path, count):
    old, new = file.read_bytes(), new_path.read_bytes()
    backup = file.with_name(f"{file.name}.bak")
    begun = time.perf_counter()
    os.waitpid(start(file), 0)
    whole = time.perf_counter() - begun
    assert file.read_bytes() == new
    seen = {"old": 0, "new": 0}
    random.seed(count)
    for _ in range(count):
        backup.replace(file)
        child = start(file)
        time.sleep(random.uniform(0, 1.1 * whole))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = file.read_bytes()
        assert content in (old, new), "neither the old nor the new file"
        seen["new" if content == new else "old"] += 1
        assert content == old or backup.exists(), "the old file is gone"
        assert not backup.exists() or backup.read_bytes() == old
        # What was cut short can simply be done again.
        os.waitpid(start(file), 0)
        assert file.read_bytes() == new
        assert backup.read_bytes() == old
    for part in file.parent.glob(".*.part"):
        part.unlink()
    print(seen["old"], seen["new"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
