"""Compute what is recorded of a pinned checkpoint."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.adapters.batches import PARTS
from pytest_nlam_compat.adapters.model_arguments import forcing_window
from pytest_nlam_compat.adapters.training_step import optimizer_step
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.numerics.comparison import sample
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.tolerances import (
    LOSS,
    MOST_NOISE32,
    noise32,
)
from pytest_nlam_compat.numerics.torch_settings import (
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.recording.extract import refuse_unlike
from pytest_nlam_compat.recording.strength import (
    PERTURBATION,
    TIMES_FLOAT64_TOLERANCE,
)
from pytest_nlam_compat.under_test.large_reference import (
    LargeReferenceUnderTest,
)
from pytest_nlam_compat.under_test.reference_under_test import (
    ReferenceUnderTest,
)
from pytest_nlam_compat.under_test.tracing import record_trace

# Of a rollout in float32: one in float64; then another with its gradients, for
# loss and training step.
_TIMES_FORECAST, _TIMES_TRAINING = 3, 8
_TOO_LARGE = (
    "The model is large: a training step in float64 takes four times its size "
    "in memory."
)


def compute(
    subject: ReferenceUnderTest,
    datastore: Any,
    kept: Tensor | None,
    say: Callable[[str], None],
) -> None:
    """Add to the reference of `subject` what is recorded of it.

    Its batch, goldens in both precisions, trace, training loss and one more
    step of training. `datastore` is that of the user: what the reference holds
    of it, all or the nodes `kept`, has to give the same batch.

    Raises
    ------
    CompatError
        neural-lam can't run it, or its outputs are not finite.
    """
    tensors = subject.reference.tensors
    description = subject.reference.description
    left_out = description["left_out"]
    if isinstance(subject, LargeReferenceUnderTest):
        left_out |= dict.fromkeys(("loss", "resume"), _TOO_LARGE)
    tensors |= _batch(subject, datastore, kept)
    started = time.monotonic()
    # What it gives today: with its own loader, in its own precision.
    golden32 = _outputs(subject, subject.native_model(torch.float32))
    seconds = time.monotonic() - started
    times = _TIMES_FORECAST if "loss" in left_out else _TIMES_TRAINING
    say(f"A rollout takes {seconds:.1f} s; all takes {times * seconds:.0f} s.")
    module = subject.migrated_model(torch.float64)
    golden64 = _traced_outputs(subject, module)
    description["outputs"] = sorted(golden64)
    description["noise32"] = max(
        noise32(golden32[name], golden64[name]) for name in golden64
    )
    if not description["noise32"] <= MOST_NOISE32:
        raise CompatError(
            "neural-lam gives other outputs in float32 than in float64.",
            facts={"difference": f"{description['noise32']:.1e} of the spread"},
            remedy="Its own loader may build another model than the one that "
            "was trained. Compare the forecasts that it gives today.",
        )
    tensors |= {f"golden32/{name}": t for name, t in golden32.items()}
    tensors |= {f"golden64/{name}": t for name, t in golden64.items()}
    if "loss" not in left_out:
        _train(subject, module)


def _batch(
    subject: ReferenceUnderTest, datastore: Any, kept: Tensor | None
) -> dict[str, Tensor]:
    reference, adapter = subject.reference, subject.adapter
    module = subject.native_model(torch.float32)

    def batch(source: Any) -> Any:
        return adapter.batch(
            module,
            source,
            forcing_window(subject.hyper_parameters, None),
            reference.sample_indices,
            reference.description["ar_steps"],
        )

    copied = batch(subject.datastore(torch.float32, "native"))
    expected = batch(datastore)
    if kept is not None:
        *parts, times = expected
        expected = (*(part[:, :, kept] for part in parts), times)
    refuse_unlike(reference.dataset, copied, expected)
    return {f"batch/{n}": t for n, t in zip(PARTS, copied, strict=True)}


def _outputs(
    subject: ReferenceUnderTest,
    module: nn.Module,
    batch: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    dtype = next(module.parameters()).dtype
    outputs = dict(subject.outputs(module, dtype, batch))
    wrong = [name for name, t in outputs.items() if not t.isfinite().all()]
    if wrong:
        raise CompatError(
            "The rollout of the checkpoint has values that are not finite.",
            facts={"in": ", ".join(wrong)},
            remedy="Check that graph and datastore are those that it was "
            "trained with, and that the training did not diverge.",
        )
    return outputs


def _traced_outputs(
    subject: ReferenceUnderTest, module: nn.Module
) -> dict[str, Tensor]:
    """Roll out in float64, and record the first step layer by layer.

    The other steps start from its state: a rollout is no more than that, and
    of a large model each step takes seconds.
    """
    init, target, forcing, times = subject.recorded_batch(torch.float64)
    first: dict[str, Tensor] = {}

    def step() -> None:
        batch = init, target[:, :1], forcing[:, :1], times
        first.update(_outputs(subject, module, batch))

    trace = record_trace(subject.adapter.step_predictor(module), step)
    tensors = subject.reference.tensors
    tensors["trace/rows"] = trace.rows
    tensors |= {f"trace/columns/{n}": t for n, t in trace.columns.items()}
    subject.reference.description["trace"] = {
        "calls": [
            [call.module, call.kind, call.inputs, call.outputs]
            for call in trace.calls
        ],
        "shapes": trace.shapes,
    }
    state = torch.stack([init[:, 1], first["prediction"][:, 0]], dim=1)
    rest = _outputs(
        subject, module, (state, target[:, 1:], forcing[:, 1:], times)
    )
    return {n: torch.cat([first[n], rest[n]], dim=1) for n in first}


def _train(subject: ReferenceUnderTest, module: nn.Module) -> None:
    """Record the loss and, with an optimizer, one more step of training.

    The gradients of the loss also tell how well a change of a weight shows.
    """
    reference, batch = subject.reference, subject.recorded_batch(torch.float64)
    description, tensors = reference.description, reference.tensors
    noise = ReplayNoise([])
    with reproducible(), default_dtype(torch.float64), noise:
        states = subject.migrated_checkpoint()["optimizer_states"]
        if states and "resume" not in description["left_out"]:
            value, after = optimizer_step(
                subject.adapter, module, states[0], batch
            )
            description["resume"] = list(after)
            tensors["resume/parameters"] = torch.cat(
                [sample(p) for p in after.values()]
            )
            tensors["resume/loss"] = torch.tensor([value], dtype=torch.float64)
        else:
            loss = subject.adapter.training_loss(module, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            value = float(loss.detach())
    tensors["golden64/loss"] = torch.tensor([value], dtype=torch.float64)
    description["strength"] = _strength(module, value)


def _strength(module: nn.Module, loss: float) -> dict[str, Any]:
    """Estimate how far a change of 10 % moves the loss, over its size.

    To first order: of each parameter, by random numbers of that size, the
    standard deviation; of each input column of a grid embedder, scaled.
    """
    parameters: dict[str, float] = {}
    columns: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        weight, gradient = parameter.detach(), parameter.grad
        if gradient is None:
            parameters[name] = 0.0
            continue
        size = PERTURBATION * float(weight.square().mean().sqrt())
        parameters[name] = size * float(gradient.norm()) / abs(loss)
        if re.fullmatch(r"(.*\.)?grid_([^.]*_)?embedder\.0\.weight", name):
            effects = PERTURBATION * (weight * gradient).sum(dim=0).abs()
            for column, effect in enumerate((effects / abs(loss)).tolist()):
                columns[f"{name}[:, {column}]"] = effect
    return {
        "required": TIMES_FLOAT64_TOLERANCE * LOSS.relative,
        "parameters": {n: float(f"{v:.2e}") for n, v in parameters.items()},
        "columns": {n: float(f"{v:.2e}") for n, v in columns.items()},
    }


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
