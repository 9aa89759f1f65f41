"""Add a release of neural-lam: record, read back, and write all files at once.

All is done in a copy of the project, which has the release already. Only when
all of it has passed do its files replace those of the project.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.files.drafts import draft
from pytest_nlam_compat.references import (
    native_routes,
    registry,
    release_evidence,
)
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.references.release_evidence import (
    Marker,
    ReleaseEvidence,
)
from pytest_nlam_compat.releasing.environment import Environment, build
from pytest_nlam_compat.releasing.new_evidence import (
    file_changes,
    propose_marker,
)
from pytest_nlam_compat.releasing.pages import matrix_page, with_change
from pytest_nlam_compat.reports.results import (
    FAILED,
    all_checks,
    has_failed,
    no_results,
)

STAGING = ".release"
_PACKAGE = "pytest_nlam_compat"
_MATRIX, _CHANGELOG = Path("docs/matrix.md"), Path("CHANGELOG.md")
_FIXTURES = Path("fixtures")

Say = Callable[[str], None]
"""Receives a line for each step."""


@dataclass(frozen=True)
class ReleaseRequest:
    """What to add: to the clone at `root`; pip installs `requirement`."""

    release: Version
    root: Path
    requirement: str

    @property
    def staging(self) -> Path:
        """Where all is done until it has passed."""
        return self.root / STAGING / str(self.release)

    @property
    def project(self) -> Path:
        """The copy of the project."""
        return self.staging / "project"

    @property
    def files(self) -> tuple[Path, ...]:
        """What is written at the end: the line of the registry comes last."""
        return (
            _FIXTURES / registry.archive_name(self.release),
            _FIXTURES / native_routes.FILE_NAME,
            _FIXTURES / release_evidence.FILE_NAME,
            _MATRIX,
            _CHANGELOG,
            _FIXTURES / registry.FILE_NAME,
        )


@dataclass
class ReleaseResult:
    """What was added."""

    release: str
    marker: str | None
    files: dict[str, dict[str, list[str]]]
    references: int
    lost: list[str]
    written: list[str]


def add_release(request: ReleaseRequest, say: Say) -> ReleaseResult:
    """Do all that a new release needs, and write it, or nothing.

    Raises
    ------
    CompatError
        Nothing was changed: the request is impossible, a step failed, or old
        references fail under the release.
    """
    published = _published(request)
    _raise_on_known(request, published)
    before = max(published)
    say(f"1/5 Environment with {request.requirement}")
    pins = request.root / "constraints.txt"
    python = build(
        request.staging / "environment",
        request.requirement,
        pins if pins.is_file() else None,
    )
    originals = _stage(request)
    environment = Environment(python, request.project)
    say(f"2/5 What tells it from neural-lam {before}")
    marker = _marker(request, environment, before)
    say(f"    code: {marker or 'nothing but its version'}")
    fixtures = request.project / _FIXTURES
    table = release_evidence.read(fixtures / release_evidence.FILE_NAME)
    table[request.release] = ReleaseEvidence(marker)
    release_evidence.write(fixtures / release_evidence.FILE_NAME, table)
    say("3/5 Recording, with the gate that each case has to pass")
    _record(request, environment)
    archive, old = (
        ReleaseArchive(fixtures / registry.archive_name(each))
        for each in (request.release, before)
    )
    changes = file_changes(old, archive)
    table[request.release] = ReleaseEvidence(marker, changes)
    release_evidence.write(fixtures / release_evidence.FILE_NAME, table)
    for kind, change in changes.items():
        names = [f"+{n}" for n in sorted(change.added)]
        names += [f"-{n}" for n in sorted(change.removed)]
        say(f"    {release_evidence.KINDS[kind]}: {join_some(names)}")
    say("4/5 All references under it, old and new")
    _read_back(request, environment)
    ambiguous = ask(environment, "origins", str(archive.path))["ambiguous"]
    if ambiguous:
        say(f"    files that need --from: {join_some(ambiguous)}")
    say("5/5 Registry, routes, docs/matrix.md and changelog")
    _write_pages(request)
    routes = native_routes.read(fixtures / native_routes.FILE_NAME)
    result = ReleaseResult(
        release=str(request.release),
        marker=str(marker) if marker else None,
        files=table[request.release].plain()["files"],
        references=len(archive.cases),
        lost=sorted(routes.get(before, frozenset()) - routes[request.release]),
        written=[file.as_posix() for file in request.files],
    )
    archive.close()
    old.close()
    publish(request, originals)
    return result


def _published(request: ReleaseRequest) -> dict[Version, str]:
    listed = request.root / _FIXTURES / registry.FILE_NAME
    if not listed.is_file() or not (request.root / _PACKAGE).is_dir():
        raise CompatError(
            f"{request.root} is not the top of a clone of pytest-nlam-compat.",
            facts={"expected": f"{_FIXTURES}/{registry.FILE_NAME}, {_PACKAGE}"},
            remedy="Run this at the top of a clone.",
        )
    return registry.read(listed)


def _raise_on_known(
    request: ReleaseRequest, published: dict[Version, str]
) -> None:
    release, newest = request.release, max(published)
    archive = request.root / request.files[0]
    if release in published or archive.exists():
        raise CompatError(
            f"neural-lam {release} is recorded already. References are frozen "
            "and never overwritten.",
            facts={"file": archive},
            remedy="Nothing is left to do, unless registry.txt lacks it: then "
            "move the file away, and run this again.",
        )
    if release < newest:
        raise CompatError(
            f"neural-lam {release} is older than the newest release with "
            "references.",
            facts={"newest": newest},
            remedy="Releases are added in their order: each is told from the "
            "one before, and later ones from it. docs/references.md says how "
            "to add a patch of an older release by hand.",
        )
    if release.is_prerelease or release.local:
        raise CompatError(
            f"{release} is not a release that stays.",
            remedy="Wait for the release itself: its references never change.",
        )


def _stage(request: ReleaseRequest) -> dict[Path, str | None]:
    """Copy the project anew, and return the hashes of what will be replaced."""
    shutil.rmtree(request.project, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    originals = {file: _sha256(request.root / file) for file in request.files}
    for name in (_PACKAGE, _FIXTURES):
        shutil.copytree(
            request.root / name, request.project / name, ignore=ignored
        )
    # Without one, pytest would look for settings in the folders above.
    (request.project / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return originals


def _sha256(file: Path) -> str | None:
    return registry.sha256_of(file) if file.is_file() else None


def ask(environment: Environment, *arguments: str) -> dict[str, Any]:
    """Ask the code of a release, and raise what it raises there.

    See `releasing.__main__`.
    """
    done = environment.run(
        "-m", f"{_PACKAGE}.releasing", *arguments, quiet=True
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CompatError(
            "A step failed in the environment of the release.",
            facts={"step": arguments[0], "cause": (lines or ["unknown"])[-1]},
            remedy="Fix the cause, and run this again.",
        ) from None
    if "problem" in answer:
        raise CompatError(
            answer["problem"], facts=answer["facts"], remedy=answer["remedy"]
        )
    return answer


def _marker(
    request: ReleaseRequest, environment: Environment, before: Version
) -> Marker | None:
    """Return what tells the code of the release from the one before."""
    now = ask(environment, "inventory")
    if Version(now["version"]) != request.release:
        raise CompatError(
            f"{request.requirement} is not neural-lam {request.release}.",
            facts={"installed": now["version"]},
            remedy="Name the release that it is, or another --neural-lam.",
        )
    here = Environment(Path(sys.executable), request.project)
    old = ask(here, "inventory")
    if Version(old["version"]) != before:
        raise CompatError(
            f"The new release is compared with {before}, and another one is "
            "installed here.",
            facts={"installed": old["version"]},
            remedy=f"Run `nox -s release -- {request.release}`, which installs "
            f"it, or `pip install neural-lam=={before}`.",
        )
    old_names, new_names = (
        [(module, name) for module, name in each["names"]]
        for each in (old, now)
    )
    return propose_marker(request.release, old_names, new_names)


def _record(request: ReleaseRequest, environment: Environment) -> None:
    done = environment.run("-m", _PACKAGE, "record", str(request.release))
    if done.returncode != 0:
        raise CompatError(
            f"neural-lam {request.release} can't be recorded. Nothing was "
            "changed.",
            remedy="The error is above. Where the API has changed, adapt "
            "adapters/; where the release can't run a case, say so in "
            "recording/cases.py (void). Then run this again.",
        )


def _read_back(request: ReleaseRequest, environment: Environment) -> None:
    """Raise unless all references pass under the release."""
    report = request.staging / "results.json"
    report.unlink(missing_ok=True)
    done = environment.run(
        *("-m", "pytest", "--nlam-compat", "-q", "-pno:cacheprovider"),
        f"--nlam-compat-report={report}",
    )
    if done.returncode == 0:
        return
    results = no_results()
    if report.is_file():
        results = json.loads(report.read_text(encoding="utf-8"))
    release = str(request.release)
    by_release: dict[str, list[str]] = {}
    for each in results["references"]:
        if has_failed(each["checks"]):
            by_release.setdefault(each["release"], []).append(each["id"])
    checks = {c["name"] for c in all_checks(results) if c["outcome"] in FAILED}
    facts = {
        f"fail of {one}": f"{len(names)}, {join_some(names, 3)}"
        for one, names in by_release.items()
    }
    facts["checks"] = join_some(sorted(checks)) or "none ran"
    if not by_release or release in by_release:
        raise CompatError(
            f"The new references fail under neural-lam {release} itself. "
            "Nothing was changed.",
            facts=facts,
            remedy="The causes are above. Fix this plugin, and run this again.",
        )
    python = environment.python
    raise CompatError(
        f"neural-lam {release} needs a migration first: references of older "
        "releases fail under it. Nothing was changed.",
        facts=facts,
        remedy="1. Find the migration:\n"
        f"     cd {request.project} && PYTHONPATH=. {python} -m {_PACKAGE} "
        "suggest\n"
        f"2. Add it to {request.root / _PACKAGE}/migrations/history.py, with "
        f'since="{release}". Add new names of weights to RENAMED in layout.py '
        "beside it.\n"
        "3. Run this again.",
    )


def _write_pages(request: ReleaseRequest) -> None:
    copy = request.project
    for file in _MATRIX, _CHANGELOG:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
    page = matrix_page(copy / _FIXTURES)
    (copy / _MATRIX).write_text(page, encoding="utf-8", newline="\n")
    changelog = (request.root / _CHANGELOG).read_text(encoding="utf-8")
    line = f"- References of neural-lam {request.release}."
    (copy / _CHANGELOG).write_text(
        with_change(changelog, line), encoding="utf-8", newline="\n"
    )


def publish(
    request: ReleaseRequest, originals: Mapping[Path, str | None]
) -> None:
    """Replace the files of the project; if one can't be, none is."""
    for file in request.files:
        if _sha256(request.root / file) != originals[file]:
            raise CompatError(
                f"{file} has changed meanwhile. Nothing was changed.",
                remedy="Run this again.",
            )
    before: dict[Path, bytes | None] = {}
    try:
        for file in request.files:
            target = request.root / file
            target.parent.mkdir(exist_ok=True)
            before[target] = target.read_bytes() if target.exists() else None
            with draft(target, overwrite=True) as stream:
                stream.write((request.project / file).read_bytes())
    except BaseException:
        for target, content in before.items():
            if content is None:
                target.unlink(missing_ok=True)
            else:
                target.write_bytes(content)
        raise
