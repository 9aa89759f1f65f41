"""What the older era needs, as far as 0.7 can show it.

That the adapter works with 0.4 to 0.6 themselves is for `nox -s matrix`.
"""

from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.usefixtures("current_adapter"),
]
HIERARCHICAL = ["hi_lam", "hi_lam_parallel"]


def zero_index_g2m_of_06(edge_index, mesh_static_features, mesh_first=True):
    """As in 0.6.0: the nodes of the lowest level only."""
    moved = edge_index.clone()
    moved[0] -= len(mesh_static_features[0])
    return moved


@pytest.fixture
def adapter(current_adapter):
    from pytest_nlam_compat.adapters.armodel import ARModelAdapter

    return ARModelAdapter(current_adapter.current)


@pytest.fixture
def defective(monkeypatch):
    from neural_lam import utils

    monkeypatch.setattr(utils, "zero_index_g2m", zero_index_g2m_of_06)


@pytest.fixture
def before_323(monkeypatch):
    from neural_lam import create_graph

    monkeypatch.delattr(create_graph, "CURRENT_GRAPH_SPEC_VERSION")


@pytest.mark.usefixtures("defective", "before_323")
@pytest.mark.parametrize("model", HIERARCHICAL)
def test_hierarchical_models_of_0_6_cannot_run(adapter, model):
    assert adapter.cannot_run(model) == (
        "hierarchical models fail in the forward pass of neural-lam 0.6: "
        "utils.zero_index_g2m counts one mesh level only (#643, #680)"
    )


@pytest.mark.usefixtures("defective", "before_323")
def test_others_can(adapter):
    assert adapter.cannot_run("graph_lam") is None


@pytest.mark.usefixtures("before_323")
@pytest.mark.parametrize("model", HIERARCHICAL)
def test_where_it_is_fixed_they_can(adapter, model):
    assert adapter.cannot_run(model) is None


@pytest.mark.usefixtures("before_323")
@pytest.mark.parametrize("model", HIERARCHICAL)
def test_before_0_6_there_was_no_such_function(adapter, monkeypatch, model):
    from neural_lam import utils

    monkeypatch.delattr(utils, "zero_index_g2m")
    assert adapter.cannot_run(model) is None


@pytest.mark.usefixtures("defective")
@pytest.mark.parametrize("model", HIERARCHICAL)
def test_after_it_was_fixed_there_is_no_excuse(
    current_adapter, monkeypatch, model
):
    from neural_lam import create_graph

    assert current_adapter.cannot_run(model) is None
    # Between #208 and #323 a development install may still have it.
    monkeypatch.delattr(create_graph, "CURRENT_GRAPH_SPEC_VERSION")
    assert "(#643, #680)" in current_adapter.cannot_run(model)


class Rollout(torch.nn.Module):
    """``unroll_prediction`` as of ``ARModel``, with what it is to return."""

    def __init__(self, pred_std):
        super().__init__()
        self.pred_std = pred_std

    def unroll_prediction(self, init_states, forcing, true_states):
        return true_states + init_states[:, -1:] + forcing, self.pred_std


@pytest.mark.parametrize("shape", [(4,), (2, 3, 5, 4)])
def test_a_constant_std_is_none_that_was_predicted(adapter, shape):
    init, rest = torch.ones(2, 2, 5, 4), torch.ones(2, 3, 5, 4)
    pred_std = torch.full(shape, 0.5)
    prediction, found = adapter.unroll(Rollout(pred_std), init, rest, rest)
    assert torch.equal(prediction, torch.full((2, 3, 5, 4), 3.0))
    assert found is (pred_std if len(shape) == 4 else None)


def test_a_trace_names_modules_below_the_model(adapter):
    module = Rollout(None)
    assert adapter.step_predictor(module) is module


def test_lightning_may_unpickle_where_it_asks_for_permission():
    from pytest_nlam_compat.adapters.armodel import load_with_lightning

    class Old:
        @staticmethod
        def load_from_checkpoint(path, map_location=None, **kwargs):
            seen.append((path, map_location, kwargs))
            return torch.nn.Identity()

    class New:
        @staticmethod
        def load_from_checkpoint(
            path, map_location=None, weights_only=None, **kwargs
        ):
            return Old.load_from_checkpoint(path, weights_only, **kwargs)

    seen = []
    load_with_lightning(Old, Path("a.ckpt"), datastore=1)
    load_with_lightning(New, Path("a.ckpt"), datastore=1)
    assert seen == [
        ("a.ckpt", "cpu", {"datastore": 1}),
        ("a.ckpt", False, {"datastore": 1}),
    ]
