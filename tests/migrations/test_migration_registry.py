"""The way to code that has steps of its own on top of the history."""

import pytest
from packaging.version import Version
from saved_runs import saved_run

from pytest_nlam_compat.migrations import HISTORY, Migration, Registry, Rename

V = Version


def step(name, since):
    return Migration(name, since, f"Why {name}.", (Rename("a", "b"),))


OLD, NOW, NEXT = step("old", "0.6.0"), step("now", "0.7.0"), step("n", "0.8.0")
HISTORY_OF_THREE = (OLD, NOW, NEXT)


@pytest.fixture
def run():
    return saved_run({"a.w": (1,)})


def ids(registry, origin, run):
    return [found.id for found in registry.plan(V(origin), run)]


def test_without_own_steps_the_history_ends_at_the_release(run):
    registry = Registry(V("0.7.0"), history=HISTORY_OF_THREE)
    assert registry.layout == V("0.7.0")
    assert ids(registry, "0.5.0", run) == ["old", "now"]
    assert ids(registry, "0.6.0", run) == ["now"]
    assert ids(registry, "0.7.0", run) == []


@pytest.mark.parametrize("origin", ["0.1.0", "0.5.0", "0.6.0", "0.7.0"])
def test_own_steps_concern_every_run_that_is_older(origin, run):
    own = step("own", "0.8.0")
    registry = Registry(V("0.7.0"), (own,), HISTORY_OF_THREE)
    assert registry.layout == V("0.8.0")
    assert ids(registry, origin, run)[-1] == "own"
    # What the next release will have had before is of no concern.
    assert "n" not in ids(registry, origin, run)


def test_own_steps_concern_no_run_that_has_them(run):
    registry = Registry(V("0.8.0"), (step("own", "0.8.0"),), (OLD,))
    assert ids(registry, "0.8.0", run) == []
    assert ids(registry, "0.7.0", run) == ["own"]


def test_own_steps_come_after_those_of_the_same_release(run):
    registry = Registry(V("0.7.0"), (step("own", "0.7.0"),), HISTORY_OF_THREE)
    assert ids(registry, "0.5.0", run) == ["old", "now", "own"]


def test_own_steps_of_different_releases_come_in_their_order(run):
    own = (step("b", "0.9.0"), step("a", "0.8.0"))
    registry = Registry(V("0.7.0"), own, ())
    assert ids(registry, "0.7.0", run) == ["a", "b"]
    assert registry.layout == V("0.9.0")
    assert ids(registry, "0.8.0", run) == ["b"]


def test_the_history_is_neural_lams():
    assert Registry(V("0.7.0")).steps == HISTORY
