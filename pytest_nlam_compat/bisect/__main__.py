"""Answers ``git bisect run``, which asks of each commit whether it is good.

``python -m pytest_nlam_compat.bisect FOLDER``, in the worktree; FOLDER is
the place of the bisect.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_nlam_compat.bisect.clone import Clone
from pytest_nlam_compat.bisect.git import Git
from pytest_nlam_compat.bisect.searching import INTERRUPTED, MARK
from pytest_nlam_compat.bisect.state_dir import Place
from pytest_nlam_compat.bisect.verdicts import Verdicts
from pytest_nlam_compat.bisect.watchdog import end_with_parent
from pytest_nlam_compat.errors import CompatError

_STATUS = {"good": 0, "bad": 1, "skip": 125}
FAILED = 129


def main(argv: Sequence[str]) -> int:
    """Judge the commit that is checked out, and say so.

    Parameters
    ----------
    argv : sequence of str
        The folder of the bisect.

    Returns
    -------
    int
        The status that git understands.
    """
    end_with_parent()
    place = Place(Path(argv[0]))
    tree = Git(place.tree, alone=True)
    asked = place.asked
    assert asked is not None
    verdicts = Verdicts(Clone.at(place.tree), place, asked, tree, _tell)
    try:
        return _STATUS[verdicts.of(tree("rev-parse", "HEAD")).word]
    except KeyboardInterrupt:
        return INTERRUPTED
    except CompatError as error:
        # Not a matter of this commit: git is to end, and to show it.
        print(error)
        return FAILED


def _tell(line: str) -> None:
    print(f"{MARK}{line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
