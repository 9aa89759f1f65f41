"""What tests of the search share."""

import pytest
from bisections import Bisected, RecordedGrader

from pytest_nlam_compat.bisect import bisect


@pytest.fixture
def bisected(tmp_path, monkeypatch):
    """Return a clone whose commits say themselves how their checks end."""
    monkeypatch.setenv("NLAM_COMPAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bisect, "CommitGrader", RecordedGrader)
    return Bisected(tmp_path / "clone")
