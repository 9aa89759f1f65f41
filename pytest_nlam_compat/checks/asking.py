"""What a run of pytest here would check, without such a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_nlam_compat.checks.collecting import KEY
from pytest_nlam_compat.checks.selecting import Selection, selection_of
from pytest_nlam_compat.errors import CompatError


@dataclass(frozen=True)
class Asked:
    """What pytest is configured to do here.

    Attributes
    ----------
    selection : Selection
    root : pathlib.Path
        Which the ini key is relative to.
    named : str
        Where the steps of the repository are, by the ini key; may be empty.
    """

    selection: Selection
    root: Path
    named: str


class _Question:
    """Asks once pytest has read options, ini file and conftest files."""

    answer: Asked | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        self.answer = Asked(
            selection_of(config), config.rootpath, config.getini(KEY)
        )
        return 0


def ask(options: Sequence[str]) -> Asked:
    """Select references as ``pytest --nlam-compat`` would, given options.

    Parameters
    ----------
    options : sequence of str
        Of pytest. They come after those of the ini file.

    Returns
    -------
    Asked

    Raises
    ------
    CompatError
        As for a selection, or if pytest can't be configured.
    """
    question = _Question()
    # Not captured: a download says how far it is.
    status = pytest.main(["-p", "nlam_compat", "-s", *options], [question])
    if question.answer is None:
        raise CompatError(
            "pytest can't be configured here.",
            facts={"status": int(status)},
            remedy="Run `pytest --nlam-compat`, and mend what it tells.",
        )
    return question.answer
