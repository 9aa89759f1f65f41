"""What is collected, by paths, ids, marks, names and our own options."""

from types import SimpleNamespace

import pytest
from listed_releases import RECORDED, RELEASES
from nlam_runs import ONE, Project, cells
from packaging.version import Version

# More than the outcome of one check is told by the red and green runs.
COLLECT = ("--collect-only", "-q")
OWN = """
def test_of_the_repository():
    pass
"""
BUNDLED = """
from pytest_nlam_compat.checks import *
"""


@pytest.fixture
def repository(project):
    """Have a test of its own in a folder of its own."""
    project.write("pytest.ini", "[pytest]\ntestpaths = tests\n")
    project.write("tests/test_own.py", OWN)
    return project


def collected(result):
    assert result.ret == 0
    return [line for line in result.outlines if "::" in line]


def references(ids):
    """Return the references of checks; few have another parameter."""
    names = {each.partition("[")[2].removesuffix("]") for each in ids}
    return {name for name in names if name[:1].isdigit()}


def test_without_a_path_there_are_the_checks_alone(repository):
    ids = collected(repository.run(*ONE, *COLLECT))

    assert len(ids) > 1
    assert {each.partition("::")[0] for each in ids} == {"nlam-compat"}
    assert references(ids) == {"0.7.0-graph_lam"}


def test_with_a_path_there_are_its_tests_and_the_checks(repository):
    alone = collected(repository.run(*ONE, *COLLECT))

    assert collected(repository.run(*ONE, "tests", *COLLECT)) == [
        "tests/test_own.py::test_of_the_repository",
        *alone,
    ]


def test_id_as_reports_show_it_runs_that_check(repository):
    id_ = "nlam-compat::test_loads[0.7.0-graph_lam]"

    assert collected(repository.run(*ONE, id_, *COLLECT)) == [id_]


def test_failed_checks_are_run_again_by_last_failed(repository):
    order = '("forcing_feature", "window")'
    other = '("window", "forcing_feature")'
    repository.neural_lam(("weather_dataset.py", order, other))
    repository.run(*ONE, "-kloads or batch").assert_outcomes(passed=1, failed=1)

    assert collected(repository.run(*ONE, "--last-failed", *COLLECT)) == [
        "nlam-compat::test_batch[0.7.0-graph_lam]"
    ]


def test_keyword_and_case_choose_among_checks_and_references(repository):
    ids = collected(
        repository.run(
            "--nlam-compat",
            "--nlam-compat-release=>=0.5,<0.7",
            "--nlam-compat-case=graph_lam-s*",
            "-ktest_outputs and not float32",
            *COLLECT,
        )
    )

    assert ids == [
        f"nlam-compat::test_outputs[{release}-{case}]"
        for release, case in [
            ("0.5.0", "graph_lam-shallow"),
            ("0.5.0", "graph_lam-square"),
            ("0.5.0", "graph_lam-std"),
            ("0.5.0", "graph_lam-std-clamp"),
            ("0.6.0", "graph_lam-shallow"),
            ("0.6.0", "graph_lam-square"),
            ("0.6.0", "graph_lam-std"),
            ("0.6.0", "graph_lam-std-clamp"),
        ]
    ]


def test_marker_tells_the_checks_from_other_tests(repository):
    checks = collected(repository.run(*ONE, "tests", "-mnlam_compat", *COLLECT))
    others = repository.run(*ONE, "tests", "-mnot nlam_compat", *COLLECT)

    assert {each.partition("::")[0] for each in checks} == {"nlam-compat"}
    assert collected(others) == ["tests/test_own.py::test_of_the_repository"]


def test_checks_can_be_among_a_repositorys_own_tests(project):
    project.write("test_checkpoints.py", BUNDLED)

    result = project.run(*ONE[1:], "-v")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "test_checkpoints.py::test_opens[[]0.7.0-graph_lam[]] PASSED *",
            "test_checkpoints.py::test_outputs[[]0.7.0-graph_lam[]] PASSED *",
        ]
    )
    assert cells(result)["0.7.0-graph_lam"].startswith("ok/")


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """Collect the checks on all references there are."""
    project = Project(tmp_path_factory.mktemp("every"))
    return project.run("--nlam-compat", "--collect-only", "-q")


@pytest.mark.parametrize("release", RECORDED)
def test_every_release_is_checked_by_default(every, release):
    found = references(collected(every))

    assert f"{release}-graph_lam" in found


def test_hierarchical_cases_are_checked_where_the_release_had_them(every):
    hierarchical = {
        each for each in references(collected(every)) if "hi_lam" in each
    }

    found = {each.partition("-")[0] for each in hierarchical}
    assert found == {*RELEASES} - {"0.6.0"}


def made(release, left_out=()):
    return SimpleNamespace(
        release=Version(release), has=lambda part: part not in left_out
    )


def test_references_that_a_check_is_for():
    from pytest_nlam_compat.checks.selection import Selection
    from pytest_nlam_compat.judging.all_checks import CHECKS

    references = [
        old := made("0.6.0"),
        current := made("0.7.0"),
        large := made("0.7.0", left_out=("loss", "resume")),
        newer := made("0.8.0"),
    ]
    adapter = SimpleNamespace(current=SimpleNamespace(release=current.release))
    selection = Selection(adapter, None, None, tuple(references))

    found = {
        name: selection.references_of(check) for name, check in CHECKS.items()
    }

    assert found["native"] == (old, current, large, newer)
    assert found["outputs"] == (old, current, large)
    assert found["loss"] == found["resumes"] == (old, current)
    assert found["saves"] == (current,)
