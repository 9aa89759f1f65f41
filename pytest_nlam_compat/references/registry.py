"""The list of reference archives: which releases there are, and their hashes.

The file has the format of a pooch registry with stricter rules: each name is a
release of neural-lam, each hash a sha256, and nothing is listed twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

FILE_NAME = "registry.txt"
PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package; what lies around it tells how it was installed."""

_SUFFIX = ".zip"
_LISTED = "reference archives"
_LINE = "0.6.0.zip sha256:<64 hex digits>"
_CHUNK_BYTES = 1 << 20
Name = TypeVar("Name")


def data_folder(package: Path = PACKAGE) -> Path:
    """Return the folder of the registry that belongs to a copy of the package.

    What else is known of releases lies in the same folder.
    """
    shipped, checkout = package / "references", package.parent / "fixtures"
    # Only a wheel has a registry inside the package. Look there first: what
    # lies beside a package in site-packages belongs to other packages.
    if (shipped / FILE_NAME).is_file() or not (checkout / FILE_NAME).is_file():
        return shipped
    return checkout


def archive_name(release: Version) -> str:
    """Return the file name of the archive of a release."""
    return f"{release}{_SUFFIX}"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, 64 lower-case hex digits."""
    # Upgrades read the registry's releases, and hash nothing.
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read(path: Path) -> dict[Version, str]:
    """Read and check a registry.

    Each line has a name and a hash. Empty lines and lines that begin with ``#``
    are comments.

    Returns
    -------
    dict of Version to str
        The sha256 of each archive in lower-case hex digits, by release, in the
        order of the releases.

    Raises
    ------
    CompatError
        If the file can't be read or one of its lines is invalid.
    """
    return dict(sorted(_read(path, _release).items()))


def read_files(path: Path) -> dict[str, str]:
    """Read a registry of files with any names; see `read`."""
    return _read(path, _file_name)


def _read(path: Path, parse: Callable[[str], Name]) -> dict[Name, str]:
    hashes: dict[Name, str] = {}
    lines = read_list(path, _LISTED).splitlines()
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            if len(fields) != 2:
                raise ValueError(
                    f"it has {len(fields)} words instead of a name and a hash"
                )
            name = parse(fields[0])
            if name in hashes:
                raise ValueError(f"{fields[0]} is listed a second time")
            hashes[name] = _sha256(fields[1])
        except ValueError as reason:
            raise CompatError(
                f"Line {number} of {path} is invalid: {reason}.",
                facts={"expected": _LINE, "found": line.strip()},
                remedy="Fix the line, or restore the file from git.",
            ) from None
    return hashes


def add(path: Path, release: Version, sha256: str) -> None:
    """Append the line of a new archive to an existing registry.

    Raises
    ------
    CompatError
        If the registry can't be read or written, or the release is listed.
    """
    name = archive_name(release)
    listed = read(path).get(release)
    if listed is not None:
        raise CompatError(
            f"{name} can't be added to {path}: it is listed already.",
            facts={"listed": f"sha256 {listed}", "new": f"sha256 {sha256}"},
            remedy="A reference never changes. If this one was never published,"
            " delete its archive and its line and record it again.",
        )
    append(path, {name: sha256})


def append(path: Path, hashes: Mapping[str, str]) -> None:
    """Append lines to a registry, by name of the file."""
    text = read_list(path, _LISTED)
    # A last line without its line break would swallow the new one.
    start = "" if not text or text.endswith("\n") else "\n"
    lines = (f"{name} sha256:{sha256}\n" for name, sha256 in hashes.items())
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(start + "".join(lines))
    except OSError as error:
        raise CompatError(
            f"{', '.join(hashes)} can't be added to {path}.",
            facts={"cause": error.strerror},
            remedy="Make the file writable.",
        ) from None


def replace(path: Path, old: str, new: str) -> None:
    """Write the new sha256 of an archive that was not published yet."""
    text = read_list(path, _LISTED).replace(old, new)
    path.write_text(text, encoding="utf-8", newline="\n")


def parse_specifier(text: str, option: str) -> SpecifierSet:
    """Parse an option that selects releases; pre-releases count too.

    Raises
    ------
    CompatError
        If the text is no version specifier.
    """
    # Upgrades need none, and it takes a tenth of their time to import.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(text, prereleases=True)
    except InvalidSpecifier:
        raise CompatError(
            f"{option} is not a version specifier.",
            facts={
                "expected": "a version specifier (PEP 440), such as '>=0.5'"
                " or '==0.6.0'",
                "found": text,
            },
            remedy="Correct it, or leave it out for all releases.",
        ) from None


def read_list(path: Path, of: str) -> str:
    """Return the text of a list that comes with this package.

    Raises
    ------
    CompatError
        If it can't be read; `of` says in words what it lists.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise CompatError(
            f"The list of {of} can't be read: {path}.",
            facts={"expected": "a text file in UTF-8", "found": cause},
            remedy="Restore it from git in a checkout, or install"
            " pytest-nlam-compat again.",
        ) from None


def _file_name(name: str) -> str:
    if "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"{name} is not the name of a file beside it")
    return name


def _release(name: str) -> Version:
    if not name.endswith(_SUFFIX):
        raise ValueError(f"the name {name} does not end in {_SUFFIX}")
    text = name.removesuffix(_SUFFIX)
    try:
        release = Version(text)
    except InvalidVersion:
        raise ValueError(f"{text} is not a version (PEP 440)") from None
    if release.local is not None or release.is_devrelease:
        raise ValueError(f"{text} is not a release but a development version")
    # One spelling only: the name of the file is made from the version again.
    if archive_name(release) != name:
        raise ValueError(f"{name} must be written as {archive_name(release)}")
    return release


def _sha256(text: str) -> str:
    digits = text.removeprefix("sha256:").lower()
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ValueError(f"{text} is not a sha256 of 64 hex digits")
    return digits
