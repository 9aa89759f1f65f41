"""Results of shards become those of one run, or are refused."""

import copy

import pytest
from made_results import CAUSE, check, failed, red, reference, results

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports.merging import merge
from pytest_nlam_compat.reports.results import verdict


def shard(index, *names, of=2, **changes):
    return results(
        *(reference(name) for name in names),
        shards=[f"{index}/{of}"],
        **changes,
    )


def refused(*parts):
    with pytest.raises(CompatError) as caught:
        merge({f"{index}.json": part for index, part in enumerate(parts)})
    return str(caught.value)


def test_all_shards_are_one_whole_run():
    one = shard(1, "0.7.0-hi_lam", "0.10.0-hi_lam", seconds=2.0)
    two = shard(2, "0.7.0-graph_lam", exit_status=1, seconds=3.0)

    found = merge({"1.json": one, "2.json": two})

    assert [each["id"] for each in found["references"]] == [
        "0.7.0-graph_lam",
        "0.7.0-hi_lam",
        "0.10.0-hi_lam",
    ]
    assert (found["incomplete"], found["exit_status"]) == ("", 1)
    assert found["shards"] == ["1/2", "2/2"]
    assert found["seconds"] == 5.0
    assert verdict(found).startswith("3 references passed")


def test_missing_shards_are_told_and_nothing_passed():
    found = merge({"1.json": shard(2, "0.7.0-hi_lam", of=4)})
    assert found["incomplete"] == "Shards are missing: 1/4, 3/4, 4/4."
    assert verdict(found) == "Shard 2/4: Incomplete: no failure so far"
    # Once all are there, nothing is left of it.
    others = [shard(n, "0.7.0-hi_lam", of=4) for n in (1, 3, 4)]
    parts = {str(n): each for n, each in enumerate([found, *others])}
    assert merge(parts)["incomplete"] == ""


def test_nothing_that_was_checked_is_not_whole():
    found = merge({"1.json": results(references=[])})
    assert found["incomplete"] == "Nothing was checked."


def test_shards_of_another_selection_are_refused():
    one = shard(1, "0.7.0-hi_lam", selected={"cases": "hi_lam*"})
    two = shard(2, "0.7.0-graph_lam", selected={"releases": ">=0.6"})
    assert "they differ in the selection" in refused(one, two)
    two["selected"] = {}
    assert "selection of 1.json: all" in refused(one, two)


def test_stopped_shard_makes_the_whole_incomplete():
    one, two = shard(1, "0.7.0-hi_lam"), shard(2, "0.7.0-graph_lam")
    two["incomplete"] = "The run was interrupted."
    found = merge({"a/1.json": one, "a/2.json": two})
    assert found["incomplete"] == "a/2.json: The run was interrupted."


def test_shard_that_could_not_begin_is_no_other_code():
    one = shard(1, "0.7.0-hi_lam")
    two = results(references=[], current={}, settings={})
    two["plugin"] = {"version": "0.1.0"}
    two["incomplete"] = "The run could not begin."
    for parts in ({"1": one, "2": two}, {"2": two, "1": one}):
        found = merge(parts)
        assert found["current"] == one["current"]
        assert found["incomplete"] == (
            "2: The run could not begin.\nShards are missing: 2/2."
        )


@pytest.mark.parametrize(
    ("part", "label"),
    [
        ("current", "release"),
        ("current", "version"),
        ("current", "content"),
        ("plugin", "version"),
        ("plugin", "registry"),
        ("settings", "torch"),
        ("settings", "device"),
    ],
)
def test_runs_that_differ_are_refused(part, label):
    one, two = shard(1, "0.7.0-hi_lam"), shard(2, "0.7.0-graph_lam")
    three = copy.deepcopy(two)
    three[part][label] = "other"
    text = refused(one, two, three)
    assert "The results can't be merged: they differ in the " in text
    assert f"  {label} of 0.json: {one[part][label]}" in text
    assert f"  {label} of 2.json: other" in text


def test_where_code_lies_may_differ():
    one, two = shard(1, "0.7.0-hi_lam"), shard(2, "0.7.0-graph_lam")
    two["current"]["path"] = "/elsewhere/neural_lam"
    assert merge({"1": one, "2": two})["incomplete"] == ""


def test_shards_of_another_number_are_refused():
    text = refused(shard(1, "0.7.0-hi_lam"), shard(2, "0.7.0-hi_lam", of=3))
    assert "they differ in the shards" in text


def test_equal_results_may_overlap_and_others_contradict():
    one = results()
    two = copy.deepcopy(one)
    two["references"][0]["checks"][0]["seconds"] = 99.0
    assert len(merge({"1": one, "2": two})["references"][0]["checks"]) == 1
    text = refused(one, red())
    assert "they contradict each other" in text
    assert "  0.json: passed" in text
    assert "  1.json: failed" in text
    two["references"][0]["checks"][0]["shares"] = {"float64": 0.26}
    assert "they contradict each other" in refused(one, two)


def test_check_that_was_run_counts_before_one_that_was_not():
    done, open_ = check(), check(outcome="not run", shares={}, map=None)
    for first, second in ((done, open_), (open_, done)):
        parts = {
            "1": results(reference("0.7.0-hi_lam", first)),
            "2": results(reference("0.7.0-hi_lam", second)),
        }
        assert merge(parts)["references"][0]["checks"] == [done]


def test_one_cause_of_several_shards_is_one():
    one = red(shards=["1/2"])
    name = "0.7.0-graph_lam"
    two = results(
        reference(name, failed("test_loss", name), failed("test_batch", name)),
        shards=["2/2"],
        causes=[{**CAUSE, "references": [name], "checks": ["test_loss"]}],
    )
    (cause,) = merge({"1": one, "2": two})["causes"]
    assert cause["references"] == ["0.7.0-hi_lam", name]
    assert cause["checks"] == ["test_outputs", "test_loss"]
    assert cause["failures"] == 3
