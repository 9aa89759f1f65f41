"""The pytest plugin: options, ini keys and hooks.

It is loaded in every pytest run where it is installed. Nothing heavy is
imported before ``--nlam-compat`` or one of our fixtures needs it.
"""

from __future__ import annotations

import pytest

from pytest_nlam_compat.fixtures import (
    nlam_batch,
    nlam_check,
    nlam_model,
    nlam_reference,
    nlam_subject,
)

__all__ = [
    "nlam_batch",
    "nlam_check",
    "nlam_model",
    "nlam_reference",
    "nlam_subject",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare options and ini keys."""
    group = parser.getgroup(
        "nlam-compat", "checkpoints of all neural-lam releases"
    )
    group.addoption(
        "--nlam-compat",
        action="store_true",
        help="check that the checkpoints of every neural-lam release still "
        "load in the neural_lam that is importable and give the same numbers",
    )
    group.addoption(
        "--nlam-compat-release",
        metavar="SPEC",
        default="",
        help="only references of these releases, such as '>=0.5' (PEP 440)",
    )
    group.addoption(
        "--nlam-compat-case",
        metavar="GLOB",
        default="*",
        help="only these cases, such as 'hi_lam*'",
    )
    group.addoption(
        "--nlam-compat-device",
        choices=("cpu", "cuda", "auto"),
        default="cpu",
        help="where models are run (default: cpu)",
    )
    group.addoption(
        "--nlam-compat-shard",
        metavar="I/N",
        help="only the I-th of N parts of the references, such as 1/4, to "
        "split a run over jobs of CI",
    )
    group.addoption(
        "--nlam-compat-url",
        metavar="URL",
        help="folder of the reference archives on another server (also the "
        "ini key nlam_compat_url, or NLAM_COMPAT_URL)",
    )
    group.addoption(
        "--nlam-compat-offline",
        action="store_true",
        help="use the references that are there, download nothing",
    )
    group.addoption(
        "--nlam-compat-report",
        metavar="FILE",
        action="append",
        default=[],
        help="check, and write a report: .html (needs the extra [report]), "
        ".json or .md; may be repeated",
    )
    group.addoption(
        "--nlam-compat-references",
        metavar="DIR",
        action="append",
        default=[],
        help="check the references of this folder, too, which nlam-compat pin "
        "wrote (also the ini key nlam_compat_references, or "
        "NLAM_COMPAT_REFERENCES); may be repeated",
    )
    parser.addini(
        "nlam_compat_references",
        "folders of pinned references, relative to this file",
        type="paths",
    )
    parser.addini(
        "nlam_compat_url", "folder of the reference archives on a server"
    )
    parser.addini(
        "nlam_compat_migrations",
        "migrations of this repository: a file or folder, relative to the root",
    )
    parser.addini(
        "nlam_compat_given_up",
        "references that neural-lam's own loader need not load any more, a "
        "line each: reference: reason",
        type="linelist",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks."""
    from pytest_nlam_compat import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker and, with the flag, add the checks."""
    config.addinivalue_line(
        "markers", "nlam_compat: a check against references of neural-lam"
    )
    if _switched_on(config):
        from pytest_nlam_compat.checks.distribution import begin

        begin(config)


def _switched_on(config: pytest.Config) -> bool:
    return bool(
        config.getoption("nlam_compat")
        or config.getoption("nlam_compat_report")
    )


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep the checks of a reference on one worker of pytest-xdist."""
    if not _switched_on(config):
        return None
    from pytest_nlam_compat.checks.distribution import scheduler

    return scheduler(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run checks once for each reference, or for each registry."""
    if {"nlam_reference", "nlam_registry"} & set(metafunc.fixturenames):
        from pytest_nlam_compat.checks.collection import parametrize

        parametrize(metafunc)
