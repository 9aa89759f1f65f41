"""The archive of a release: a zip with one folder for each case.

::

    release.json              schema, release, provenance, cases, void cases
    <case>/case.json          names, shapes, figures of the strength gate
    <case>/checkpoint.ckpt    exactly as the release wrote it
    <case>/config.yaml        configuration that the run was trained with
    <case>/graph/*            graph directory, as the release created it
    <case>/state_dict.safetensors
    <case>/tensors.safetensors
                              dataset/, batch/, golden32/, golden64/, noise/,
                              resume/, trace/

Members have a fixed order and a fixed time, so that equal content gives an
equal archive.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError

SCHEMA = 1
INDEX = "release.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
# What zipfile raises on damage, and json on what damage leaves.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    RuntimeError,  # an unknown compression, or an encrypted member
)


def write_archive(
    path: Path,
    index: Mapping[str, Any],
    cases: Mapping[str, Mapping[str, bytes]],
) -> None:
    """Write the archive of a release.

    `index` is what is special in its ``release.json``, `cases` holds the
    members of each case by their name below its folder.

    Raises
    ------
    CompatError
        If the file exists: references are never overwritten.
    """
    members = {
        f"{case}/{name}": content
        for case in sorted(cases)
        for name, content in sorted(cases[case].items())
    }
    listing = {
        **index,
        "schema": SCHEMA,
        "cases": sorted(cases),
        "members": list(members),
    }
    members = {INDEX: to_json(listing)} | members
    try:
        with zipfile.ZipFile(path, "x") as archive:
            for name, content in members.items():
                entry = zipfile.ZipInfo(name, date_time=_EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3  # Unix, on every system
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content, compresslevel=9)
    except FileExistsError:
        raise CompatError(
            f"{path} exists. References are frozen and never overwritten.",
            remedy="Delete it and its line in registry.txt by hand if it "
            "was never published.",
        ) from None


def to_json(value: Any) -> bytes:
    """Serialise with a fixed layout."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()


class ReleaseArchive:
    """The archive of a release, opened and checked for completeness.

    With `content`, that is read and not the file.

    Raises
    ------
    CompatError
        If the file is no archive of this schema, or if members are missing or
        not listed.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(
                path if content is None else io.BytesIO(content)
            )
        except _BROKEN as cause:
            raise self._broken("can't be read", cause=cause) from cause
        try:
            self.index = self._index()
            self.release = self._checked()
        except CompatError:
            self._zip.close()
            raise

    def _index(self) -> dict[str, Any]:
        try:
            index = json.loads(self._zip.read(INDEX))
        except _BROKEN as cause:
            raise self._broken("can't be read", cause=cause) from cause
        schema = index.get("schema") if isinstance(index, dict) else None
        if schema != SCHEMA:
            raise CompatError(
                f"{self.path.name} has a format that this version of"
                " pytest-nlam-compat can't read.",
                facts={"expected": f"schema {SCHEMA}", "found": schema},
                remedy="Upgrade pytest-nlam-compat: "
                "`pip install -U pytest-nlam-compat`.",
            )
        assert isinstance(index, dict)
        return index

    def _checked(self) -> Version:
        found = set(self._zip.namelist()) - {INDEX}
        expected = set(self.index["members"])
        if found != expected:
            raise self._broken(
                "doesn't hold what its index lists",
                missing=", ".join(sorted(expected - found)) or "nothing",
                extra=", ".join(sorted(found - expected)) or "nothing",
            )
        return Version(self.index["release"])

    def _broken(self, what: str, **facts: object) -> CompatError:
        return CompatError(
            f"The archive {self.path.name} {what}.",
            facts={"file": self.path, **facts},
            remedy="Restore it: from git in a checkout, with "
            "`nlam-compat fetch` elsewhere.",
        )

    @property
    def cases(self) -> list[str]:
        """Names of the recorded cases, sorted."""
        return list(self.index["cases"])

    @property
    def void(self) -> dict[str, str]:
        """Cases that the release can't run, with the reason."""
        return dict(self.index["void"])

    def read(self, case: str, name: str) -> bytes:
        """Return a member of a case; a CompatError if it is damaged."""
        try:
            return self._zip.read(f"{case}/{name}")
        except _BROKEN as cause:
            raise self._broken(
                "is damaged", member=f"{case}/{name}", cause=cause
            ) from cause

    def names(self, case: str) -> list[str]:
        """List the members of a case, by their names below its folder."""
        start = f"{case}/"
        return [
            member.removeprefix(start)
            for member in self.index["members"]
            if member.startswith(start)
        ]

    def extract(self, case: str, prefix: str, into: Path) -> None:
        """Write the members whose names start with a prefix into a folder."""
        for name in self.names(case):
            if name.startswith(prefix):
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(case, name))

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
