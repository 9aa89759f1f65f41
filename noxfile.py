#!/usr/bin/env python3

# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.2.9"]
#
# [tool.nox]
# script-venv-backend = "venv"
# ///

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

import nox
from packaging.version import Version

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).resolve().parent
NOX = ROOT / ".nox"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
CONSTRAINTS = ROOT / "constraints.txt"
REGISTRY = ROOT / "fixtures" / "registry.txt"

# By the name of their schema.
GITHUB_FILES = {
    "citation-file-format": "CITATION.cff",
    "dependabot": ".github/dependabot.yml",
    "github-actions": "action.yml",
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "github-workflows": ".github/workflows/*.yml",
}

# The oldest that is on the package index.
OLDEST = Version("0.4.0")
RELEASES = sorted(
    release
    for line in REGISTRY.read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
    if (release := Version(line.split(".zip ")[0])) >= OLDEST
)
NEWEST = RELEASES[-1]

# torch comes first: where its wheels are many, the search for the rest of
# neural-lam's requirements has one unknown less.
STEPS = (
    ("torch",),
    (f"neural-lam=={NEWEST}",),
    (
        "--editable",
        ".",
        *nox.project.dependency_groups(PYPROJECT, "test", "types"),
    ),
)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the test suite."""
    python = environment(session)
    # A process for each core; the tests of one file share what is costly.
    # tests/conftest.py says in which order.
    spread = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
    session.run(
        python, "-m", "pytest", *spread, *session.posargs, external=True
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, which way imports go, and GitHub's files."""
    groups = nox.project.dependency_groups(PYPROJECT, "lint")
    session.install("--constraint", str(CONSTRAINTS), *groups)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache")
    for schema, files in GITHUB_FILES.items():
        names = [str(path) for path in sorted(ROOT.glob(files))]
        session.run(
            "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *names
        )
    # What schemas can't see: actions that are not pinned, texts of others
    # that get into scripts, permissions.
    session.run("zizmor", "--offline", "--quiet", ".")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, strictly, into site/."""
    groups = nox.project.dependency_groups(PYPROJECT, "docs")
    session.install("--constraint", str(CONSTRAINTS), *groups)
    # What the successor of mkdocs' theme offers is no warning of ours.
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", "build", "--strict", env=quiet)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check the types of the package."""
    python = environment(session)
    session.run(python, "-m", "mypy", *session.posargs, external=True)


@nox.session(venv_backend="none")
def compat(session: nox.Session) -> None:
    """Check all references against the newest release of neural-lam."""
    python = environment(session)
    check(session, python, str(NEWEST), *session.posargs)


@nox.session(venv_backend="none", default=False)
def matrix(session: nox.Session) -> None:
    """Check all references against each release (posargs: releases)."""
    python = environment(session)
    failed = []
    for release in session.posargs or map(str, RELEASES):
        session.log(f"Current code: neural-lam {release}")
        try:
            check(session, python, release)
        except nox.command.CommandFailed:
            failed.append(release)
    if failed:
        session.error(f"Current code that failed: {', '.join(failed)}")


@nox.session(venv_backend="none")
def status(session: nox.Session) -> None:
    """Insist that each release on the package index has references."""
    compat_command(session, "status", *session.posargs)


@nox.session(venv_backend="none", default=False)
def release(session: nox.Session) -> None:
    """Add a new release of neural-lam (posargs: the release, then options)."""
    compat_command(session, "release", *session.posargs)


@nox.session(venv_backend="none", default=False)
def record(session: nox.Session) -> None:
    """Record references of releases (posargs: releases, then options)."""
    releases = list(takewhile(is_no_option, session.posargs))
    options = session.posargs[len(releases) :]
    if not releases:
        session.error("Name the release: nox -s record -- 0.7.0")
    python = environment(session)
    for release in releases:
        session.run(
            python,
            "-m",
            "pytest_nlam_compat",
            "record",
            release,
            *options,
            env=importable(session, python, release),
            external=True,
        )


