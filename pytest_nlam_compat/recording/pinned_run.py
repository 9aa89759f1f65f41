"""Compute what is recorded of a pinned checkpoint."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pytest_nlam_compat.adapters.model_arguments import forcing_window
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.numerics.tolerances import MOST_NOISE32
from pytest_nlam_compat.numerics.torch_settings import (
    building,
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.recording import recorder, strength
from pytest_nlam_compat.recording.cases import AR_STEPS
from pytest_nlam_compat.recording.extract import refuse_unlike
from pytest_nlam_compat.recording.runs import BatchRuns
from pytest_nlam_compat.recording.workspace import Workspace

# Of a rollout in float32: one in float64 and the trace; then three more with
# gradients, for strength, loss and training step.
_TIMES_FORECAST, _TIMES_TRAINING = 4, 20


def compute(
    work: Workspace,
    datastore: Any,
    kept: Tensor | None,
    left_out: Mapping[str, str],
    say: Callable[[str], None],
) -> dict[str, bytes]:
    """Return the members of a pinned reference.

    Parameters
    ----------
    work : Workspace
        With the checkpoint, the configuration and the graph.
    datastore : neural_lam.datastore.base.BaseDatastore
        That of the user. The dataset of `work`, all of it or the nodes that
        were `kept`, has to give the same batch.
    left_out : mapping of str to str
        Of ``"loss"`` and ``"resume"``, what is not recorded, and why.
    say : callable
        Receives how long it will take.

    Raises
    ------
    CompatError
        Its outputs are not finite, or those of neural-lam's own loader are
        others.
    """
    started = time.monotonic()
    with reproducible():
        run, golden32 = _golden32(work, datastore, kept)
        seconds = time.monotonic() - started
        times = _TIMES_FORECAST if "loss" in left_out else _TIMES_TRAINING
        say(
            f"A rollout takes {seconds:.1f} s; all takes up to "
            f"{times * seconds:.0f} s."
        )
        # Our copy, without classes that no checkpoint of neural-lam has.
        saved = torch.load(
            work.checkpoint, map_location="cpu", weights_only=False
        )
        # Of a large model, one is held at a time.
        gc.collect()
        weights = {"state_dict": saved.pop("state_dict")}
        module = work.load(weights, torch.float64)
        del weights
        golden64 = run.outputs(module, torch.float64)
        tensors, description = recorder.describe(
            work, saved, golden32, golden64
        )
        _refuse_outputs(golden32, description["noise32"])
        description["left_out"] = dict(left_out)
        if "loss" not in left_out:
            with default_dtype(torch.float64), run.same_noise("loss"):
                loss = run.adapter.training_loss(
                    module, run.typed(torch.float64)
                )
                _refuse_loss(loss)
                figures = strength.estimate(module, loss)
            description["strength"] = figures.plain()
        recorder.trace_and_resume(run, module, saved, tensors, description)
    return recorder.members(work, run, tensors, description)


def _golden32(
    work: Workspace, datastore: Any, kept: Tensor | None
) -> tuple[BatchRuns, dict[str, Tensor]]:
    """Return what it gives today: with its own loader, in its own precision."""
    adapter, case = work.adapter, work.case
    copied = work.datastore(torch.float32)
    config = adapter.config(work.folder / "config.yaml")
    with building(torch.float32):
        module = adapter.load_native(
            work.checkpoint, config, case.model, copied
        )
    window = forcing_window(work.hyper_parameters, None)
    found, expected = (
        adapter.batch(module, each, window, range(case.samples), AR_STEPS)
        for each in (copied, datastore)
    )
    if kept is not None:
        init, target, forcing, times = expected
        expected = (
            init[:, :, kept],
            target[:, :, kept],
            forcing[:, :, kept],
            times,
        )
    refuse_unlike(work.dataset, found, expected)
    run = BatchRuns(adapter, found)
    return run, run.outputs(module, torch.float32)


def _refuse_outputs(golden32: Mapping[str, Tensor], noise32: float) -> None:
    wrong = [name for name, t in golden32.items() if not t.isfinite().all()]
    if wrong:
        raise CompatError(
            "The rollout of the checkpoint has values that are not finite.",
            facts={"in": ", ".join(wrong)},
            remedy="Check that graph and datastore are those that it was "
            "trained with, and that the training did not diverge.",
        )
    if not noise32 <= MOST_NOISE32:
        raise CompatError(
            "neural-lam gives other outputs in float32 than in float64.",
            facts={"difference": f"{noise32:.1e} of the spread"},
            remedy="Its own loader may build another model than the one that "
            "was trained. Compare the forecasts that it gives today.",
        )


def _refuse_loss(loss: Tensor) -> None:
    if not loss.isfinite():
        raise CompatError(
            "The training loss of the checkpoint is not finite.",
            facts={"loss": float(loss)},
            remedy="Check that some nodes of the dataset are forecast: on a "
            "small grid, all of them are boundary.",
        )


def strength_lines(description: Mapping[str, Any]) -> list[str]:
    """Say how much of the model a check of the reference can see."""
    if "strength" not in description:
        reason = description["left_out"]["loss"]
        return [f"strength: not measured. {reason}"]
    figures = description["strength"]
    effects = figures["parameters"] | figures["columns"]
    # Not "<": an effect may be NaN.
    weak = [n for n, e in effects.items() if not e >= figures["required"]]
    lines = [
        f"strength: a change of 10 % shows in {len(effects) - len(weak)} of "
        f"{len(effects)} parameters and input columns"
    ]
    return lines + ([f"hardly shows: {join_some(weak, 4)}"] if weak else [])
