"""The releases that have references, which tests iterate."""

from pathlib import Path

from packaging.version import Version

from pytest_nlam_compat.references import registry

FIXTURES = Path(__file__).parents[1] / "fixtures"
RELEASES = [str(each) for each in registry.read(FIXTURES / registry.FILE_NAME)]
# Those that this package recorded, with their own code.
RECORDED = [each for each in RELEASES if Version(each) >= Version("0.4.0")]
NEWEST = RELEASES[-1]
