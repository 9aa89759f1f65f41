"""A model that is held once computes what one that is held whole does."""

import pytest
import torch

from pytest_nlam_compat.diagnosis.explain import explain
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.judging.native_route import try_native
from pytest_nlam_compat.references.pins import PinFolder

pytestmark = pytest.mark.neural_lam

DTYPES = torch.float64, torch.float32


@pytest.fixture
def both(pinned_like, current_adapter, tmp_path):
    """Give a pinned reference under test, as a small and as a large one."""
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    def give(name):
        folder = pinned_like(name)
        (pinned,) = PinFolder(folder).ids
        for left_out in ({}, {"loss": "large", "resume": "large"}):
            reference = PinFolder(folder).open(pinned)
            reference.description["left_out"] = left_out
            place = tmp_path / f"{len(left_out)}"
            device = torch.device("cpu")
            yield ReferenceUnderTest(reference, current_adapter, place, device)

    return give


@pytest.mark.parametrize(
    "name",
    [
        "0.4.0-graph_lam-clamp",
        # Its senders are shifted by a migration.
        "0.5.0-graph_lam-square",
        "0.6.0-graph_lam-std",
        "0.7.0-hi_lam-3level",
        "0.7.0-graph_lam-propagation",
    ],
)
def test_it_gives_the_same_outputs(name, both):
    small, large = both(name)
    for dtype in DTYPES:
        expected = small.outputs(small.migrated_model(dtype), dtype)
        model = large.migrated_model(dtype)
        found = large.outputs(model, dtype)
        assert found.keys() == expected.keys()
        for output, tensor in expected.items():
            assert torch.equal(found[output], tensor)
        assert grade(large, dtype).passed
        # One at a time.
        assert [*large._models.values()] == [model]
    assert try_native(large).outcome == try_native(small).outcome


def test_a_wrong_one_is_explained(both, monkeypatch):
    from neural_lam.gnn_layers import InteractionNet

    _, large = both("0.7.0-hi_lam-3level")
    forward = InteractionNet.forward

    def twice(*arguments):
        found = forward(*arguments)
        return (
            (2 * found[0], *found[1:])
            if isinstance(found, tuple)
            else 2 * found
        )

    monkeypatch.setattr(InteractionNet, "forward", twice)
    assert not grade(large, torch.float64).passed
    assert "InteractionNet" in explain(large, "outputs").cause
