"""No flag and no failure changes a reference.

`Project.run` insists on it for each run of all tests, those in two processes
among them; here are the runs that have a reason to write.
"""

import pytest
from nlam_runs import FIXTURES, ONE, frozen

FLAGS = ["--regen-all", "--force-regen"]
OWN = """
def test_golden(nlam_reference, data_regression):
    data_regression.check(nlam_reference.description["outputs"])
"""


@pytest.fixture
def untouched():
    """Insist on content, time and mode of each file."""

    def state():
        return {
            each.name: (each.stat().st_mtime_ns, each.stat().st_mode)
            for each in FIXTURES.iterdir()
        }

    hashes, before = frozen(), state()
    yield
    assert frozen() == hashes
    assert state() == before


@pytest.fixture
def broken(project):
    """Have outputs that differ from each golden."""
    project.neural_lam(
        (
            "models/step_predictors/graph/base.py",
            "_delta_mean * self.diff_std",
            "_delta_mean",
        )
    )
    return project


@pytest.mark.usefixtures("untouched")
def test_failure_leaves_references_as_they_are(broken):
    assert broken.run(*ONE).ret == 1


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("flag", FLAGS)
def test_flag_that_regenerates_leaves_references_as_they_are(broken, flag):
    assert broken.run(*ONE, flag).ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("flag", FLAGS)
def test_flag_that_regenerates_is_of_no_use_to_own_tests_either(broken, flag):
    own = broken.write("test_own.py", OWN)

    result = broken.run(*ONE[1:], flag)

    result.assert_outcomes(errors=1)
    assert not own.with_suffix("").exists()


def test_what_tests_hash_is_what_is_published():
    names = list(frozen())

    assert "registry.txt" in names
    assert {"0.4.0.zip", "0.5.0.zip", "0.6.0.zip", "0.7.0.zip"} <= set(names)
