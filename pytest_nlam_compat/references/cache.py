"""Reference archives that are downloaded once into the user's cache."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from pytest_nlam_compat import __version__
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.store import (
    Obtained,
    Store,
    hash_if_there,
)

DEFAULT_URL = (
    f"https://github.com/mllam/pytest-nlam-compat/raw/v{__version__}/fixtures/"
)
URL_VARIABLE = "NLAM_COMPAT_URL"
CACHE_VARIABLE = "NLAM_COMPAT_CACHE"

LOCK_WAIT_S = 120.0
"""Longer than a download that gets nowhere, so that few go on without."""


class CachedStore(Store):
    """The archives of an installed package.

    Each archive has a folder of its own, named after its hash: versions of this
    package that list the same archive share it, and two that differ never get
    in each other's way.

    Parameters
    ----------
    listed : Path
        The registry.
    url : str or None
        The address of the folder with the archives; None for the environment
        variable ``NLAM_COMPAT_URL`` or else GitHub.
    cache : Path or None
        The folder for downloads; None for the environment variable
        ``NLAM_COMPAT_CACHE`` or else the user's cache.
    offline : bool
        Never download.

    Raises
    ------
    CompatError
        If the registry can't be read or the address is not http or https.
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
        # pooch lets its variable win over the path: it may not see it then.
        self._root: Path = pooch.create(
            path=cache or pooch.os_cache("pytest-nlam-compat"),
            base_url=self._url,
            env=CACHE_VARIABLE if cache is None else None,
        ).abspath

    @property
    def description(self) -> str:
        """Where the archives are, for a report's header."""
        if self._offline:
            return f"cache {self._root}, offline"
        return f"cache {self._root}, filled from {without_password(self._url)}"

    def _provide(self, name: str, sha256: str, progress: bool) -> Obtained:
        path = self._root / sha256[:16] / name
        # Before any lock, which a read-only cache would refuse.
        found = hash_if_there(path)
        if found == sha256:
            return Obtained(path, "already there")
        if self._offline:
            raise _absent(path, sha256, found)

        from pytest_nlam_compat.references.download import download

        with _turn(path):
            # Another process may have been quicker.
            if hash_if_there(path) == sha256:
                return Obtained(path, "already there")
            download(self._url + name, path, sha256, progress=progress)
        notice = ""
        if found is not None:
            notice = (
                f"The archive {name} in the cache was not the published one"
                f" (sha256 {found}); it was downloaded again."
            )
        return Obtained(path, "downloaded", notice)


def without_password(url: str) -> str:
    """Return an address as it may appear in a log.

    Examples
    --------
    >>> without_password("https://me:secret@example.org/fixtures/")
    'https://***@example.org/fixtures/'
    """
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"***@{host}").geturl() if at else url


def _checked_url(argument: str | None) -> str:
    url, origin = DEFAULT_URL, "the default"
    if argument is not None:
        url, origin = argument, "an argument"
    elif os.environ.get(URL_VARIABLE):
        url, origin = os.environ[URL_VARIABLE], f"${URL_VARIABLE}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise CompatError(
            "The address of the reference archives can't be used.",
            facts={
                "expected": "http://... or https://..., a folder",
                "found": url,
                "from": origin,
            },
            remedy=f"Correct it, or leave it out for {DEFAULT_URL}",
        )
    return url.rstrip("/") + "/"


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait while another process downloads the same archive.

    The lock only saves work; what keeps the cache whole is that an archive is
    moved into it complete. So where no lock is to be had - a file system
    without locks, somebody else's lock file, a process that hangs - it is done
    without. What keeps a lock from being written will keep the archive from
    being written too, and is told then.
    """
    import filelock

    with ExitStack() as stack:
        with warnings.catch_warnings(), suppress(OSError, NotImplementedError):
            # Without flock, newer ones warn and fall back to another lock.
            warnings.simplefilter("ignore")
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(f"{path}.lock", timeout=LOCK_WAIT_S)
            stack.enter_context(lock)
        yield


def _absent(path: Path, sha256: str, found: str | None) -> CompatError:
    what = "is not in the cache"
    if found is not None:
        what = "in the cache is not the published one"
    return CompatError(
        f"The archive {path.name} {what}, and downloads are switched off.",
        facts={
            "file": path,
            "expected": f"sha256 {sha256}",
            "found": f"sha256 {found}" if found else "no file",
        },
        remedy="Run `nlam-compat fetch` beforehand, where there is a network,"
        " or leave out --nlam-compat-offline (--offline).",
    )
