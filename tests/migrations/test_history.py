"""Each step of the history, on the layers and values that it is about.

That whole models give their goldens is checked elsewhere, with neural-lam.
"""

import dataclasses

import pytest
import torch
from releases import (
    HIDDEN,
    WEIGHT,
    N,
    embedded,
    inputs_of_today,
    inputs_of_v02,
    inputs_of_v03,
    random,
    raw_data,
    run_of,
    to,
)
from torch.nn.functional import linear

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import HISTORY, plan
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS


@pytest.fixture
def data():
    return raw_data()


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_inputs_of_v01_and_v02_mean_the_same(release, data):
    run = run_of(release, data)
    old = embedded(run, inputs_of_v02(data), prefix="")
    new = embedded(to("0.7.0", release, run), inputs_of_today(data))
    torch.testing.assert_close(new, old, rtol=0, atol=1e-12)


def test_inputs_of_v02_mean_the_same_to_v03(data):
    run = run_of("0.2.0", data)
    old = embedded(run, inputs_of_v02(data), prefix="")
    new = embedded(to("0.3.0", "0.2.0", run), inputs_of_v03(data), prefix="")
    torch.testing.assert_close(new, old, rtol=0, atol=1e-12)


def test_inputs_of_v03_mean_the_same(data):
    run = run_of("0.3.0", data)
    old = embedded(run, inputs_of_v03(data), prefix="")
    new = embedded(to("0.7.0", "0.3.0", run), inputs_of_today(data))
    torch.testing.assert_close(new, old, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "left_out",
    [
        "0.3.0-forcing-order",
        "0.3.0-static-order",
        "0.3.0-static-units",
        "0.4.0-static-standardised",
    ],
)
def test_each_silent_step_is_needed(left_out, data):
    run = run_of("0.2.0", data)
    steps = [step for step in HISTORY if step.id != left_out]
    old = embedded(run, inputs_of_v02(data), prefix="")
    new = embedded(to("0.7.0", "0.2.0", run, steps), inputs_of_today(data))
    assert (new - old).abs().max() > 1e-2


def test_the_first_moment_of_folded_weights_is_kept_and_the_second_named(data):
    new = to("0.7.0", "0.2.0", run_of("0.2.0", data))
    assert list(new.optimizers[0].reset) == [
        f"forecaster.predictor.{WEIGHT}.exp_avg_sq"
    ]


def test_hyper_parameters_of_v01_name_what_it_did(data):
    new = to("0.7.0", "0.1.0", run_of("0.1.0", data))
    assert new.hyper_parameters["args"].attributes == {
        "model": "graph_lam",
        "loss": "wmae",
        "num_workers": 4,
        "ar_steps_train": 1,
        "data_config": "a.yaml",
        "output_std": False,
        "val_steps_to_log": [1, 2, 3, 5, 10, 15, 19],
        "metrics_watch": [],
        "var_leads_metrics_watch": {},
        "num_past_forcing_steps": 2,
        "num_future_forcing_steps": 0,
        "create_gif": False,
    }
    assert "config" not in new.hyper_parameters


def test_hyper_parameters_of_v03_get_what_its_config_lacks(data):
    new = to("0.7.0", "0.3.0", run_of("0.3.0", data))
    args = new.hyper_parameters["args"].attributes
    assert args["logger"] == "wandb"
    assert args["logger_project"] == "neural_lam"
    config = new.hyper_parameters["config"].attributes
    clamping = config["training"].attributes["output_clamping"]
    assert clamping.cls.path == "neural_lam.config.OutputClamping"
    assert clamping.attributes == {"lower": {}, "upper": {}}
    assert config["datastore"].attributes["kind"] == "npyfilesmeps"


def test_clamping_buffers_come_first_and_are_not_numbered(data):
    new = to("0.4.0", "0.3.0", run_of("0.3.0", data))
    assert list(new.state_dict)[:8] == [*CLAMP_BUFFERS, WEIGHT]
    assert new.state_dict["clamp_lower_idx"].numel() == 0
    assert new.optimizers[0].names[0] == WEIGHT


def test_outputs_of_an_mdp_run_of_v03_mean_the_same(data):
    run = run_of("0.3.0", data, kind="mdp")
    new = to("0.7.0", "0.3.0", run)
    assert "0.4.0-difference-statistics" in new.applied
    std, mean, spread = (
        run.statistics.arrays[name]
        for name in ("state_std", "state_diff_mean", "state_diff_std")
    )
    hidden = random(N, HIDDEN)
    old_output, new_output = (
        linear(
            hidden,
            found.state_dict[f"{prefix}output_map.2.weight"],
            found.state_dict[f"{prefix}output_map.2.bias"],
        )
        for found, prefix in ((run, ""), (new, "forecaster.predictor."))
    )
    torch.testing.assert_close(
        new_output * spread + mean, old_output * spread * std + mean * std
    )


@pytest.mark.parametrize("release", ["0.4.0", "0.5.0"])
def test_an_mdp_run_since_v04_is_not_folded(release, data):
    run = run_of(release, data, kind="mdp")
    assert (
        "0.4.0-difference-statistics" not in to("0.7.0", release, run).applied
    )


def test_a_run_without_its_dataset_says_which_steps_need_it(data):
    run = dataclasses.replace(
        run_of("0.2.0", data), statistics=None, graph={}, grid_shape=None
    )
    with pytest.raises(CompatError) as caught:
        plan(run, "0.7.0", origin="0.2.0")
    assert caught.value.facts["missing"] == "graph, grid_shape, statistics"
    assert [label for label in caught.value.facts if label != "missing"] == [
        "step 0.3.0-static-units",
        "step 0.3.0-grid-order",
        "step 0.4.0-static-standardised",
    ]


def test_a_run_of_today_needs_nothing(data):
    run = run_of("0.6.0", data)
    assert plan(run, "0.7.0", origin="0.7.0") == []
