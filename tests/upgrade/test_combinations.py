"""Whatever is accepted, neural-lam itself loads and computes the golden."""

import random

import pytest
from combinations import Laboratory, draw

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

# `nox -s combinations` tries thousands.
PARTS, SIZE = 4, 25


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    return Laboratory(tmp_path_factory.mktemp("laboratory"))


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_accepted_gives_the_golden(part, laboratory):
    accepted = 0
    for seed in range(part * SIZE, (part + 1) * SIZE):
        accepted += laboratory.check(draw(random.Random(seed)), seed)
    assert 0 < accepted < SIZE
