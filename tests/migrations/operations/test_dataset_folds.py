"""Folds by statistics, judged by what a Linear computes and by gradients."""

import dataclasses

import pytest
import torch
from gradients import agrees, data, start, trained
from saved_runs import moment, saved_run, statistics
from torch import nn

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    FoldDifferenceStatistics,
    FoldMeshPositions,
    FoldStaticFeatures,
)


def test_an_output_scaling_carries_both_moments():
    std = statistics().arrays["state_std"].double()
    mean = statistics().arrays["state_diff_mean"].double()
    spread = statistics().arrays["state_diff_std"].double()
    run = trained(start(2, 3), data(3), lambda y: y * spread * std + mean * std)
    folded = FoldDifferenceStatistics("l").apply(run)
    agrees(
        folded,
        trained(folded.state_dict, data(3), lambda y: y * spread + mean),
    )
    inputs = data(3)
    old = nn.functional.linear(inputs, *run.state_dict.values())
    new = nn.functional.linear(inputs, *folded.state_dict.values())
    torch.testing.assert_close(
        new * spread + mean, old * spread * std + mean * std
    )


def test_the_last_linear_of_an_mlp_takes_the_outputs():
    run = saved_run(
        {
            "map.0.weight": (2, 2),
            "map.0.bias": (2,),
            "map.10.weight": (2, 2),
            "map.10.bias": (2,),
        },
        statistics=statistics(),
    )
    folded = FoldDifferenceStatistics("map").apply(run)
    assert torch.equal(
        folded.state_dict["map.0.weight"], run.state_dict["map.0.weight"]
    )
    assert not torch.equal(
        folded.state_dict["map.10.weight"], run.state_dict["map.10.weight"]
    )


def static_inputs(raw, scaling):
    low, high = torch.tensor([40.0, 0.0, -1.0]), torch.tensor([60.0, 2.0, 4.0])
    mean, std = torch.tensor([50.0, 1.0, 1.5]), torch.tensor([8.0, 0.5, 2.0])
    return {
        "raw": raw,
        "standardised": (raw - mean) / std,
        "min-max": (raw - low) / (high - low),
        "largest-coordinate": raw / 4.0,
    }[scaling]


@pytest.mark.parametrize("new", ["raw", "standardised", "min-max"])
@pytest.mark.parametrize("old", ["raw", "standardised", "largest-coordinate"])
def test_static_features_say_the_same_in_other_units(old, new):
    raw = data(5)
    raw[..., 2:] *= torch.tensor([10.0, 1.0, 2.0])

    def inputs(scaling):
        return torch.cat(
            (raw[..., :2], static_inputs(raw[..., 2:], scaling)), -1
        )

    run = trained(start(3, 5), inputs(old))
    folded = FoldStaticFeatures("l.0", old, new).apply(run)
    agrees(folded, trained(folded.state_dict, inputs(new)), second=False)
    torch.testing.assert_close(
        nn.functional.linear(inputs(new), *folded.state_dict.values()),
        nn.functional.linear(inputs(old), *run.state_dict.values()),
    )


def test_each_static_feature_may_come_from_a_scaling_of_its_own():
    old = {"height": "min-max", "y": "raw", "x": "largest-coordinate"}
    run = trained(start(3, 5), data(5))
    folded = FoldStaticFeatures("l.0", old, "raw").apply(run)
    weight = run.state_dict["l.0.weight"]
    scale = torch.tensor([1.0, 1.0, 1 / 20, 1.0, 1 / 4]).double()
    torch.testing.assert_close(folded.state_dict["l.0.weight"], weight * scale)
    torch.testing.assert_close(
        folded.state_dict["l.0.bias"],
        run.state_dict["l.0.bias"] - weight[:, 2] * 40 / 20,
    )


def test_mesh_positions_in_units_of_the_span():
    run = saved_run({"m.0.0.weight": (3, 2)}, statistics=statistics())
    folded = FoldMeshPositions("m.*.0.weight").apply(run)
    # x from -1 to 4 is the longer side, 5; the largest coordinate is 4.
    torch.testing.assert_close(
        folded.state_dict["m.0.0.weight"],
        run.state_dict["m.0.0.weight"] * 5 / 4,
    )
    for power, kind in enumerate(("exp_avg", "exp_avg_sq"), start=1):
        torch.testing.assert_close(
            moment(folded, "m.0.0.weight", kind),
            moment(run, "m.0.0.weight", kind) / (5 / 4) ** power,
        )


def without(run, **parts):
    return dataclasses.replace(run, **parts)


@pytest.mark.parametrize(
    "operation",
    [
        FoldStaticFeatures("l.0", "raw", "standardised"),
        FoldDifferenceStatistics("l"),
        FoldMeshPositions("l.0.weight"),
    ],
)
def test_a_fold_without_statistics_is_an_error(operation):
    run = without(trained(start(2, 3), data(3)), statistics=None)
    with pytest.raises(CompatError) as caught:
        operation.apply(run)
    assert str(caught.value) == (
        "The saved run comes without the statistics of its dataset.\n"
        f"  operation: {operation.python()}\n"
        "Pass the dataset that the run was trained on."
    )


def test_statistics_that_lack_an_array_are_an_error():
    run = trained(start(2, 3), data(3))
    del run.statistics.arrays["static_std"]
    with pytest.raises(CompatError, match="lack 'static_std'"):
        FoldStaticFeatures("l.0", "raw", "standardised").apply(run)
    run.statistics.static_names[2] = "longitude"
    with pytest.raises(CompatError, match="has no static feature 'x'"):
        FoldMeshPositions("l.0.weight").apply(run)


def test_a_constant_feature_that_was_divided_by_its_spread_is_an_error():
    run = trained(start(2, 3), data(3))
    run.statistics.arrays["static_std"][1] = 0
    with pytest.raises(CompatError, match="'y' is constant, and its old"):
        FoldStaticFeatures("l.0", "standardised", "raw").apply(run)


def test_a_feature_without_an_old_scaling_is_an_error():
    run = trained(start(2, 3), data(3))
    with pytest.raises(CompatError, match="static feature 'height' is unknown"):
        FoldStaticFeatures("l.0", {"x": "raw"}, "standardised").apply(run)


def test_an_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match="'z-score'"):
        FoldStaticFeatures("l.0", "raw", "z-score")


def test_another_number_of_outputs_than_variables_is_an_error():
    with pytest.raises(CompatError) as caught:
        FoldDifferenceStatistics("l").apply(trained(start(3, 2), data(2)))
    assert str(caught.value) == (
        "'l.0.weight' has 3 outputs, and the state 2 variables.\n"
        "  operation: FoldDifferenceStatistics('l')\n"
        "Pass the dataset that the run was trained on."
    )


def test_an_mlp_that_is_not_there_is_an_error():
    with pytest.raises(CompatError, match=r"matches 'k\.\*\.weight'"):
        FoldDifferenceStatistics("k").apply(trained(start(2, 2), data(2)))
