"""Where the reference archives are, and how one gets hold of them.

Importing this module is cheap: what downloads is imported when it is needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import registry

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package; what lies around it tells how it was installed."""


@dataclass(frozen=True)
class Obtained:
    """An archive whose hash was checked.

    Attributes
    ----------
    path : Path
        The archive.
    how : str
        Where it came from: it is used ``in place``, it was ``already there`` in
        the cache, or it was ``downloaded``.
    notice : str
        What a user should hear about it although it is no error; mostly empty.
    """

    path: Path
    how: Literal["in place", "already there", "downloaded"]
    notice: str = ""


class Store(ABC):
    """The reference archives of all releases that the registry lists.

    Parameters
    ----------
    listed : Path
        The registry.

    Raises
    ------
    CompatError
        If the registry can't be read.

    Examples
    --------
    >>> store = Store.locate()
    >>> for release in store.releases:
    ...     print(release, store.archive(release))
    """

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
        directory: Path | None = None,
    ) -> Store:
        """Find the archives that belong to this copy of the package.

        In a checkout they lie beside the package and are used in place. An
        installed package has their hashes only, and downloads them into a
        cache. Whoever asks for a server or a cache by argument means the
        latter, in a checkout too.

        Parameters
        ----------
        url : str, optional
            The address of the folder with the archives, http or https. Default:
            the environment variable ``NLAM_COMPAT_URL``, else the fixtures of
            this version on GitHub.
        cache : Path, optional
            The folder for downloads. Default: the environment variable
            ``NLAM_COMPAT_CACHE``, else the user's cache.
        offline : bool
            Use what the cache holds, and never download.
        directory : Path, optional
            A folder with a ``registry.txt`` and all its archives, to be used in
            place.

        Returns
        -------
        Store
            Nothing was downloaded yet, and no hash was checked.

        Raises
        ------
        CompatError
            If the registry can't be read, if a folder used in place doesn't
            hold exactly the archives of its registry, if the address is not
            http or https, or if ``directory`` is given beside ``url`` or
            ``cache``.
        """
        from pytest_nlam_compat.references.cache import CachedStore
        from pytest_nlam_compat.references.folder import FolderStore

        if directory is not None:
            if url is not None or cache is not None:
                raise CompatError(
                    "Reference archives are used in place or downloaded, not"
                    " both.",
                    facts={
                        "in place": directory,
                        "download": url or f"into {cache}",
                    },
                    remedy="Give one of the two.",
                )
            return FolderStore(directory, f"the folder {directory}")

        shipped = PACKAGE / "references" / "registry.txt"
        checkout = PACKAGE.parent / "fixtures"
        listed = shipped
        # The wheel alone has a registry inside the package. It is looked for
        # first: what lies beside a package in site-packages is other people's.
        if not shipped.is_file() and (checkout / "registry.txt").is_file():
            if url is None and cache is None:
                place = f"fixtures/ of the checkout {PACKAGE.parent}"
                return FolderStore(checkout, place)
            listed = checkout / "registry.txt"
        return CachedStore(listed, url=url, cache=cache, offline=offline)

    @property
    def releases(self) -> list[Version]:
        """The releases that have an archive, oldest first."""
        return list(self._hashes)

    @property
    def notices(self) -> list[str]:
        """What there is to tell about the archives that were obtained."""
        return [each.notice for each in self._obtained.values() if each.notice]

    @property
    @abstractmethod
    def description(self) -> str:
        """Where the archives are, for a report's header."""

    def sha256(self, release: Version) -> str:
        """Return the published hash of the archive of a release.

        Raises
        ------
        CompatError
            If the release has no archive.
        """
        try:
            return self._hashes[release]
        except KeyError:
            known = ", ".join(map(str, self.releases)) or "none"
            raise CompatError(
                f"There is no reference archive of neural-lam {release}.",
                facts={"releases": known, "registry": self._listed},
                remedy="Choose one of these releases.",
            ) from None

    def archive(self, release: Version) -> Path:
        """Return the archive of a release, checked and downloaded if need be.

        Raises
        ------
        CompatError
            As `obtain`.
        """
        return self.obtain(release).path

    def obtain(self, release: Version, *, progress: bool = False) -> Obtained:
        """Get the archive of a release, and say where it came from.

        Parameters
        ----------
        release : Version
            One of `releases`.
        progress : bool
            Show on a terminal how far a download is.

        Returns
        -------
        Obtained
            The archive. Its hash is checked once in the life of this object.

        Raises
        ------
        CompatError
            If the release has no archive, or if its archive is missing, is not
            the published one, can't be read, downloaded or stored.
        """
        if release not in self._obtained:
            sha256 = self.sha256(release)
            # The file has the spelling of the registry: 0.6 is 0.6.0.
            listed = self.releases[self.releases.index(release)]
            name = registry.archive_name(listed)
            self._obtained[release] = self._provide(name, sha256, progress)
        return self._obtained[release]

    @abstractmethod
    def _provide(self, name: str, sha256: str, progress: bool) -> Obtained:
        """Get one archive; called once for each."""


def hash_if_there(path: Path) -> str | None:
    """Return the sha256 of a file, or None if there is no such file.

    Raises
    ------
    CompatError
        If there is a file that can't be read.
    """
    try:
        return registry.sha256_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CompatError(
            f"The archive {path.name} can't be read.",
            facts={"file": path, "cause": error.strerror},
            remedy="Make the file readable, or delete it to have it downloaded"
            " again.",
        ) from None
