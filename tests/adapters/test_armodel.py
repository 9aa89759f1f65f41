"""What the older era needs, as far as 0.7 can show it.

That the adapter works with 0.4 to 0.6 themselves is for `nox -s matrix`.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packaging.version import Version

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.usefixtures("current_adapter"),
]


@pytest.fixture
def adapter(current_adapter):
    from pytest_nlam_compat.adapters.armodel import ARModelAdapter

    return ARModelAdapter(current_adapter.current)


@pytest.mark.parametrize(
    ("version", "released", "model", "runs"),
    [
        ("0.6.0", True, "hi_lam", False),
        ("0.6.0", True, "hi_lam_parallel", False),
        ("0.6.0", True, "graph_lam", True),
        # From #184 to #643 main has the same defect, and it is its own.
        ("0.6.0", False, "hi_lam", True),
        ("0.5.0", True, "hi_lam", True),
        ("0.7.0", True, "hi_lam", True),
    ],
)
def test_only_a_release_may_have_a_known_defect(
    adapter, version, released, model, runs
):
    adapter.current = replace(
        adapter.current, release=Version(version), released=released
    )
    defect = adapter.cannot_run(model)
    assert defect is None if runs else "(#643, #680)" in defect


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