@nox.session(python="3.10", default=False)
def minimums(session: nox.Session) -> None:
    """Check all references with the lowest versions that are declared.

    Posargs are requirements that come first, for a machine that can't have
    the lowest torch: ``torch==2.13.0``. uv finds packages by its own settings.
    """
    groups = nox.project.dependency_groups(PYPROJECT, "test")
    requirements = (".", f"neural-lam=={NEWEST}", *groups, *session.posargs)
    session.install("uv")
    session.run(
        "uv",
        "pip",
        "install",
        "--quiet",
        "--resolution=lowest-direct",
        "--reinstall-package=pytest-nlam-compat",
        *requirements,
    )
    session.run("uv", "pip", "list", "--quiet")
    session.run("python", "-m", "pytest", "--nlam-compat", "-n", "auto")


@nox.session(default=False)
def wheel(session: nox.Session) -> None:
    """Build the wheel, check it, and use it where there is no checkout."""
    groups = nox.project.dependency_groups(PYPROJECT, "build")
    session.install("--constraint", str(CONSTRAINTS), *groups)
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    # The wheel is built from the source distribution, as an index would.
    session.run("python", "-m", "build", "--outdir", str(folder))
    session.run("twine", "check", "--strict", *map(str, folder.iterdir()))
    session.run("check-wheel-contents", str(folder))
    python = environment(session)
    session.run(python, "tests/distributions", str(folder), external=True)


@nox.session(venv_backend="none", default=False)
def mutants(session: nox.Session) -> None:
    """Break neural-lam in many ways, and score the diagnoses."""
    python = environment(session)
    session.run(python, "tests/mutants", *session.posargs, external=True)
    if not session.posargs:
        # As their authors would try them, with bounds on what is printed.
        trials = "tests/mutants/pull_requests.py"
        session.run(python, trials, external=True)


@nox.session(venv_backend="none", default=False)
def kernels(session: nox.Session) -> None:
    """Judge neural-lam by other kernels, and with lost precision."""
    python = environment(session)
    session.run(python, "tests/kernels", *session.posargs, external=True)


@nox.session(venv_backend="none", default=False)
def browser(session: nox.Session) -> None:
    """Look at reports of real runs in headless Chromium."""
    python = environment(session)
    # Apart: what selenium needs is of no use to the other sessions.
    folder = NOX / "browser"
    groups = nox.project.dependency_groups(PYPROJECT, "browser")
    install(session, python, "--upgrade", "--target", str(folder), *groups)
    session.run(
        python,
        "-m",
        "pytest",
        "tests/browser/browser_checks.py",
        *session.posargs,
        env={"PYTHONPATH": str(folder)},
        external=True,
    )


@nox.session(venv_backend="none", default=False)
def cuda(session: nox.Session) -> None:
    """Do on a GPU what compat, kernels and the tests of mutants do."""
    python = environment(session)
    on_cuda = "--nlam-compat-device=cuda"
    # auto is the GPU where there is one: the first step insists on it.
    tests = ("tests/mutants/test_mutants.py", "tests/test_fixtures.py")
    broken = []
    for name, command, variables in (
        ("compat", ("-m", "pytest", "--nlam-compat", on_cuda), {}),
        ("kernels", ("tests/kernels", "--device=cuda"), {}),
        (
            "mutants and the README's example",
            ("-m", "pytest", "-k", "a_few or example", *tests),
            {"MUTANTS_DEVICE": "cuda"},
        ),
    ):
        try:
            session.run(python, *command, env=variables, external=True)
        except nox.command.CommandFailed:
            broken.append(name)
    if broken:
        session.error(f"Failed on the GPU: {', '.join(broken)}")


@nox.session(venv_backend="none", default=False)
def fuzz(session: nox.Session) -> None:
    """Compare our readers with others (posargs: --minutes 10, --seed 0)."""
    python = environment(session)
    session.run(python, "tests/fuzz", *session.posargs, external=True)


@nox.session(venv_backend="none", default=False)
def kills(session: nox.Session) -> None:
    """Kill commands at random moments (posargs: --each 40, --seed 0)."""
    python = environment(session)
    session.run(python, "tests/kills", *session.posargs, external=True)


