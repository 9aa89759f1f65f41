"""The checkpoints of all releases, as their owners have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_nlam_compat.migrations.saved_run import Statistics
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts

FIXTURES = Path(__file__).parents[1] / "fixtures"


@dataclass(frozen=True)
class Owned:
    """A recorded case in a folder of its own.

    It has checkpoint.ckpt, graph/<name>/, config.yaml and statistics.json.
    """

    reference: Reference
    folder: Path

    @property
    def release(self) -> str:
        return str(self.reference.release)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.ckpt"

    @property
    def graph(self) -> Path:
        return self.reference.graph_folder(self.folder)

    @property
    def statistics(self) -> Path:
        return self.folder / "statistics.json"


def facts_of(reference: Reference) -> DatasetFacts:
    found = Statistics.of_dataset(reference.dataset)
    return DatasetFacts(
        {name: array.tolist() for name, array in found.arrays.items()},
        tuple(found.static_names),
        reference.dataset.grid_shape,
    )


def ids() -> list[str]:
    found = []
    for path in sorted(FIXTURES.glob("*.zip")):
        archive = ReleaseArchive(path)
        found += [f"{archive.release}-{case}" for case in archive.cases]
        archive.close()
    return found


IDS = ids()


class Owner:
    """Gives each case a folder, once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._archives: dict[str, ReleaseArchive] = {}
        self._cases: dict[str, Owned] = {}

    def __call__(self, name: str) -> Owned:
        release, _, case = name.partition("-")
        if name not in self._cases:
            if release not in self._archives:
                path = FIXTURES / f"{release}.zip"
                self._archives[release] = ReleaseArchive(path)
            reference = Reference(self._archives[release], case)
            owned = Owned(reference, self._root / name)
            reference.write(owned.folder)
            facts = facts_of(reference)
            owned.statistics.write_bytes(facts.to_bytes(".json"))
            self._cases[name] = owned
        return self._cases[name]

    def close(self) -> None:
        for archive in self._archives.values():
            archive.close()
