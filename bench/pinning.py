"""What pinning and verifying a model of 100 million parameters costs.

``nox -s bench -- pinning`` runs it. It trains such a model for a step with the
installed neural-lam, and compares ``nlam-compat pin`` and ``verify``, each a
process of its own, with one that loads the file with neural-lam's own loader
and rolls it out once in each precision. It ends with exit status 1 when a bound
is broken: on CPU time over that of the plain process, and on memory over the
size of the parameters in float64.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MAX_TIME = 1.2
MAX_MEMORY = 3.0

NX = NY = 27
SIZES = ["--hidden_dim", "1024", "--processor_layers", "10"]

# Grids as small as this one are all boundary to neural-lam by default.
_NARROW = """
import sys
from neural_lam.datastore.mdp import MDPDatastore
_, *others = MDPDatastore.__init__.__defaults__
MDPDatastore.__init__.__defaults__ = (1, *others)
"""
_TRAIN = """
from pathlib import Path
import centre
folder = Path(sys.argv[1])
centre.write_dataset(folder, {nx}, {ny})
centre.train(folder, "graph_lam", "multiscale", 1, {sizes}, steps=1)
"""
_COMPAT = """
from pytest_nlam_compat.cli import main
sys.exit(main(sys.argv[1:]))
"""
# Nothing of ours but what drives each release, which imports neural_lam.
_PLAIN = """
from argparse import Namespace
from pathlib import Path
import torch
from loguru import logger
from neural_lam.config import load_config_and_datastore
from pytest_nlam_compat.adapters.probe import probe, select_adapter
from pytest_nlam_compat.numerics.torch_settings import building, default_dtype
logger.remove()
torch.set_num_threads(1)
folder = Path(sys.argv[1])
adapter = select_adapter(probe())
config, datastore = load_config_and_datastore(str(folder / "config.yaml"))
window = Namespace(num_past_forcing_steps=1, num_future_forcing_steps=1)
for dtype in (torch.float32, torch.float64):
    with building(dtype):
        module = adapter.load_native(
            folder / "production.ckpt", config, "graph_lam", datastore
        )
    module = module.to(dtype)
    with default_dtype(torch.float32):
        batch = adapter.batch(module, datastore, window, [0], 3)
    init, target, forcing, _ = (t.to(dtype) for t in batch)
    with default_dtype(dtype):
        adapter.outputs(module, init, forcing, target)
    del module
"""


@dataclass(frozen=True)
class Cost:
    """Medians over several runs: CPU seconds, and the most memory in bytes."""

    seconds: float
    peak: float

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s of CPU, {self.peak / 1e9:5.2f} GB"


def run(script: str, *arguments: object) -> tuple[float, int]:
    """Run a script, and return its CPU time in s and memory in bytes."""
    path = [ROOT, ROOT / "tests"]
    variables = {"PYTHONPATH": os.pathsep.join(map(str, path))}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _NARROW + script]
        + [str(each) for each in arguments],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"A command failed: {arguments}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def median(costs: Sequence[tuple[float, int]]) -> Cost:
    """Return the medians of what `run` returned."""
    seconds, peaks = zip(*costs, strict=True)
    return Cost(statistics.median(seconds), statistics.median(peaks))


def parameters(folder: Path) -> int:
    """Count the parameters of the model that was trained."""
    from pytest_nlam_compat.checkpoints.reader import read_checkpoint

    with read_checkpoint(folder / "production.ckpt") as checkpoint:
        weights = checkpoint.data["state_dict"].values()
        return sum(math.prod(each.shape) for each in weights)


def main() -> int:
    """Measure, and print what was found beside the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(_TRAIN.format(nx=NX, ny=NY, sizes=SIZES), folder)
        count = parameters(folder)
        size = 8 * count
        print(f"{count / 1e6:.0f} million parameters, {size / 1e9:.2f} GB each")
        pin = ["pin", folder / "production.ckpt"]
        pin += ["--datastore", folder / "config.yaml"]
        plain, pinned, verified = [], [], []
        for number in range(runs):
            plain.append(run(_PLAIN, folder))
            into = folder / f"pinned{number}"
            pinned.append(run(_COMPAT, *pin, "--into", into))
            (archive,) = into.glob("*.zip")
            verified.append(run(_COMPAT, "verify", archive))
            for each in into.iterdir():
                each.unlink()
        base = median(plain)
        print(f"load and roll out, each precision  {base}")
        broken = False
        for what, costs in (("pin", pinned), ("verify", verified)):
            cost = median(costs)
            time, memory = cost.seconds / base.seconds, cost.peak / size
            ok = time <= MAX_TIME and memory <= MAX_MEMORY
            broken |= not ok
            print(
                f"nlam-compat {what:6}                 {cost}: "
                f"{time:.2f} x of {MAX_TIME}, {memory:.2f} x of {MAX_MEMORY}"
                f"{'' if ok else '  BROKEN'}"
            )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
