"""``python -m pytest_nlam_compat`` is ``nlam-compat``."""

import sys

from pytest_nlam_compat.cli import main

sys.exit(main())
