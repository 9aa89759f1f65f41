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
import re
import shutil
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).resolve().parent
NOX = ROOT / ".nox"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
CONSTRAINTS = ROOT / "constraints.txt"
REGISTRY = ROOT / "fixtures" / "registry.txt"

RELEASES = ("0.4.0", "0.5.0", "0.6.0", "0.7.0")
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
    spread = ("-n", "auto", "--dist", "loadfile")
    session.run(
        python, "-m", "pytest", *spread, *session.posargs, external=True
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, and which way imports between rooms go."""
    groups = nox.project.dependency_groups(PYPROJECT, "lint")
    session.install("--constraint", str(CONSTRAINTS), *groups)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache")


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
    check(session, python, NEWEST, *session.posargs)


@nox.session(venv_backend="none", default=False)
def matrix(session: nox.Session) -> None:
    """Check all references against each release (posargs: releases)."""
    python = environment(session)
    failed = []
    for release in session.posargs or RELEASES:
        session.log(f"Current code: neural-lam {release}")
        try:
            check(session, python, release)
        except nox.command.CommandFailed:
            failed.append(release)
    if failed:
        session.error(f"Current code that failed: {', '.join(failed)}")


@nox.session(venv_backend="none")
def releases(session: nox.Session) -> None:
    """Insist that each release on the package index has references."""
    answer = session.run(
        sys.executable,
        "-m",
        "pip",
        "index",
        "versions",
        "neural-lam",
        "--disable-pip-version-check",
        external=True,
        silent=True,
    )
    found = re.search(r"^Available versions: (.+)$", str(answer), re.MULTILINE)
    if found is None:
        session.error(f"pip does not name the releases: {answer}")
    recorded = REGISTRY.read_text(encoding="utf-8")
    missing = [
        release
        for release in found[1].split(", ")
        if f"\n{release}.zip " not in recorded
    ]
    if missing:
        session.error(
            f"No references of neural-lam {', '.join(missing)}. Record them: "
            f"nox -s record -- {' '.join(missing)}; and add them to RELEASES."
        )


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


@nox.session(venv_backend="none", default=False)
def mutants(session: nox.Session) -> None:
    """Break neural-lam in many ways, and score the diagnoses."""
    python = environment(session)
    session.run(python, "tests/mutants", *session.posargs, external=True)


@nox.session(venv_backend="none", default=False)
def kernels(session: nox.Session) -> None:
    """Judge neural-lam by other kernels, and with lost precision."""
    python = environment(session)
    session.run(python, "tests/kernels", *session.posargs, external=True)


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
    """Compare our reader with torch.load (posargs: how many, first seed)."""
    python = environment(session)
    arguments = session.posargs or ("100000",)
    script = "tests/checkpoints/differential.py"
    session.run(python, script, *arguments, external=True)


@nox.session(venv_backend="none", default=False)
def combinations(session: nox.Session) -> None:
    """Upgrade changed references (posargs: how many, first seed)."""
    python = environment(session)
    arguments = session.posargs or ("2000",)
    script = "tests/upgrade/combinations.py"
    session.run(python, script, *arguments, external=True)


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Compare with their bounds: overhead and upgrade (posargs: which)."""
    python = environment(session)
    broken = []
    for name in session.posargs or ("overhead", "upgrade"):
        try:
            session.run(python, f"bench/{name}.py", external=True)
        except nox.command.CommandFailed:
            broken.append(name)
    if broken:
        session.error(f"Bounds that do not hold: {', '.join(broken)}")


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
    if release == NEWEST:
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
