"""Everything that the package imports is declared."""

import ast
import re
import sys
from itertools import chain
from pathlib import Path

import pytest_nlam_compat

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(pytest_nlam_compat.__file__).parent
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
# The code under test, and what only modules import that drive it.
WITH_NEURAL_LAM = {
    "cartopy",
    "lightning_utilities",
    "loguru",
    "neural_lam",
    "pandas",
    "pytorch_lightning",
    "xarray",
    "yaml",
}
# Nothing imports it unless pytest has loaded it.
OTHERS_PLUGINS = {"xdist"}


def imported():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                yield node.module


def test_what_is_imported_is_declared_and_nothing_else():
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    declared = {
        re.match(r"[\w-]+", requirement)[0].replace("-", "_")
        for requirement in (
            *project["dependencies"],
            *chain(*project["optional-dependencies"].values()),
        )
    }
    found = {name.partition(".")[0] for name in imported()}
    found -= {*sys.stdlib_module_names, "_pytest", PACKAGE.name}
    assert found - WITH_NEURAL_LAM - OTHERS_PLUGINS == declared
    assert "Typing :: Typed" in project["classifiers"]
    assert (PACKAGE / "py.typed").exists()
