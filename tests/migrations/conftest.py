"""Puts the folder of `saved_runs` on the path of these tests."""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("saved_runs")

# The first example imports half of torch, which has no deadline.
settings.register_profile("migrations", deadline=None)
settings.load_profile("migrations")
