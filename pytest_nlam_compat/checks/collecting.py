"""The migrations of the repository under test, from wherever it says."""

from __future__ import annotations

import pytest
from packaging.version import Version

from pytest_nlam_compat.migrations import Migration, Registry
from pytest_nlam_compat.migrations.repository import (
    checked,
    read_steps,
    refuse_duplicates,
)
from pytest_nlam_compat.under_test.code_under_test import code_under_test

KEY = "nlam_compat_migrations"


def repository_steps(
    config: pytest.Config, release: Version
) -> tuple[Migration, ...]:
    """Collect what the ini key names and what the hook gives.

    Parameters
    ----------
    config : pytest.Config
    release : Version
        Of the code under test.

    Returns
    -------
    tuple of Migration

    Raises
    ------
    CompatError
        They can't be read, are no migrations, or two have one id.
    """
    named = config.getini(KEY)
    steps = read_steps(named, config.rootpath) if named else []
    with code_under_test("The hook pytest_nlam_compat_migrations"):
        given = [
            checked(found, "The hook pytest_nlam_compat_migrations")
            for found in config.hook.pytest_nlam_compat_migrations()
        ]
    steps += [step for found in given for step in found]
    refuse_duplicates(steps, Registry(release).known)
    return tuple(steps)
