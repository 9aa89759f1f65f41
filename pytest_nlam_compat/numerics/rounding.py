"""How far rounding to float32 moves the outputs of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pytest_nlam_compat.numerics.comparison import spread

# The largest of 16 is within a factor of 2.7 of that of any other 16.
MEMBERS = 16
# Largest relative error of rounding a number to float32.
_UNIT_ROUNDOFF = torch.finfo(torch.float32).eps / 2

Run = Callable[[nn.Module, Sequence[Tensor]], Mapping[str, Tensor]]


def rounding_effect(
    module: nn.Module, batch: Sequence[Tensor], run: Run
) -> dict[str, Tensor]:
    """Measure how strongly a model amplifies rounding, by an ensemble.

    In each member every weight and every input is moved up or down, at
    random, by the largest relative error of rounding it to float32; the
    model itself is computed in float64. So this is a property of what is
    computed, whatever the kernels, and the order of sums.

    Parameters
    ----------
    module : torch.nn.Module
        In float64. Its weights are moved in place, since a function that it
        keeps may refer to it, and put back at the end.
    batch : sequence of Tensor
        Inputs; those that do not float are left as they are.
    run : callable
        Takes a module and a batch; returns outputs (..., d) by name.

    Returns
    -------
    dict of str to Tensor
        By output, (d,) float64: the largest deviation over all members, over
        the spread of each variable; 0 where a member is not finite.
    """
    exact = run(module, batch)
    scale = {name: spread(output) for name, output in exact.items()}
    largest = {name: torch.zeros_like(size) for name, size in scale.items()}
    weights = [(p, p.detach().clone()) for p in module.parameters()]
    try:
        for seed in range(MEMBERS):
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter, weight in weights:
                    parameter.copy_(_moved(weight, generator))
            outputs = run(module, [_moved(each, generator) for each in batch])
            for name, output in outputs.items():
                error = (output - exact[name]).abs().flatten(0, -2).amax(dim=0)
                largest[name] = torch.maximum(
                    largest[name], error / scale[name]
                )
    finally:
        with torch.no_grad():
            for parameter, weight in weights:
                parameter.copy_(weight)
    # Nothing may be allowed because of a member that overflows.
    return {
        name: torch.where(effect.isfinite(), effect, 0.0)
        for name, effect in largest.items()
    }


def _moved(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    # Drawn on the CPU, so that they are the same on each device.
    signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
    return tensor + tensor * (signs * _UNIT_ROUNDOFF).to(tensor)
