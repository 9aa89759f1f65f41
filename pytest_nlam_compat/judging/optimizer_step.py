"""Judge what shows in resumed training only: the optimizer's moments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.batch_and_loss import compare_loss
from pytest_nlam_compat.judging.grade import Findings
from pytest_nlam_compat.migrations.number_sources import (
    COMPUTED,
    NumberSources,
    number_sources,
)
from pytest_nlam_compat.numerics.comparison import compare, sample
from pytest_nlam_compat.numerics.tolerances import (
    RESUME,
    RESUME_FLOAT32_WEIGHTS,
    allowed,
)
from pytest_nlam_compat.under_test.resumed_training import (
    loaded_parameters,
    resume,
)

if TYPE_CHECKING:
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )
    from pytest_nlam_compat.under_test.resumed_training import ResumedStep


def judge_resumed(subject: ReferenceUnderTest) -> Findings:
    """Take one more training step and compare it with the recorded one.

    Compared are its loss and what it adds to each parameter, except for
    numbers that a migration recomputed: the step depends on their value,
    by weight decay, and on their scale, which AdamW does not follow.

    Raises
    ------
    CompatError
        The step can't be taken, or differs: in the learning rate, or in which
        parameter most, and what was not compared.
    """
    reference = subject.reference
    step = resume(subject)
    _compare_rates(subject, step.rate)
    shares = compare_loss(reference, step.loss)
    sources = number_sources(
        subject.float64,
        subject.steps,
        partial(loaded_parameters, subject, step.module),
    )
    left_out = _left_out(sources)
    names, obtained, expected = _updates(reference, step, sources)
    rounded = reference.description.get("loss_weights") == "float32"
    row = RESUME_FLOAT32_WEIGHTS if rounded else RESUME
    difference = compare(
        obtained[:, None],
        expected[:, None],
        allowed(row, expected[:, None]),
        output="update",
    )
    shares[row.name] = difference.share
    if difference.share > 1:
        raise CompatError(
            f"{reference.id}: one more training step gives different "
            "parameters.",
            facts={
                "differs most": names[difference.index[0]],
                "obtained update": f"{difference.obtained:.12g}",
                "expected update": f"{difference.expected:.12g}",
                "allowed": f"{difference.allowed:.2e}, tolerance {row.name!r}",
                "not compared": "; ".join(
                    f"{name} ({why})" for name, why in left_out.items()
                )
                or "nothing",
            },
            remedy="If test_outputs and test_loss pass, the weights are right "
            "and the moments of the optimizer are not: an operation moves the "
            "weights without their moments, or parameters are registered in "
            "another order.",
            shares=shares,
        )
    return Findings(shares, left_out)


def _compare_rates(subject: ReferenceUnderTest, rate: float) -> None:
    saved = saved_rate(subject)
    if rate != saved:
        raise CompatError(
            f"{subject.reference.id}: training would go on with another "
            "learning rate.",
            facts={"configured": rate, "in the checkpoint": saved},
            remedy="Configure the optimizer with the lr of the checkpoint's "
            "hyper-parameters.",
        )


def saved_rate(subject: ReferenceUnderTest) -> float:
    """Return the learning rate of the optimizer in the checkpoint."""
    (state,) = subject.migrated_checkpoint()["optimizer_states"]
    group = state["param_groups"][0]
    return float(group.get("initial_lr", group["lr"]))


def _updates(
    reference: Reference, step: ResumedStep, sources: NumberSources
) -> tuple[list[str], Tensor, Tensor]:
    """Pair what the step has added with what it added in the release.

    Returns the name of the parameter of each pair, and both as (n,) float64.
    """
    known, values = _recorded(reference)
    names: list[str] = []
    obtained, expected = [], []
    for name, indices in sources.indices.items():
        exact = indices != COMPUTED
        if name in sources.reset:
            exact &= ~sources.reset[name]
        exact &= known[indices.clamp(min=0)]
        names += [name] * int(exact.sum())
        obtained.append(step.updates[name][exact])
        expected.append(values[indices[exact]])
    return names, torch.cat(obtained), torch.cat(expected)


def _recorded(reference: Reference) -> tuple[Tensor, Tensor]:
    """Return what the release's step added to its parameters, where known.

    (P,) bool and (P,) float64, over all parameters, one after the other.
    """
    recorded = reference.group("resume")
    if "update" in recorded:
        updates = recorded["update"].double()
        return torch.ones(len(updates), dtype=torch.bool), updates
    before = [
        reference.state_dict[name].double().flatten()
        for name in reference.description["resume"]
    ]
    flat = torch.cat(before)
    known = torch.zeros(len(flat), dtype=torch.bool)
    updates = torch.zeros_like(flat)
    first = sampled = 0
    for values in before:
        chosen = sample(torch.arange(len(values)))
        after = recorded["parameters"][sampled : sampled + len(chosen)]
        known[first + chosen] = True
        updates[first + chosen] = after - values[chosen]
        first += len(values)
        sampled += len(chosen)
    return known, updates


def _left_out(sources: NumberSources) -> dict[str, str]:
    """Say which numbers are not compared."""
    found: dict[str, str] = {}
    for name, indices in sources.indices.items():
        computed = indices == COMPUTED
        reset = sources.reset.get(name, torch.zeros_like(computed)) & ~computed
        reasons = []
        if computed.any():
            reasons.append(f"{_which(computed)} recomputed by a migration")
        if reset.any():
            reasons.append(f"{_which(reset)} with moments that were reset")
        if reasons:
            found[name] = ", ".join(reasons)
    return found


def _which(chosen: Tensor) -> str:
    """Name the columns of a matrix, or count."""
    if chosen.all():
        return "all"
    if chosen.dim() == 2:
        columns = chosen.any(dim=0)
        if torch.equal(chosen, columns.expand_as(chosen)):
            numbers = columns.nonzero().flatten().tolist()
            return f"columns {', '.join(map(str, numbers))}"
    return f"{int(chosen.sum())} of {chosen.numel()} numbers"
