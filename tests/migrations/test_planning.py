import pytest
from packaging.version import Version
from saved_runs import namespace, same, saved_run, statistics

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    Migration,
    Rename,
    SetHyperParameter,
    apply,
    plan,
)
from pytest_nlam_compat.migrations.planning import steps_between
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS

V = Version


def step(name, since, **more):
    new = Rename(f"before_{name}", f"after_{name}")
    return Migration(name, since, f"Why {name}.", (new,), **more)


def ids(origin, target, run, steps):
    return [
        found.id for found in steps_between(V(origin), V(target), run, steps)
    ]


@pytest.fixture
def run():
    return saved_run({"before_a.w": (1,), "before_b.w": (1,)})


def test_a_step_lies_between_the_releases_on_either_side_of_it(run):
    steps = [step("a", "0.5.0")]
    assert ids("0.4.0", "0.5.0", run, steps) == ["a"]
    assert ids("0.1.0", "0.7.0", run, steps) == ["a"]
    assert ids("0.5.0", "0.7.0", run, steps) == []
    assert ids("0.3.0", "0.4.0", run, steps) == []


def test_steps_come_by_release_and_within_one_as_registered(run):
    steps = [step("c", "0.10.0"), step("b", "0.9.0"), step("a", "0.9.0")]
    assert ids("0.1.0", "1.0.0", run, steps) == ["b", "a", "c"]


def test_a_step_may_be_for_runs_of_some_releases_only(run):
    steps = [step("a", "0.6.0", oldest="0.3.0")]
    assert ids("0.2.0", "0.7.0", run, steps) == []
    assert ids("0.3.0", "0.7.0", run, steps) == ["a"]


def test_a_step_may_depend_on_the_run(run):
    steps = [step("a", "0.3.0", when=lambda run: "x" in run.state_dict)]
    assert ids("0.1.0", "0.7.0", run, steps) == []
    assert ids("0.1.0", "0.7.0", saved_run({"x": (1,)}), steps) == ["a"]


def test_predicates_see_the_run_as_its_release_wrote_it(run):
    steps = [
        step("a", "0.3.0"),
        step("b", "0.4.0", when=lambda run: "before_a.w" in run.state_dict),
    ]
    assert ids("0.1.0", "0.7.0", run, steps) == ["a", "b"]


def test_what_is_missing_is_said_before_anything_is_done(run):
    steps = [
        step("a", "0.3.0", needs=("graph", "statistics")),
        step("b", "0.4.0", needs=("grid_shape",)),
        step("c", "0.5.0"),
    ]
    with pytest.raises(CompatError) as caught:
        steps_between(V("0.1.0"), V("0.7.0"), run, steps)
    assert str(caught.value) == (
        "Migrating a saved run of neural-lam 0.1.0 to 0.7.0 needs more than "
        "its checkpoint.\n"
        "  missing: graph, grid_shape, statistics\n"
        "  step a: Why a.\n"
        "  step b: Why b.\n"
        "Pass the graph directory and the dataset that it was trained with."
    )
    full = saved_run(
        {"w": (1,)},
        statistics=statistics(),
        graph={"g2m_features": []},
        grid_shape=(1, 1),
    )
    assert ids("0.1.0", "0.7.0", full, steps) == ["a", "b", "c"]


def test_there_is_no_way_back(run):
    with pytest.raises(CompatError) as caught:
        plan(run, "0.6.0", origin="0.7.0")
    assert str(caught.value) == (
        "A saved run of neural-lam 0.7.0 can't be migrated back to 0.6.0.\n"
        "Upgrade neural-lam to 0.7.0 or newer, or name the release that "
        "wrote the run with --from."
    )


