"""A run in parts: together they are all, and none is twice."""

import pytest
from nlam_runs import FIXTURES, ONE, cells, error_lines

from pytest_nlam_compat.checks.shards import shard_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive

OWN = """
def test_own():
    pass


def test_of_a_reference(nlam_reference):
    pass
"""
FOUR = (
    "--nlam-compat",
    "--nlam-compat-release=>=0.6",
    "--nlam-compat-case=graph_lam-s[qt]*",
)


@pytest.fixture(scope="module")
def references():
    """Return all references there are."""
    archives = [ReleaseArchive(path) for path in FIXTURES.glob("*.zip")]
    return [Reference(each, case) for each in archives for case in each.cases]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 83])
def test_shards_are_complete_disjoint_and_balanced(references, count):
    shards = [shard_of(f"{i + 1}/{count}", references) for i in range(count)]

    ids = [name for shard in shards for name in shard.references]
    assert len(ids) == len(set(ids))
    assert set(ids) == {reference.id for reference in references}
    assert all(shard.references for shard in shards)
    # Each has as many of a release as any other, or one more.
    for release in {reference.release for reference in references}:
        parts = [
            sum(name.startswith(f"{release}-") for name in shard.references)
            for shard in shards
        ]
        assert max(parts) - min(parts) <= 1


def test_shards_do_not_depend_on_the_order_of_references(references):
    backwards = references[::-1]

    for index in range(1, 5):
        text = f"{index}/4"
        assert shard_of(text, references) == shard_of(text, backwards)


@pytest.mark.parametrize(
    "found", ["", "1", "0/4", "5/4", "-1/4", "1/0", "1/4/2", "a/b", "1 / 4"]
)
def test_what_is_no_shard_is_an_error(references, found):
    with pytest.raises(CompatError, match="is not a shard") as error:
        shard_of(found, references)

    assert error.value.facts["found"] == found


def test_more_shards_than_references_are_an_error(project):
    result = project.run(*ONE, "--nlam-compat-shard=1/2")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    what, *facts, _ = error_lines(result)
    assert (
        what == "ERROR: --nlam-compat-shard leaves shards without a reference."
    )
    assert facts == ["  shards: 2", "  references selected: 1"]


def collected(project, *options):
    result = project.run(*FOUR, ".", "--collect-only", "-q", *options)
    assert result.ret == 0
    return [line for line in result.outlines if "::" in line]


def test_shards_of_a_run_are_the_run(project):
    project.write("test_own.py", OWN)

    whole = collected(project)
    parts = [
        collected(project, f"--nlam-compat-shard={i}/3") for i in (1, 2, 3)
    ]

    # What uses no reference is not ours to split.
    own = "test_own.py::test_own"
    assert all(own in part for part in parts)
    split = [each for part in parts for each in part if each != own]
    assert sorted([own, *split]) == sorted(whole)
    # Only the newest release is saved again, whichever the shard holds.
    saves = [each for each in split if "test_saves" in each]
    assert saves
    assert all("[0.7.0-" in each for each in saves)


def test_header_and_matrix_show_the_shard_alone(project):
    result = project.run(*FOUR, "-ktest_opens", "--nlam-compat-shard=1/3")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["nlam-compat: shard 1/3: 2 references of *"])
    assert len(cells(result)) == 2