@nox.session(venv_backend="none", default=False)
def combinations(session: nox.Session) -> None:
    """Upgrade changed references (posargs: how many, first seed)."""
    python = environment(session)
    arguments = session.posargs or ("2000",)
    script = "tests/upgrade/combinations.py"
    session.run(python, script, *arguments, external=True)


@nox.session(venv_backend="none", default=False)
def pinning(session: nox.Session) -> None:
    """Pin with each older release, and verify with the newest."""
    python = environment(session)
    folders = {
        release: importable(session, python, release)["PYTHONPATH"]
        for release in RELEASES
        if release != NEWEST
    }
    text = os.pathsep.join(f"{r}={folder}" for r, folder in folders.items())
    session.run(
        python,
        "-m",
        "pytest",
        "tests/recording/test_pin.py",
        "tests/recording/test_pinning_document.py",
        *session.posargs,
        env={"PINNING_RELEASES": text},
        external=True,
    )


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Compare with their bounds: all of bench/, or those in the posargs."""
    python = environment(session)
    broken = []
    for name in session.posargs or ("overhead", "workers", "upgrade"):
        try:
            session.run(python, f"bench/{name}.py", external=True)
        except nox.command.CommandFailed:
            broken.append(name)
    if broken:
        session.error(f"Bounds that do not hold: {', '.join(broken)}")


def compat_command(session: nox.Session, *arguments: str) -> None:
    """Run nlam-compat, with the newest release that has references."""
    python = environment(session)
    session.run(
        *(python, "-m", "pytest_nlam_compat", *arguments), external=True
    )


def check(
    session: nox.Session, python: str, release: str, *options: str
) -> None:
    session.run(
        python,
        "-m",
        "pytest",
        "--nlam-compat",
        *options,
        env=importable(session, python, release),
        external=True,
    )


def environment(session: nox.Session) -> str:
    """Build the environment that sessions share, and return its Python.

    torch and neural-lam are large: each session with an environment of its
    own would install them once more.
    """
    folder = NOX / f"shared-{fingerprint()}"
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = str(folder / scripts / "python")
    # Written last, so that an interrupted build does not look complete.
    whole = folder / "whole"
    if not whole.exists():
        for outdated in NOX.glob("shared-*"):
            shutil.rmtree(outdated)
        session.run(sys.executable, "-m", "venv", str(folder), external=True)
        for requirements in STEPS:
            install(session, python, *requirements)
        whole.touch()
    return python


def fingerprint() -> str:
    """Whatever the shared environment depends on, in a few digits."""
    parts = {
        "python": sys.version,
        "place": str(ROOT),
        "steps": STEPS,
        "constraints": CONSTRAINTS.read_text(encoding="utf-8"),
        "build": PYPROJECT["build-system"],
        "project": PYPROJECT["project"],
        "hatch": PYPROJECT["tool"]["hatch"],
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def importable(
    session: nox.Session, python: str, release: str
) -> Mapping[str, str | None]:
    """Environment variables with which ``import neural_lam`` is a release.

    All releases run on the requirements of the newest: the others need no
    more than their own files, before the installed ones on the path.
    """
    if release == str(NEWEST):
        return {"PYTHONPATH": None}
    folder = NOX / "releases" / release
    if not folder.exists():
        part = folder.with_name(f"{release}.part")
        shutil.rmtree(part, ignore_errors=True)
        install(
            session,
            python,
            "--no-deps",
            "--target",
            str(part),
            f"neural-lam=={release}",
        )
        # In one step, so that half a release does not look complete.
        part.rename(folder)
    return {"PYTHONPATH": str(folder)}


def install(session: nox.Session, python: str, *arguments: str) -> None:
    session.run(
        python,
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--constraint",
        str(CONSTRAINTS),
        *arguments,
        external=True,
    )


def is_no_option(argument: str) -> bool:
    return not argument.startswith("-")


if __name__ == "__main__":
    nox.main()
