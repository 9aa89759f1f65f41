"""Where a bisect keeps what it must not lose, in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.store import CACHE_VARIABLE


@dataclass(frozen=True)
class Asked:
    """What is to be found.

    Attributes
    ----------
    good, bad : str
        Hashes of commits.
    release : str
        Specifier of the releases whose references are checked.
    case : str
        Pattern of the cases.
    """

    good: str
    bad: str
    release: str
    case: str


@dataclass(frozen=True)
class Place:
    """The folder of one clone's bisect.

    Attributes
    ----------
    folder : pathlib.Path
    """

    folder: Path

    @classmethod
    def of(cls, repository: Path) -> Place:
        """Return the place of a clone; nothing is made yet.

        Parameters
        ----------
        repository : pathlib.Path

        Returns
        -------
        Place
        """
        import pooch

        cache = os.environ.get(CACHE_VARIABLE)
        root = Path(cache or pooch.os_cache("pytest-nlam-compat")).absolute()
        name = hashlib.sha256(os.fsencode(repository)).hexdigest()[:16]
        return cls(root / "bisect" / name)

    @property
    def tree(self) -> Path:
        """The worktree; git names it after its last part."""
        return self.folder / "nlam-compat-bisect"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out.

        Raises
        ------
        CompatError
            One is in, or nothing can be kept there.
        """
        import filelock

        lock = filelock.FileLock(f"{self.folder}.lock", timeout=0)
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            raise CompatError(
                "Another nlam-compat bisect of this clone is running.",
                facts={"lock": f"{self.folder}.lock"},
                remedy="Wait for it, or end it.",
            ) from None
        except OSError as error:
            raise CompatError(
                "What a bisect finds out can't be kept.",
                facts={"folder": self.folder.parent, "cause": error},
                remedy=f"Set {CACHE_VARIABLE} to a folder that can be written.",
            ) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def asked(self) -> Asked | None:
        """What an interrupted bisect was to find, None if there is none."""
        found = self.read("asked")
        return None if found is None else Asked(**found)

    def begin(self, asked: Asked) -> None:
        """Remember what is to be found.

        Parameters
        ----------
        asked : Asked
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write("asked", asdict(asked))

    def read(self, name: str) -> Any:
        """Return what was written under a name, None if nothing was.

        Parameters
        ----------
        name : str
        """
        try:
            text = self._file(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return json.loads(text)

    def names(self) -> list[str]:
        """List the names under which something was written."""
        return sorted(file.stem for file in self.folder.glob("*.json"))

    def write(self, name: str, content: Mapping[str, object]) -> None:
        """Keep something: all of it or, if killed on the way, nothing.

        Parameters
        ----------
        name : str
        content : mapping
        """
        part = self.folder / f"{name}.part"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def discard(self) -> None:
        """Throw all of it away."""
        shutil.rmtree(self.folder, ignore_errors=True)
