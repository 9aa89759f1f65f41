"""Limits, sharpness, centre, or no clamping at all: what has changed?"""

from dataclasses import replace

import pytest
import torch

from pytest_nlam_compat.diagnosis.clamping import (
    Clamp,
    clamps,
    explain_clamping,
)

CLAMPS = {
    "both": Clamp(-1.5, 2.0),
    "lower": Clamp(-1.5, None),
    "upper": Clamp(None, 2.0),
}


@pytest.fixture(params=CLAMPS)
def clamp(request):
    return CLAMPS[request.param]


def told(clamp, out, back, offset=0.0):
    """Clamp by one pair of maps, then by another."""
    generator = torch.Generator().manual_seed(0)
    previous, change = torch.randn(2, 200, generator=generator).double()
    previous = clamp.into(previous)
    then = clamp.into(clamp.out_of(previous) + change)
    line = out.out_of(previous) + change + offset
    return explain_clamping(clamp, previous, then, back.into(line))


def moved(clamp):
    return Clamp(
        None if clamp.lower is None else clamp.lower - 0.1,
        None if clamp.upper is None else clamp.upper + 0.2,
    )


def test_limits(clamp):
    new = moved(clamp)
    for out, back in ((new, new), (clamp, new), (new, clamp)):
        assert told(clamp, out, back) == "the limits of clamping have changed"


def test_sharpness(clamp):
    new = replace(clamp, sharpness=3.0)
    for out, back in ((new, new), (clamp, new), (new, clamp)):
        assert told(clamp, out, back) == (
            "the sharpness of clamping has changed"
        )


def test_centre(clamp):
    assert told(clamp, clamp, clamp, offset=0.5) == (
        "the centre of clamping has changed"
    )


def test_not_clamped(clamp):
    previous = clamp.into(torch.linspace(-1, 1, 50).double())
    change = torch.full_like(previous, 0.1)
    then = clamp.into(clamp.out_of(previous) + change)
    assert explain_clamping(clamp, previous, then, previous + change) == (
        "clamping no longer changes values within the limits"
    )


def test_clamped_in_some_other_way(clamp):
    previous = clamp.into(torch.linspace(-1, 1, 50).double())
    then = clamp.into(clamp.out_of(previous) + 0.1)
    now = previous + 0.05 * previous.square()
    assert explain_clamping(clamp, previous, then, now) == (
        "clamping is applied differently"
    )


def test_values_beside_the_limits_say_nothing():
    beside = torch.full((9,), -1.5 + 1e-9, dtype=torch.float64)
    told = explain_clamping(CLAMPS["lower"], beside, beside, beside)
    assert told == "clamping has changed"


def test_what_a_checkpoint_clamps():
    assert clamps(
        {
            "p.clamp_lower_upper_idx": torch.tensor([2]),
            "p.sigmoid_lower_lims": torch.tensor([-1.0]),
            "p.sigmoid_upper_lims": torch.tensor([3.0]),
            "p.clamp_lower_idx": torch.tensor([0, 4]),
            "p.softplus_lower_lims": torch.tensor([-2.0, 0.0]),
            "p.clamp_upper_idx": torch.tensor([]),
            "p.softplus_upper_lims": torch.tensor([]),
        }
    ) == {2: Clamp(-1.0, 3.0), 0: Clamp(-2.0, None), 4: Clamp(0.0, None)}
    assert clamps({"weight": torch.ones(2)}) == {}
