"""A plugin of pytest that multiplies references, for `workers.py`.

``-p copies`` with the environment variable ``COPIES``: each case is there so
many times, under names with ``~1`` and so on. No archive is changed.
"""

from __future__ import annotations

import os
from typing import Any

from pytest_nlam_compat.references.release_archive import ReleaseArchive

_COPIES = int(os.environ["COPIES"])
_cases = ReleaseArchive.cases


def _many(archive: ReleaseArchive) -> list[str]:
    names = _cases.fget(archive)
    return [f"{name}~{n}" for name in names for n in range(1, _COPIES + 1)]


def _of_original(method: Any) -> Any:
    def called(archive: Any, case: str, *arguments: Any) -> Any:
        return method(archive, case.partition("~")[0], *arguments)

    return called


ReleaseArchive.cases = property(_many)
ReleaseArchive.read = _of_original(ReleaseArchive.read)
ReleaseArchive.extract = _of_original(ReleaseArchive.extract)
