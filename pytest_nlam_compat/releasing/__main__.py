"""What needs the code of a release: ``python -m`` STEP.

``inventory`` prints what the importable neural_lam offers, as JSON; ``origins
ARCHIVE`` which of its files may be of other releases, too, after checking that
``migrations/layout.py`` knows their weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pytest_nlam_compat.errors import CompatError


def main(step: str, *arguments: str) -> int:
    """Do a step; an error is printed as JSON."""
    try:
        if step == "inventory":
            from pytest_nlam_compat.adapters.probe import inventory, probe

            version = probe().version
            print(json.dumps({"version": version, "names": inventory()}))
        else:
            from pytest_nlam_compat.references.release_archive import (
                ReleaseArchive,
            )
            from pytest_nlam_compat.releasing.new_evidence import (
                ambiguous_cases,
                raise_on_unknown_layout,
            )

            archive = ReleaseArchive(Path(*arguments))
            raise_on_unknown_layout(archive)
            cases = ambiguous_cases(archive)
            print(json.dumps({"ambiguous": cases}))
    except CompatError as error:
        print(json.dumps(error.plain()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