@pytest.mark.parametrize("argument", ["origin", "target"])
@pytest.mark.parametrize("junk", ["junk", "", "0.7.x"])
def test_a_release_that_is_no_version_is_refused(argument, junk, run):
    given = {"origin": "0.6.0", "target": "0.7.0", argument: junk}
    with pytest.raises(CompatError) as caught:
        plan(run, **given)
    assert str(caught.value) == (
        f"{junk!r} is not a release of neural-lam.\n"
        f"  argument: {argument}\n"
        "  expected: a version, such as 0.7.0\n"
        "Pass a version. For a development install, pass the release before it."
    )


def test_the_history_is_what_is_planned_with():
    steps = plan(saved_run({"w": (1,)}), "0.7.0", origin="0.6.0")
    assert [found.id for found in steps] == ["0.7.0-forecaster"]


def test_applying_notes_the_steps_and_leaves_the_run_alone(run):
    steps = [step("a", "0.3.0"), step("b", "0.4.0")]
    new = apply(run, steps)
    assert list(new.state_dict) == ["after_a.w", "after_b.w"]
    assert new.applied == ("a", "b")
    assert run.applied == ()
    assert same(run, saved_run({"before_a.w": (1,), "before_b.w": (1,)}))


def test_an_error_names_the_step(run):
    with pytest.raises(CompatError) as caught:
        apply(run, [step("c", "0.3.0")])
    assert str(caught.value) == (
        "Nothing in the saved run matches 'before_c'.\n"
        "  migration: c\n"
        "  operation: Rename('before_c', 'after_c')\n"
        "  names: before_a.w, before_b.w\n"
        "Correct the pattern, or the predicate of its migration."
    )


def test_a_step_that_was_refused_is_not_noted(run):
    broken = Migration(
        "a",
        "0.3.0",
        "Why.",
        (Rename("before_a", "a"), SetHyperParameter("args.x", 1)),
    )
    with pytest.raises(CompatError, match="no hyper-parameters 'args'"):
        apply(run, [broken])
    assert list(run.state_dict) == ["before_a.w", "before_b.w"]
    run.hyper_parameters["args"] = namespace()
    assert apply(run, [broken]).applied == ("a",)


def test_a_step_that_needs_what_nobody_has_is_refused():
    with pytest.raises(ValueError, match=r"needs unknown data: \['weather'\]"):
        step("a", "0.3.0", needs=("weather",))


@pytest.mark.parametrize("limit", ["since", "oldest"])
def test_limits_are_versions(limit):
    with pytest.raises(ValueError, match="Invalid version"):
        step("a", **{"since": "0.3.0", limit: "yesterday"})


def test_the_origin_is_told_from_the_run_itself():
    run = saved_run({"forecaster.predictor.g2m_gnn.w": (1,)})
    run.hyper_parameters["args"] = namespace(runs_root="x", logger="wandb")
    with pytest.raises(CompatError, match="contradictory evidence"):
        plan(run, "0.7.0")
    buffers = {f"forecaster.predictor.{name}": (0,) for name in CLAMP_BUFFERS}
    run = saved_run({**buffers, "forecaster.predictor.g2m_gnn.w": (1,)})
    assert plan(run, "0.7.0") == []
    assert plan(run, V("0.8.0"), migrations=[step("a", "0.8.0")]) != []


def test_evidence_that_leaves_several_releases_asks_for_from():
    run = saved_run({"g2m_gnn.w": (1,)})
    with pytest.raises(CompatError) as caught:
        plan(run, "0.7.0")
    assert str(caught.value) == (
        "Several releases of neural-lam may have written this checkpoint.\n"
        "  no weights under forecaster.: 0.1.0 to 0.6.0\n"
        "  no buffers of output clamping: 0.1.0 to 0.3.0\n"
        "  left: 0.1.0, 0.2.0, 0.3.0\n"
        "Name the release that wrote it with --from, such as --from 0.3.0."
    )


def test_a_stamp_of_the_file_is_evidence():
    run = saved_run(
        {"g2m_gnn.w": (1,)}, stamps={"nlam_compat": {"layout": "0.6.0"}}
    )
    assert [found.id for found in plan(run, "0.7.0")] == ["0.7.0-forecaster"]
