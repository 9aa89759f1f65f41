"""Grade the outputs of a model against the golden outputs of a release."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.comparison import Difference, compare
from pytest_nlam_compat.numerics.tolerances import (
    ENSEMBLE_FROM,
    FLOAT32,
    FLOAT32_ENSEMBLE,
    FLOAT64,
    Tolerance,
    allowed,
)
from pytest_nlam_compat.references.reference import Reference

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_AXES = ("batch item", "step", "node")
_RETURN_THE_SAME = (
    "Return what the release returned, or write an adapter: implement the "
    "hook pytest_nlam_compat_adapter."
)


@dataclass(frozen=True)
class Findings:
    """What a check that passes has found.

    Attributes
    ----------
    shares : mapping of str to float
        The share of each tolerance that is used, by its name.
    left_out : mapping of str to str
        What was not compared, and why.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Outputs compared with the golden of a reference.

    Attributes
    ----------
    tolerance : Tolerance
        The row by which the outputs are judged.
    differences : tuple of Difference
        The largest of each output, the worst output first.
    """

    reference: Reference
    tolerance: Tolerance
    differences: tuple[Difference, ...]
    outputs: Mapping[str, Tensor] = field(repr=False, compare=False)

    @property
    def worst(self) -> Difference:
        """The difference that uses the largest share of its tolerance."""
        return self.differences[0]

    @property
    def share(self) -> float:
        """Largest share of the tolerance that is used."""
        return self.worst.share

    @property
    def passed(self) -> bool:
        """Whether all outputs are within their tolerance."""
        return self.share <= 1

    @property
    def facts(self) -> dict[str, object]:
        """The worst difference, as facts of an error."""
        return difference_facts(self.worst, self.tolerance)

    def raise_on_failure(self) -> None:
        """Raise a CompatError with the worst difference, unless passed."""
        if self.passed:
            return
        raise CompatError(
            f"{self.reference.id}: the current code gives other outputs than "
            f"neural-lam {self.reference.release}.",
            facts=self.facts,
            remedy="If the change is intended, add a migration so that old "
            "checkpoints keep their outputs. If not, undo it.",
            shares={self.tolerance.name: self.share},
        )


def grade(
    subject: ReferenceUnderTest,
    dtype: torch.dtype,
    model: nn.Module | None = None,
) -> Result:
    """Roll out a model and compare its outputs with the golden.

    `dtype`, float64 or float32, is that of the model and its inputs. By default
    it is the migrated model.

    Raises
    ------
    CompatError
        The model can't be made or run, or its outputs can't be compared:
        one is missing, new, or of another precision or shape.
    """
    if model is None:
        model = subject.migrated_model(dtype)
    outputs = subject.outputs(model, dtype)
    check_outputs(subject.reference, outputs, dtype)
    return grade_outputs(
        subject.reference, outputs, lambda: recorded_rounding(subject)
    )


def recorded_rounding(subject: ReferenceUnderTest) -> Mapping[str, Tensor]:
    """Return how far rounding moves the outputs of the recorded model.

    What the current code computes in float64 is the recorded model if it
    gives the golden. If not, it can't excuse its own float32 rollout: nothing
    is returned.
    """
    try:
        is_recorded = grade(subject, torch.float64).passed
    except CompatError:
        is_recorded = False
    return subject.rounding if is_recorded else {}


def check_outputs(
    reference: Reference, outputs: Mapping[str, Tensor], dtype: torch.dtype
) -> None:
    """Raise unless a rollout has all outputs of its release, in `dtype`.

    A missing output would not be compared, and one in a lower precision would
    be judged by the tolerance of that precision.
    """
    # The float32 golden has all outputs of a rollout and nothing else.
    expected = reference.group("golden32").keys()
    wrong = {
        "missing": ", ".join(sorted(expected - outputs.keys())),
        "new": ", ".join(sorted(outputs.keys() - expected)),
        f"not {dtype_name(dtype)} like model and inputs": ", ".join(
            f"{name} ({dtype_name(output.dtype)})"
            for name, output in sorted(outputs.items())
            if output.dtype is not dtype
        ),
    }
    if any(wrong.values()):
        raise CompatError(
            f"{reference.id}: the current code does not return the outputs "
            f"that neural-lam {reference.release} returned.",
            facts={label: names for label, names in wrong.items() if names},
            remedy=_RETURN_THE_SAME,
        )


def grade_outputs(
    reference: Reference,
    outputs: Mapping[str, Tensor],
    rounding: Callable[[], Mapping[str, Tensor]] = dict,
) -> Result:
    """Compare outputs with the golden of the same precision.

    Parameters
    ----------
    reference : Reference
    outputs : mapping of str to Tensor
        By name; all float64, or else judged as float32.
    rounding : callable, optional
        Returns how far rounding moves outputs, as `recorded_rounding` does.
        Only called where a float32 output is far from its golden.

    Raises
    ------
    CompatError
        There is no output, no golden for one, or its shape differs.
    """
    if not outputs:
        raise CompatError(
            f"No output to compare with the golden of {reference.id}.",
            remedy="Pass at least one by name, such as prediction=...",
        )
    double = all(t.dtype is torch.float64 for t in outputs.values())
    result = _compare_all(reference, outputs, FLOAT64 if double else FLOAT32)
    if double or result.share <= ENSEMBLE_FROM or not (effects := rounding()):
        return result
    return _compare_all(reference, outputs, FLOAT32_ENSEMBLE, effects)


def _compare_all(
    reference: Reference,
    outputs: Mapping[str, Tensor],
    row: Tolerance,
    effects: Mapping[str, Tensor] | None = None,
) -> Result:
    golden64 = reference.group("golden64")
    golden = golden64 if row is FLOAT64 else reference.group("golden32")
    noise = reference.description["noise32"]
    differences = []
    for name, output in outputs.items():
        if name not in golden:
            raise CompatError(
                f"The reference {reference.id} has no golden for {name!r}.",
                facts={"it has": ", ".join(sorted(golden))},
                remedy="Compare one that it has.",
            )
        if output.shape != golden[name].shape:
            raise CompatError(
                f"{reference.id}: {name} has another shape than in "
                f"neural-lam {reference.release}.",
                facts={
                    "expected": tuple(golden[name].shape),
                    "obtained": tuple(output.shape),
                },
                remedy=_RETURN_THE_SAME,
            )
        if effects is None:
            limit = allowed(row, golden64[name], noise)
        else:
            limit = torch.maximum(
                allowed(FLOAT32, golden64[name], noise),
                allowed(row, golden64[name], effects[name].cpu()),
            )
        variables = _variables(reference, name)
        differences.append(
            compare(
                output, golden[name], limit, output=name, variables=variables
            )
        )
    differences.sort(key=lambda difference: difference.share, reverse=True)
    return Result(reference, row, tuple(differences), outputs)


def _variables(reference: Reference, output: str) -> Sequence[str] | None:
    """Name the entries of the last axis of an output."""
    if output == "loss":
        return ["loss"]
    if output in ("prediction", "pred_std"):
        return reference.dataset.names["state"]
    return None


def difference_facts(
    difference: Difference, row: Tolerance
) -> dict[str, object]:
    """Describe a difference line by line, as facts of an error."""
    axes = zip(_AXES, difference.index, strict=False)
    place = "".join(f", {axis} {index}" for axis, index in axes)
    return {
        "compared": f"{difference.output}, with tolerance {row.name!r}",
        "differs most": f"variable {difference.variable}{place}",
        "obtained": f"{difference.obtained:.12g}",
        "expected": f"{difference.expected:.12g}",
        "allowed": f"{difference.allowed:.2e}",
        "difference": f"{difference.relative:.2e} of the spread of "
        f"{difference.variable}, {difference.share:.3g} times what is allowed",
    }


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without ``torch.``."""
    return str(dtype).removeprefix("torch.")
