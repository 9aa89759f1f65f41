"""Moments as torch itself makes them, to judge the images of operations by."""

import torch
from saved_runs import moment, saved_run, statistics
from torch import nn

from pytest_nlam_compat.migrations import Optimizer, SavedRun


def trained(weights, inputs, output=lambda y: y):
    """Give a run of one Linear whose moments saw the gradients of a loss."""
    out, width = weights["l.0.weight"].shape
    layer = nn.Linear(width, out).double()
    layer.weight.data = weights["l.0.weight"].clone()
    layer.bias.data = weights["l.0.bias"].clone()
    # Nothing moves, so that the same gradients arise in other units.
    optimizer = torch.optim.AdamW(
        layer.parameters(), lr=0.0, betas=(0.9, 0.95), amsgrad=True
    )
    for batch in inputs:
        optimizer.zero_grad()
        output(layer(batch)).sin().sum().backward()
        optimizer.step()
    moments = {
        f"l.0.{name}": dict(optimizer.state[parameter])
        for name, parameter in layer.named_parameters()
    }
    state_dict = {
        f"l.0.{name}": parameter.detach().clone()
        for name, parameter in layer.named_parameters()
    }
    return SavedRun(
        state_dict=state_dict,
        hyper_parameters={},
        optimizers=[Optimizer(list(state_dict), moments, [{}])],
        statistics=statistics(),
    )


def data(width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 5, width, generator=generator, dtype=torch.float64)


def doubles(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def start(out, width):
    run = saved_run({"l.0.weight": (out, width), "l.0.bias": (out,)})
    return run.state_dict


def agrees(run, expected, *, second=True):
    for name, tensor in expected.state_dict.items():
        torch.testing.assert_close(
            run.state_dict[name], tensor, rtol=1e-12, atol=1e-12
        )
        kinds = ("exp_avg", "exp_avg_sq") if second else ("exp_avg",)
        for kind in kinds:
            torch.testing.assert_close(
                moment(run, name, kind),
                moment(expected, name, kind),
                rtol=1e-10,
                atol=1e-12,
            )
