"""Find the reference archives: in a folder, or in a cache that downloads them.

Importing this module is cheap: what downloads is imported when it is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from packaging.version import Version

from pytest_nlam_compat import __version__
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import native_routes, registry
from pytest_nlam_compat.references.registry import PACKAGE
from pytest_nlam_compat.references.release_archive import ReleaseArchive

DEFAULT_URL = (
    f"https://github.com/mllam/pytest-nlam-compat/raw/v{__version__}/fixtures/"
)
URL_VARIABLE = "NLAM_COMPAT_URL"
CACHE_VARIABLE = "NLAM_COMPAT_CACHE"

LOCK_WAIT_S = 120.0
"""Longer than a download that hangs, so that few processes stop waiting."""


LARGEST_BYTES = 1 << 26
"""More than any archive has; a registry has hashes, and no sizes."""


@dataclass(frozen=True)
class Obtained:
    """An archive whose hash was checked, with a warning or an empty one.

    `content` is what was hashed: the file may be another one by now.
    """

    path: Path
    content: bytes = field(repr=False)
    how: Literal["in place", "already there", "downloaded"]
    notice: str = ""


class Store(ABC):
    """The reference archives of all releases that the registry lists."""

    def __init__(self, listed: Path) -> None:
        self._listed = listed
        self._hashes = registry.read(listed)
        self._obtained: dict[Version, Obtained] = {}

    @staticmethod
    def locate(
        *,
        url: str | None = None,
        cache: Path | None = None,
        offline: bool = False,
    ) -> Store:
        """Find the archives that belong to this copy of the package.

        In a checkout they lie beside the package and are used in place. An
        installed package has their hashes only, and downloads them into a
        cache; so does a checkout if `url` or `cache` is passed.

        Parameters
        ----------
        url : str, optional
            The URL of the folder with the archives, http or https. Default:
            the environment variable ``NLAM_COMPAT_URL``, else the fixtures of
            this version on GitHub.
        cache : Path, optional
            The folder for downloads. Default: the environment variable
            ``NLAM_COMPAT_CACHE``, else the user's cache.
        offline : bool
            Never download.

        Raises
        ------
        CompatError
            If the registry can't be read, if a folder used in place doesn't
            hold exactly the archives of its registry, or if the URL is invalid.
        """
        folder = registry.data_folder(PACKAGE)
        in_checkout = folder == PACKAGE.parent / "fixtures"
        if in_checkout and url is None and cache is None:
            return _FolderStore(folder)
        listed = folder / registry.FILE_NAME
        return _CachedStore(listed, url=url, cache=cache, offline=offline)

    @property
    def releases(self) -> list[Version]:
        """The releases that have an archive, oldest first."""
        return list(self._hashes)

    @property
    def native_routes(self) -> dict[Version, frozenset[str]]:
        """What each release loads with its own loader; ids of references."""
        return native_routes.read(
            self._listed.with_name(native_routes.FILE_NAME)
        )

    @property
    def notices(self) -> list[str]:
        """Warnings about the archives that were obtained."""
        return [each.notice for each in self._obtained.values() if each.notice]

    @property
    def registry_file(self) -> Path:
        """The file that lists the archives and their hashes."""
        return self._listed

    folder: Path
    """Where the archives are, which nothing else may write to."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Where the archives are, for a report's header."""

    def archive(self, release: Version) -> Path:
        """Return the archive of a release; see `obtain`."""
        return self.obtain(release).path

    def open(self, release: Version) -> ReleaseArchive:
        """Open the archive of a release; see `obtain`."""
        obtained = self.obtain(release)
        return ReleaseArchive(obtained.path, obtained.content)

    def obtain(self, release: Version, *, progress: bool = False) -> Obtained:
        """Get the archive of a release, downloaded if need be.

        Its hash is checked once in the life of this object.

        Raises
        ------
        CompatError
            If the release has no archive, or if its archive is missing, is not
            the published one, can't be read, downloaded or stored.
        """
        if release not in self._hashes:
            known = ", ".join(map(str, self.releases)) or "none"
            raise CompatError(
                f"There is no reference archive of neural-lam {release}.",
                facts={"releases": known, "registry": self._listed},
                remedy="Choose one of these releases.",
            )
        if release not in self._obtained:
            # The file has the spelling of the registry: 0.6 is 0.6.0.
            listed = self.releases[self.releases.index(release)]
            name = registry.archive_name(listed)
            self._obtained[release] = self._provide(
                name, self._hashes[release], progress
            )
        return self._obtained[release]

    @abstractmethod
    def _provide(self, name: str, sha256: str, progress: bool) -> Obtained:
        """Get one archive; called once for each."""


