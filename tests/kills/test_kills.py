"""Whenever a command is killed, nothing is lost, and nothing is left."""

import pytest
from killing import kill_all

pytestmark = pytest.mark.slow

# `nox -s kills` does many more.
EACH = 5


def test_killed_commands(tmp_path):
    found = kill_all(tmp_path, EACH, seed=0)
    assert sum(counts.total() for counts in found.values()) > 6 * EACH
