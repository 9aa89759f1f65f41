"""From outputs to a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.comparison import Difference, compare
from pytest_nlam_compat.numerics.tolerances import (
    FLOAT32,
    FLOAT64,
    Tolerance,
    allowed,
)
from pytest_nlam_compat.references.reference import Reference

_AXES = ("batch item", "step", "node")


def row_of(outputs: Mapping[str, Tensor]) -> Tolerance:
    """Return the row by which outputs are judged: by their precision."""
    double = all(t.dtype is torch.float64 for t in outputs.values())
    return FLOAT64 if double else FLOAT32


def insist_on_outputs(
    reference: Reference, outputs: Mapping[str, Tensor], dtype: torch.dtype
) -> None:
    """Insist that a rollout gave what the release gave, in this precision.

    What is missing would go uncompared, and what came in a lesser precision
    would be judged by the tolerance of that.

    Parameters
    ----------
    reference : Reference
    outputs : mapping of str to Tensor
        By name.
    dtype : torch.dtype
        Of the model and its inputs.

    Raises
    ------
    CompatError
        Naming what is missing, new, or of another precision.
    """
    # The float32 golden has all outputs of a rollout and nothing else.
    expected = reference.group("golden32").keys()
    wrong = {
        "missing": ", ".join(sorted(expected - outputs.keys())),
        "new": ", ".join(sorted(outputs.keys() - expected)),
        f"not {_name(dtype)} as model and inputs are": ", ".join(
            f"{name} ({_name(output.dtype)})"
            for name, output in sorted(outputs.items())
            if output.dtype is not dtype
        ),
    }
    if any(wrong.values()):
        raise CompatError(
            f"{reference.id}: the current code gives other outputs than "
            f"neural-lam {reference.release} did.",
            facts={label: names for label, names in wrong.items() if names},
            remedy="Return what the release returned, or adapt: implement "
            "the hook pytest_nlam_compat_adapter.",
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def differences(
    reference: Reference, outputs: Mapping[str, Tensor]
) -> list[Difference]:
    """Compare outputs with the golden of the same precision.

    Parameters
    ----------
    reference : Reference
    outputs : mapping of str to Tensor
        By name, at least one; all float64 or all float32.

    Returns
    -------
    list of Difference
        The worst entry of each output, the worst output first.

    Raises
    ------
    CompatError
        If the golden lacks an output, or its shape differs.
    """
    if not outputs:
        raise CompatError(
            "No output was given to compare with the golden of "
            f"{reference.id}.",
            remedy="Give at least one by name, such as prediction=...",
        )
    row = row_of(outputs)
    precision = "golden64" if row is FLOAT64 else "golden32"
    golden, judge64 = reference.group(precision), reference.group("golden64")
    found = []
    for name, output in outputs.items():
        if name not in golden:
            raise CompatError(
                f"The reference {reference.id} has no golden for {name!r}.",
                facts={"it has": ", ".join(sorted(golden))},
                remedy="Compare one that it has.",
            )
        if output.shape != golden[name].shape:
            raise CompatError(
                f"{name} of the current code has another shape than that of "
                f"neural-lam {reference.release}.",
                facts={
                    "reference": reference.id,
                    "expected": tuple(golden[name].shape),
                    "obtained": tuple(output.shape),
                },
                remedy="Return what the release returned, or adapt: implement "
                "the hook pytest_nlam_compat_adapter.",
            )
        limit = allowed(row, judge64[name], reference.description["noise32"])
        found.append(
            compare(
                output,
                golden[name],
                limit,
                output=name,
                variables=_variables(reference, name),
            )
        )
    return sorted(found, key=lambda one: one.share, reverse=True)


def _variables(reference: Reference, output: str) -> Sequence[str] | None:
    """Name the last axis of an output."""
    if output == "loss":
        return ["loss"]
    if output in ("prediction", "pred_std"):
        return reference.dataset.names["state"]
    return None


def judge(reference: Reference, outputs: Mapping[str, Tensor]) -> Difference:
    """Insist that outputs equal the golden.

    Parameters
    ----------
    reference : Reference
    outputs : mapping of str to Tensor

    Returns
    -------
    Difference
        The worst, within its tolerance.

    Raises
    ------
    CompatError
        Where they differ most, and what to do.
    """
    worst = differences(reference, outputs)[0]
    if worst.share <= 1:
        return worst
    raise CompatError(
        f"{reference.id}: the current code gives other numbers than "
        f"neural-lam {reference.release} did.",
        facts=facts(worst, row_of(outputs)),
        remedy="If the change is wanted, its meaning has to be carried over: "
        "add a migration that makes the old weights give the old outputs. "
        "If not, undo it.",
    )


def facts(difference: Difference, row: Tolerance) -> dict[str, object]:
    """Describe the entry that differs most, line by line.

    Parameters
    ----------
    difference : Difference
    row : Tolerance
        By which it was judged.

    Returns
    -------
    dict of str to object
    """
    axes = zip(_AXES, difference.index, strict=False)
    place = "".join(f", {axis} {index}" for axis, index in axes)
    return {
        "compared": f"{difference.output}, by the row {row.name!r}",
        "differs most": f"variable {difference.variable}{place}",
        "obtained": f"{difference.obtained:.12g}",
        "expected": f"{difference.expected:.12g}",
        "allowed": f"{difference.allowed:.2e}",
        "difference": f"{difference.relative:.2e} of the spread of "
        f"{difference.variable}, {difference.share:.3g} times what is allowed",
    }