class _FolderStore(Store):
    """Archives that are used where they lie, and never written.

    The folder must hold exactly the archives that its registry lists.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "registry.txt")
        self.folder = folder
        listed = {registry.archive_name(release) for release in self.releases}
        present = {path.name for path in folder.glob("*.zip")}
        if missing := sorted(listed - present):
            raise CompatError(
                "Archives that the registry lists are missing.",
                facts={"registry": self._listed, "missing": ", ".join(missing)},
                remedy="Restore them from git. A source distribution has no"
                " archives: use a checkout or an installed package.",
            )
        # An archive that nobody checks would look like a tested release.
        if unlisted := sorted(present - listed):
            raise CompatError(
                "The registry doesn't list all archives of its folder.",
                facts={
                    "registry": self._listed,
                    "not listed": ", ".join(unlisted),
                },
                remedy="Add a line for each to the registry, or move them.",
            )

    @property
    def description(self) -> str:
        return f"fixtures/ of the checkout {self.folder.parent}"

    def _provide(self, name: str, sha256: str, progress: bool) -> Obtained:
        path = self.folder / name
        content, found = _read(path)
        if found != sha256:
            raise CompatError(
                f"The archive {name} is not the one in the registry.",
                facts=_hash_facts(path, sha256, found),
                remedy="Restore it from git: a reference never changes.",
            )
        return Obtained(path, content, "in place")


class _CachedStore(Store):
    """Archives that are downloaded once into the user's cache.

    Each archive has a folder of its own, named after its hash: versions of this
    package that list the same archive share it, and two that differ never get
    in each other's way.
    """

    def __init__(
        self,
        listed: Path,
        *,
        url: str | None,
        cache: Path | None,
        offline: bool,
    ) -> None:
        import pooch

        super().__init__(listed)
        self._url = _checked_url(url)
        self._offline = offline
        # pooch prefers its variable to the path, so it must not see it then.
        self.folder: Path = pooch.create(
            path=cache or pooch.os_cache("pytest-nlam-compat"),
            base_url=self._url,
            env=CACHE_VARIABLE if cache is None else None,
        ).abspath

    @property
    def description(self) -> str:
        if self._offline:
            return f"cache {self.folder}, offline"
        return f"cache {self.folder}, filled from {without_secrets(self._url)}"

    def _provide(self, name: str, sha256: str, progress: bool) -> Obtained:
        path = self.folder / sha256[:16] / name
        # Before any lock, which a read-only cache would refuse.
        content, found = _read(path)
        if found == sha256:
            return Obtained(path, content, "already there")
        if self._offline:
            what = "is not in the cache"
            if found is not None:
                what = "in the cache is not the published one"
            raise CompatError(
                f"The archive {name} {what}, and downloads are disabled.",
                facts=_hash_facts(path, sha256, found),
                remedy="Run `nlam-compat fetch` while there is a network,"
                " or leave out --nlam-compat-offline (--offline).",
            )

        from pytest_nlam_compat.references.download import download

        with _download_lock(path):
            # Another process may have been quicker.
            content, there = _read(path)
            if there == sha256:
                return Obtained(path, content, "already there")
            download(self._url + name, path, sha256, progress=progress)
        content, there = _read(path)
        if there != sha256:
            raise CompatError(
                f"The archive {name} was changed as soon as it was there.",
                facts=_hash_facts(path, sha256, there),
                remedy="Use a cache that nobody else writes to.",
            )
        notice = ""
        if found is not None:
            notice = (
                f"The archive {name} in the cache was not the published one"
                f" (sha256 {found}); it was downloaded again."
            )
        return Obtained(path, content, "downloaded", notice)


def without_secrets(text: str) -> str:
    """Return a URL, or a text with URLs, as it may appear in a log.

    Examples
    --------
    >>> without_secrets("https://me:secret@example.org/fixtures/?token=1")
    'https://***@example.org/fixtures/?***'
    >>> without_secrets("Failed to parse me:secret@example.org:99999")
    'Failed to parse ***@example.org:99999'
    """
    text = re.sub(r"(\w+://)?\S*@", r"\1***@", text)
    return re.sub(r"([?#])\S+", r"\1***", text)


def _checked_url(argument: str | None) -> str:
    url, origin = DEFAULT_URL, "the default"
    if argument is not None:
        url, origin = argument, "an argument"
    elif os.environ.get(URL_VARIABLE):
        url, origin = os.environ[URL_VARIABLE], f"${URL_VARIABLE}"
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
        # The name of an archive would become a part of a query.
        usable = is_http and not (parts.query or parts.fragment)
        parts.port  # noqa: B018 - a ValueError beyond 65535
    except ValueError:
        usable = False
    if not usable:
        raise CompatError(
            "The URL of the reference archives is invalid.",
            facts={
                "expected": "http://... or https://..., a folder",
                "found": without_secrets(url),
                "from": origin,
            },
            remedy=f"Correct it, or leave it out for {DEFAULT_URL}",
        )
    return url.rstrip("/") + "/"


@contextmanager
def _download_lock(path: Path) -> Iterator[None]:
    """Wait while another process downloads the same archive.

    The lock only saves work; what keeps the cache whole is that an archive is
    moved into it complete. So where no lock can be had - a file system without
    locks, somebody else's lock file, a process that hangs - download without.
    What prevents the lock file prevents the archive too, and is reported then.
    """
    import filelock

    with ExitStack() as stack:
        with warnings.catch_warnings(), suppress(OSError, NotImplementedError):
            # Without flock, newer ones warn and fall back to another lock.
            warnings.simplefilter("ignore")
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(f"{path}.lock", timeout=LOCK_WAIT_S)
            stack.enter_context(lock)
            # Of downloads that were killed.
            for left in path.parent.glob("tmp*"):
                left.unlink()
        yield


def _read(path: Path) -> tuple[bytes, str | None]:
    """Return a file and its sha256, or None if there is no such file."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        return content, hashlib.sha256(content).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return b"", None
    except OSError as error:
        raise CompatError(
            f"The archive {path.name} can't be read.",
            facts={"file": path, "cause": error.strerror},
            remedy="Make the file readable, or delete it so that it is"
            " downloaded again.",
        ) from None


def _hash_facts(
    path: Path, sha256: str, found: str | None
) -> dict[str, object]:
    return {
        "file": path,
        "expected": f"sha256 {sha256}",
        "found": f"sha256 {found}" if found else "no file",
    }
