"""Recording one case: build, train, save, run, and prove that it is strong."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from pytest_nlam_compat.adapters.base import Adapter
from pytest_nlam_compat.adapters.hyper_parameters import forcing_window
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.tolerances import noise32
from pytest_nlam_compat.recording import strength, training
from pytest_nlam_compat.recording.cases import AR_STEPS, Case
from pytest_nlam_compat.recording.members import Measured, members_of
from pytest_nlam_compat.recording.runs import Runs, training_noise
from pytest_nlam_compat.recording.workspace import prepare

_DRAWS = 100


def record(case: Case, adapter: Adapter, folder: Path) -> dict[str, bytes]:
    """Record a case with the installed release.

    Parameters
    ----------
    case : Case
    adapter : Adapter
    folder : pathlib.Path
        Empty folder to work in.

    Returns
    -------
    dict of str to bytes
        Members of the case in the archive.

    Raises
    ------
    CompatError
        If the case stays too weak, with what can't be seen.
    """
    suspects: dict[str, None] = {}
    for seed in range(_DRAWS):
        workplace = folder / str(seed)
        workplace.mkdir()
        members, weak = _record(case, adapter, workplace, seed, suspects)
        if not weak:
            return members
        suspects |= dict.fromkeys(name.partition("[")[0] for name in weak)
    raise CompatError(
        f"The case {case.name} is too weak to be a reference: 10 % more or "
        "less of a weight hardly moves its outputs.",
        facts={
            name: f"{share:.1e} of the needed" for name, share in weak.items()
        },
        remedy="Make the model smaller or its inputs larger in "
        "recording/cases.py; a reference that can't fail is none.",
    )


def _record(
    case: Case,
    adapter: Adapter,
    folder: Path,
    seed: int,
    suspects: Iterable[str],
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Draw, train and measure once; what is weak, as a share of the needed."""
    work = prepare(case, adapter, folder, seed)
    generator = torch.Generator().manual_seed(seed)
    module = work.build(torch.float32)
    training.strengthen(module, generator)
    args = forcing_window(work.hyper_parameters, case.predictor)
    with training_noise(case, generator):
        training.train(
            adapter,
            module,
            work.datastore(torch.float32),
            args,
            case.samples,
            AR_STEPS,
            work.checkpoint,
        )
    # Our own file of a moment ago.
    saved = torch.load(work.checkpoint, map_location="cpu", weights_only=False)
    module32 = work.load(saved, torch.float32)
    module64 = work.load(saved, torch.float64)
    batch = adapter.batch(
        module32,
        work.datastore(torch.float32),
        args,
        range(case.samples),
        AR_STEPS,
    )
    run = Runs(case, adapter, batch, generator)
    golden32 = run.outputs(module32, torch.float32)
    golden64 = run.outputs(module64, torch.float64)
    noise = max(noise32(golden32[n], golden64[n]) for n in golden64)
    figures = strength.measure(
        module64,
        lambda: run.outputs(module64, torch.float64),
        noise,
        generator,
        suspects,
    )
    if figures.weak:
        return {}, {
            name: effect / figures.required
            for name, effect in figures.weak.items()
        }
    measured = Measured(golden32, golden64, noise, figures)
    return members_of(work, saved, run, module64, measured), {}
