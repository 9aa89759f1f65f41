"""The float64 trace of a forward pass, as references store it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

SAMPLES = 5
MOMENTS = 3

# torch-geometric makes a class for each Sequential, with a random suffix.
_RANDOM_SUFFIX = re.compile(r"(?<=^Sequential)_[0-9a-f]{6}$")


def kind_of(name: str) -> str:
    """Return the name of a class without what is random in it.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> kind_of("Sequential_497765"), kind_of("Linear")
    ('Sequential', 'Linear')
    """
    return _RANDOM_SUFFIX.sub("", name)


@dataclass(frozen=True)
class Call:
    """One call of a submodule.

    Attributes
    ----------
    module : str
        Name below the step predictor.
    kind : str
        Class of the module, by `kind_of`.
    inputs, outputs : tuple of int
        Rows of the trace; only tensors with floating entries have one.
    """

    module: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Trace:
    """What one forward pass did, module by module, in call order.

    Attributes
    ----------
    calls : list of Call
    shapes : list of tuple of int
        Of the tensor of each row.
    rows : Tensor
        (K, SAMPLES + MOMENTS) float64: entries at equal distances in the
        flattened tensor, mean, mean square, and the mean weighted with the
        position (which tells a permutation).
    columns : dict of int to Tensor
        (2, C) mean and mean square of each column, for rows that no
        submodule put out: what was concatenated or read for a module.
    """

    calls: list[Call] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    rows: Tensor = field(
        default_factory=lambda: torch.empty(0, SAMPLES + MOMENTS).double()
    )
    columns: dict[int, Tensor] = field(default_factory=dict)
