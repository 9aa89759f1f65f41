"""Resuming real references: what is compared, and what a mistake looks like."""

import dataclasses
import itertools

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.optimizer_step import judge_resumed
from pytest_nlam_compat.migrations import CallFunction, Migration, Rename
from pytest_nlam_compat.under_test.resumed_training import resume

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
]

FIRST = "forecaster.predictor.grid_embedder.0"


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        # Two columns of the water, zero at first, and the folded static ones.
        ("0.1.0-graph_lam", "37, 39, 52, 53, 54, 55"),
        ("0.2.0-hi_lam", "13, 15, 28, 29, 30, 31"),
        ("0.3.0-hi_lam_parallel", "26, 27, 28, 29"),
    ],
)
def test_folded_numbers_are_left_out_by_name(name, columns, subject_of):
    compared = judge_resumed(subject_of(name))
    assert 0 < max(compared.shares.values()) < 0.5
    assert compared.left_out == {
        f"{FIRST}.weight": f"columns {columns} recomputed by a migration",
        f"{FIRST}.bias": "all recomputed by a migration",
    }


@pytest.mark.parametrize(
    "name",
    ["0.4.0-hi_lam", "0.5.0-graph_lam-std-clamp", "0.7.0-graph_efm"],
)
def test_of_newer_runs_nothing_is_left_out(name, subject_of):
    compared = judge_resumed(subject_of(name))
    assert max(compared.shares.values()) < 1e-5
    assert compared.left_out == {}


@pytest.mark.parametrize("name", ["0.4.0-graph_lam-mae", "0.7.0-graph_lam-mae"])
def test_another_learning_rate_is_told(name, subject_of, monkeypatch):
    from neural_lam.models import ForecasterModule
    from torch.optim import AdamW

    def default(module):
        return AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.95))

    judge_resumed(subject_of(name))
    monkeypatch.setattr(ForecasterModule, "configure_optimizers", default)
    with pytest.raises(CompatError, match="another learning rate") as caught:
        judge_resumed(subject_of(name))
    assert caught.value.facts == {
        "configured": 0.001,
        "in the checkpoint": 0.01,
    }


def test_two_parameters_with_each_others_moments_are_told(subject_of):
    subject = subject_of("0.6.0-graph_lam")
    one = "forecaster.predictor.m2g_gnn.edge_mlp.3.weight"
    other = "forecaster.predictor.m2g_gnn.edge_mlp.3.bias"
    [optimizer] = subject.migrated.optimizers
    moments = dict(optimizer.moments)
    moments[one], moments[other] = moments[other], moments[one]
    swapped = dataclasses.replace(optimizer, moments=moments)
    subject.migrated = dataclasses.replace(
        subject.migrated, optimizers=[swapped]
    )

    with pytest.raises(CompatError) as caught:
        judge_resumed(subject)
    error = caught.value
    assert error.what == (
        "0.6.0-graph_lam: one more training step gives different parameters."
    )
    assert error.facts["differs most"] in (one, other)
    assert error.facts["not compared"] == "nothing"
    assert "'resume'" in error.facts["allowed"]
    assert "moves the weights without their moments" in error.remedy


def shift_moments(run):
    """Give each parameter the moments of the next, where they fit."""
    [optimizer] = run.optimizers
    names, weights = optimizer.names, run.state_dict
    moments = dict(optimizer.moments)
    for name, other in itertools.pairwise(names):
        if weights[name].shape == weights[other].shape:
            moments[name] = optimizer.moments[other]
    return dataclasses.replace(
        run, optimizers=[dataclasses.replace(optimizer, moments=moments)]
    )


def test_a_failure_names_what_was_left_out(subject_of):
    step = Migration("s", "0.8.0", "Why.", (CallFunction(shift_moments),))
    subject = subject_of("0.3.0-graph_lam", migrations=[step])
    with pytest.raises(CompatError) as caught:
        judge_resumed(subject)
    assert caught.value.facts["not compared"] == (
        f"{FIRST}.weight (columns 26, 27, 28, 29 recomputed by a "
        f"migration); {FIRST}.bias (all recomputed by a migration)"
    )


def test_what_the_loader_of_the_code_renames_stays_by_position(
    subject_of, current_adapter
):
    class Renaming(type(current_adapter)):
        """Renames as the code's own loader might."""

        def load_strictly(self, module, checkpoint):
            old, new = (
                f"forecaster.predictor.{name}."
                for name in ("old_name", "encoding_grid_mlp")
            )
            checkpoint["state_dict"] = {
                name.replace(old, new): tensor
                for name, tensor in checkpoint["state_dict"].items()
            }
            super().load_strictly(module, checkpoint)

    subject = subject_of("0.7.0-graph_lam")
    subject.adapter = Renaming(current_adapter.current)
    rename = Rename(
        "forecaster.predictor.encoding_grid_mlp",
        "forecaster.predictor.old_name",
    )
    expected = resume(subject_of("0.7.0-graph_lam")).updates
    subject.migrated = rename.apply(subject.float64)
    updates = resume(subject).updates
    # By the names of the code.
    assert list(updates) == list(expected)
    for update, other in zip(updates.values(), expected.values(), strict=True):
        assert torch.equal(update, other)


def test_parameters_in_another_order_take_each_others_moments(
    subject_of, current_adapter
):
    """Whoever resumes has a file, which numbers moments and names none."""

    class Reordered(type(current_adapter)):
        """Registers the second of two like modules first."""

        def build(self, *args, **kwargs):
            module = super().build(*args, **kwargs)
            modules = module.forecaster.predictor._modules
            names = list(modules)
            names.remove("m2g_embedder")
            names.insert(names.index("g2m_embedder"), "m2g_embedder")
            for name in names:
                modules[name] = modules.pop(name)
            return module

    subject = subject_of("0.7.0-graph_lam")
    subject.adapter = Reordered(current_adapter.current)
    with pytest.raises(CompatError) as caught:
        judge_resumed(subject)
    assert "_embedder." in caught.value.facts["differs most"]
    assert caught.value.remedy.endswith("are registered in another order.")


def test_a_loader_that_gives_the_optimizer_up_is_told(
    subject_of, current_adapter
):
    class Forgetting(type(current_adapter)):
        def load_strictly(self, module, checkpoint):
            super().load_strictly(module, checkpoint)
            fresh = module.configure_optimizers().state_dict()
            checkpoint["optimizer_states"] = [fresh]

    subject = subject_of("0.6.0-graph_lam")
    subject.adapter = Forgetting(current_adapter.current)
    with pytest.raises(CompatError, match="different parameters"):
        judge_resumed(subject)
