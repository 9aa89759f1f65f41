"""What tests of several rooms share: the real references and neural-lam."""

from functools import cache
from pathlib import Path

import pytest
from nlam_runs import Project

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session")
def recorded():
    """Return the archive of a release, opened once: ``recorded("0.7.0")``."""
    from pytest_nlam_compat.references.release_archive import ReleaseArchive

    @cache
    def archive(release):
        return ReleaseArchive(FIXTURES / f"{release}.zip")

    return archive


@pytest.fixture(scope="session")
def reference_of(recorded):
    """Return a real reference by its id: ``reference_of("0.7.0-hi_lam")``."""
    from pytest_nlam_compat.references.reference import Reference

    @cache
    def reference(name):
        release, _, case = name.partition("-")
        return Reference(recorded(release), case)

    return reference


@pytest.fixture(scope="session")
def current_adapter():
    """Probe the installed neural-lam; its import takes seconds, once."""
    import torch

    # Models are small: more threads would wait for each other.
    torch.set_num_threads(1)
    from pytest_nlam_compat.adapters.probe import probe, select_adapter

    return select_adapter(probe())


@pytest.fixture
def project(tmp_path):
    """Return a repository in which pytest can be run, in another process."""
    return Project(tmp_path)
