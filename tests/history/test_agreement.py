"""How closely today's code follows every release, once runs are migrated."""

import pytest
import torch

from pytest_nlam_compat.judging.grade import grade

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
]

# Of the spread of each variable; no reference is an exception.
ROUNDING = 1e-12


@pytest.mark.parametrize("release", [f"0.{minor}.0" for minor in range(1, 8)])
def test_float64_rollouts_differ_by_rounding_only(
    release, recorded, subject_of
):
    found = {}
    for case in recorded(release).cases:
        subject = subject_of(f"{release}-{case}")
        found[case] = grade(subject, torch.float64).worst.relative
    assert {case: off for case, off in found.items() if off >= ROUNDING} == {}
