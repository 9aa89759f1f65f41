"""Hooks that a repository can implement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_nlam_compat.adapters.adapter import Adapter
    from pytest_nlam_compat.adapters.probe import CurrentCode
    from pytest_nlam_compat.migrations import Migration


@pytest.hookspec(firstresult=True)
def pytest_nlam_compat_adapter(current: CurrentCode) -> Adapter | None:
    """Return an adapter: how models are built, loaded and run.

    Needed only if the API of neural-lam has changed so much that this plugin
    can't drive it, see docs/adapters.md. Return None to use its adapters.

    Parameters
    ----------
    current : CurrentCode
        The importable neural_lam: path, version and detected release.

    Returns
    -------
    Adapter or None
        A subclass of ``pytest_nlam_compat.adapters.adapter.Adapter``.

    Examples
    --------
    In the ``conftest.py`` of neural-lam::

        def pytest_nlam_compat_adapter(current):
            from pytest_nlam_compat.adapters.forecaster import (
                ForecasterAdapter,
            )

            class Renamed(ForecasterAdapter):
                def unroll(self, module, init_states, forcing, boundary):
                    return module.rollout(init_states, forcing, boundary)

            return Renamed(current)
    """


@pytest.hookspec
def pytest_nlam_compat_migrations() -> Iterable[Migration] | None:
    """Return migrations of the repository under test.

    For migrations that are computed; those in files are found by the ini key
    ``nlam_compat_migrations``, and come first. All implementations are called.

    Returns
    -------
    iterable of Migration, or None
        Applied after neural-lam's own history, to each saved run older than
        the migration's ``since``.

    Examples
    --------
    In the ``conftest.py`` of neural-lam::

        def pytest_nlam_compat_migrations():
            from pytest_nlam_compat.migrations import Migration, Rename

            yield Migration(
                id="0.8.0-output-mlp",
                since="0.8.0",
                reason="output_map is named as the other MLPs are (#800).",
                operations=(
                    Rename(
                        "forecaster.predictor.output_map",
                        "forecaster.predictor.output_mlp",
                    ),
                ),
            )
    """
