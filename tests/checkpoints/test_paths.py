"""Dicts, lists and stand-ins are walked alike."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_nlam_compat.checkpoints.paths import get_path, set_path
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError

NAMESPACE = GlobalRef("argparse", "Namespace")


@pytest.fixture
def tree() -> dict[str, Any]:
    slotted = InertObject(NAMESPACE, state=({"a": 1}, {"b": 2}))
    return {
        "args": InertObject(NAMESPACE, state={"dim": 64, "inner": {"x": 1}}),
        "state_dict": {"grid.0.weight": "W", "grid.0": {"weight": "V"}},
        "optimizer": [{"state": {0: {"exp_avg": "M"}, 1: {}}}],
        "bare": InertObject(NAMESPACE),
        "slotted": slotted,
        "counts": InertObject(
            NAMESPACE, dict_items={"k": 3}, list_items=[7, 8]
        ),
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("args.dim", 64),
        ("args.inner.x", 1),
        ("state_dict.grid.0.weight", "W"),
        ("optimizer.0.state.0.exp_avg", "M"),
        ("slotted.a", 1),
        ("slotted.b", 2),
        ("counts.k", 3),
        ("counts.1", 8),
    ],
)
def test_get(tree: dict[str, Any], path: str, value: Any) -> None:
    assert get_path(tree, path) == value


def test_get_of_what_is_not_there(tree: dict[str, Any]) -> None:
    assert get_path(tree, "args.lr", None) is None
    assert get_path(tree, "optimizer.1", "no") == "no"
    with pytest.raises(CompatError) as caught:
        get_path(tree, "args.lr")
    assert str(caught.value) == (
        "The checkpoint has no args.lr.\n"
        "  missing: lr\n"
        "  there is: dim, inner\n"
        "See what it has with nlam-compat inspect."
    )
    with pytest.raises(CompatError, match="nothing with a name"):
        get_path(tree, "args.dim.x")
    many = {str(index): index for index in range(20)}
    with pytest.raises(CompatError, match="9, 10, 11 and 8 more"):
        get_path(many, "x")


@pytest.mark.parametrize(
    "path",
    [
        "args.dim",
        "args.new",
        "args.inner.new",
        "state_dict.grid.0.weight",
        "state_dict.mesh.0.bias",
        "optimizer.0",
        "optimizer.0.state.1.exp_avg",
        "bare.first",
        "slotted.b",
        "slotted.new",
        "counts.k",
        "counts.0",
        "new",
    ],
)
def test_set(tree: dict[str, Any], path: str) -> None:
    set_path(tree, path, "set")
    assert get_path(tree, path) == "set"


def test_set_changes_the_object_itself(tree: dict[str, Any]) -> None:
    set_path(tree, "args.dim", 32)
    assert tree["args"].attributes["dim"] == 32
    set_path(tree, "state_dict.new.name", 1)
    assert tree["state_dict"]["new.name"] == 1


@pytest.mark.parametrize(
    "path", ["args.dim.x", "missing.x", "optimizer.5", "args.no.x"]
)
def test_set_where_there_is_no_place(tree: dict[str, Any], path: str) -> None:
    with pytest.raises(CompatError, match="has no " + path.replace(".", r"\.")):
        set_path(tree, path, 1)
