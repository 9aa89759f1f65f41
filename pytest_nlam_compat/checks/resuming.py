"""What shows in resumed training only: whose moments are whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_nlam_compat.checks.training import judge_loss
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.provenance import (
    COMPUTED,
    Provenance,
    provenance,
)
from pytest_nlam_compat.numerics.comparison import compare
from pytest_nlam_compat.numerics.sampling import sample
from pytest_nlam_compat.numerics.tolerances import (
    RESUME,
    RESUME_FLOAT32_WEIGHTS,
    allowed,
)
from pytest_nlam_compat.under_test.resumed_training import resumed

if TYPE_CHECKING:
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )
    from pytest_nlam_compat.under_test.resumed_training import Resumed


@dataclass(frozen=True)
class Compared:
    """What came of comparing a resumed step.

    Attributes
    ----------
    share : float
        Largest share of a tolerance that was used.
    left_out : dict of str to str
        Parameters of which some numbers were not compared: which, and why.
    """

    share: float
    left_out: dict[str, str]


def judge_resumed(
    reference: Reference, subject: ReferenceUnderTest
) -> Compared:
    """Insist that one further step of training is the recorded one.

    Its loss, and what it adds to each parameter. Left out is what a migration
    has computed anew: the step depends on the value, by weight decay, and on
    its scale, which AdamW does not follow.

    Parameters
    ----------
    reference : Reference
    subject : ReferenceUnderTest

    Returns
    -------
    Compared

    Raises
    ------
    CompatError
        Which parameter differs most, and what was left out.
    """
    step = resumed(subject)
    share = judge_loss(reference, step.loss)
    origin = provenance(subject.float64, subject.steps)
    left_out = _left_out(origin)
    names, obtained, expected = _updates(reference, step, origin)
    rounded = reference.description.get("loss_weights") == "float32"
    row = RESUME_FLOAT32_WEIGHTS if rounded else RESUME
    difference = compare(
        obtained[:, None],
        expected[:, None],
        allowed(row, expected[:, None]),
        output="update",
    )
    if difference.share > 1:
        raise CompatError(
            f"{reference.id}: one further step of training is another one.",
            facts={
                "differs most": names[difference.index[0]],
                "added by the step": f"{difference.obtained:.12g}",
                "expected": f"{difference.expected:.12g}",
                "allowed": f"{difference.allowed:.2e}, by the row {row.name!r}",
                "left out": "; ".join(
                    f"{name} ({why})" for name, why in left_out.items()
                )
                or "nothing",
            },
            remedy="If test_outputs and test_loss pass, the weights have "
            "arrived and the moments of the optimizer have not: an operation "
            "moves the one without the other, or parameters are registered in "
            "another order.",
        )
    return Compared(max(share, difference.share), left_out)


def _updates(
    reference: Reference, step: Resumed, origin: Provenance
) -> tuple[list[str], Tensor, Tensor]:
    """Pair what the step has added with what it added in the release.

    Returns
    -------
    names : list of str
        Parameter of each pair.
    obtained, expected : Tensor
        (n,) float64.
    """
    known, values = _recorded(reference)
    names: list[str] = []
    obtained, expected = [], []
    for name, places in origin.places.items():
        exact = places != COMPUTED
        if name in origin.reset:
            exact &= ~origin.reset[name]
        exact &= known[places.clamp(min=0)]
        names += [name] * int(exact.sum())
        obtained.append(step.updates[name][exact])
        expected.append(values[places[exact]])
    return names, torch.cat(obtained), torch.cat(expected)


def _recorded(reference: Reference) -> tuple[Tensor, Tensor]:
    """Return what the release's step added to its parameters.

    Returns
    -------
    known : Tensor
        (P,) bool, over all parameters, flattened one after the other.
    updates : Tensor
        (P,) float64, of those known.
    """
    before = [
        reference.state_dict[name].double().flatten()
        for name in reference.description["resume"]
    ]
    recorded = reference.group("resume")
    if "update" in recorded:
        updates = recorded["update"].double()
        return torch.ones(len(updates), dtype=torch.bool), updates
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


def _left_out(origin: Provenance) -> dict[str, str]:
    """Say which numbers are not compared."""
    found: dict[str, str] = {}
    for name, places in origin.places.items():
        computed = places == COMPUTED
        reset = origin.reset.get(name, torch.zeros_like(computed)) & ~computed
        reasons = []
        if computed.any():
            reasons.append(f"{_which(computed)} computed anew by a migration")
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
