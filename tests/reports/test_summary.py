"""What a green run says of neural-lam's own loader."""

from made_results import native, reference, results

from pytest_nlam_compat.reports.summary import native_changes


def migrated_only(name, outcome):
    """Make a reference that passes by a migration of the repository."""
    check = native(outcome, name)
    check["native"]["missing"] = "0.8.0-step"
    return reference(name, check)


def test_a_wrong_load_is_told_apart_from_a_load_that_fails():
    found = results(
        migrated_only("0.6.0-a", "fails"),
        migrated_only("0.7.0-a", "differs"),
        migrated_only("0.7.0-b", "differs"),
    )
    lines = [line for line in native_changes(found) if "ITSELF" in line]
    assert lines == [
        "NEURAL-LAM ITSELF CAN'T LOAD 1 checkpoint",
        "NEURAL-LAM ITSELF LOADS 2 checkpoints, WITH WRONG OUTPUTS AND NO "
        "ERROR",
    ]
