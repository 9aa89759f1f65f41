"""The ready-made checks.

A repository that wants them among its own tests writes a file with::

    from pytest_nlam_compat.checks import *
"""

from pytest_nlam_compat.checks.suite import *  # noqa: F403
from pytest_nlam_compat.checks.suite import __all__ as _checks
from pytest_nlam_compat.checks.suite import pytestmark

__all__ = [*_checks, "pytestmark"]
