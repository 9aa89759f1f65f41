"""A model that is held once computes what one that is held whole does."""

import pytest
import torch

from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.judging.native_route import try_native
from pytest_nlam_compat.references.pins import PinFolder

pytestmark = pytest.mark.neural_lam

DTYPES = torch.float64, torch.float32


@pytest.fixture
def both(pinned_like, current_adapter, tmp_path, monkeypatch):
    """Give a pinned reference in front of the current code, in both ways."""
    from pytest_nlam_compat.under_test import large_reference

    def give(name):
        folder = pinned_like(name)
        (pinned,) = PinFolder(folder).ids
        found = []
        for limit in (1e9, 0):
            monkeypatch.setattr(large_reference, "LARGE_BYTES", limit)
            place = tmp_path / f"{limit}"
            found.append(
                large_reference.in_front_of(
                    current_adapter,
                    PinFolder(folder).open(pinned),
                    place,
                    torch.device("cpu"),
                )
            )
        small, large = found
        assert isinstance(large, large_reference.LargeReferenceUnderTest)
        assert not isinstance(small, large_reference.LargeReferenceUnderTest)
        return small, large

    return give


@pytest.mark.parametrize(
    "name",
    [
        "0.4.0-graph_lam-clamp",
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


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("0.5.0-graph_lam", True),
        ("0.7.0-hi_lam-3level", True),
        ("0.7.0-graph_lam-propagation", True),
        # Its senders are shifted by a migration.
        ("0.5.0-graph_lam-square", False),
    ],
)
def test_the_own_loader_is_compared_without_a_rollout(name, same, both):
    small, large = both(name)
    assert large.loads_the_same() is same
    assert (try_native(small).outcome == "equal") is same
    assert try_native(large).outcome == try_native(small).outcome


def test_a_model_of_another_class_is_not_the_same(both, monkeypatch):
    """Of the same weights, and with other outputs."""
    from neural_lam.gnn_layers import InteractionNet, PropagationNet

    _, large = both("0.7.0-graph_lam-propagation")
    load = large.load_natively

    def other(*arguments):
        module = load(*arguments)
        for each in module.modules():
            if isinstance(each, PropagationNet):
                each.__class__ = InteractionNet
        return module

    monkeypatch.setattr(large, "load_natively", other)
    assert not large.loads_the_same()
