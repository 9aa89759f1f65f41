"""Puts the helpers of this folder on the path of its tests."""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("gradients", "releases", "saved_runs")

# The first example imports half of torch, which has no deadline.
settings.register_profile("migrations", deadline=None)
settings.load_profile("migrations")
