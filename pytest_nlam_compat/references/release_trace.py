"""The trace of a reference before 0.4.0, which was recorded in its own way.

Of each MLP and graph layer it has a few rows of each output, in the first
autoregressive step and for the first sample, and for each column the sum and
the sum of squares over all rows. Inputs were not recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pytest_nlam_compat.references.reference import Reference


@dataclass(frozen=True)
class Recorded:
    """One output of one module.

    Attributes
    ----------
    module : str
        Name as the release had it.
    output : int
        Which of the module's outputs.
    kind : str
        Class of the module.
    length : int
        Rows of the output.
    rows : Tensor
        Indices of the rows that were kept, in today's order of nodes.
    values : Tensor
        (R + 2, C) float64: these rows, sums, sums of squares.
    """

    module: str
    output: int
    kind: str
    length: int
    rows: Tensor
    values: Tensor

    def difference(self, tensor: Tensor) -> float:
        """Compare an output with the recorded one.

        Parameters
        ----------
        tensor : Tensor
            (M, C), or (B, M, C) of which the first sample is taken.

        Returns
        -------
        float
            Largest difference over the root mean square of the recorded
            output; infinite where shapes differ.
        """
        first = tensor[0] if tensor.dim() == 3 else tensor
        width = self.values.shape[1]
        if tuple(first.shape) != (self.length, width):
            return float("inf")
        first = first.detach().to("cpu", torch.float64)
        now = torch.cat(
            [
                first[self.rows],
                first.sum(dim=0, keepdim=True),
                first.square().sum(dim=0, keepdim=True),
            ]
        )
        square = float(self.values[-1].sum()) / (self.length * width)
        size = square**0.5 if square > 0 else 1.0
        scale = torch.full((len(now), 1), size, dtype=torch.float64)
        scale[-2:] *= self.length
        scale[-1] *= size
        share = float(((now - self.values).abs() / scale).max())
        return float("inf") if share != share else share


def release_trace(reference: Reference) -> list[Recorded]:
    """Read the outputs that the release recorded, in call order.

    Parameters
    ----------
    reference : Reference

    Returns
    -------
    list of Recorded
        Empty for references that have a trace of today's kind.
    """
    stored = reference.description.get("release_trace")
    if stored is None:
        return []
    tensors = reference.group("release_trace")
    nodes = _places(reference)
    found = []
    for name in stored["call_order"]:
        about = stored["modules"][name]
        module, separator, output = name.rpartition(".out")
        rows = torch.tensor(about["rows"])
        # Of all that is recorded, only what is on the grid is as long as it.
        if about["M"] == len(nodes):
            rows = nodes[rows]
        found.append(
            Recorded(
                module=module if separator else name,
                output=int(output) if separator else 0,
                kind=about["cls"],
                length=about["M"],
                rows=rows,
                values=tensors[name],
            )
        )
    return found


def _places(reference: Reference) -> Tensor:
    """Return where each grid node of the release is in today's order."""
    grid = reference.description["recorded"]["grid"]
    nodes = torch.arange(grid["N"])
    if grid["node_order"].startswith("y-major"):
        return nodes.reshape(grid["NX"], grid["NY"]).T.reshape(-1)
    return nodes
