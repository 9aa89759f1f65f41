"""What a user asks of an upgrade, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.releases import RELEASES

NEWEST = RELEASES[-1]

if TYPE_CHECKING:
    from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts


@dataclass(frozen=True)
class Request:
    """What is asked of an upgrade.

    Attributes
    ----------
    origin : str, optional
        Release that wrote the file; found out by default.
    target : str
        Release whose layout is wanted.
    graph : Path, optional
        The graph directory of the run.
    graph_out : Path, optional
        Where the graph directory for the new file goes.
    facts : DatasetFacts, optional
        Statistics of the dataset of the run.
    allowed : tuple of str
        Classes that the pickle may name besides the known ones.
    in_place : bool
        Whether the new file takes the place of the old one.
    dry_run : bool
        Whether nothing is to be written.
    verify : bool
        Whether tensors that no step touches are checked too.
    drop_optimizer : bool
        Whether the new file is to have no state of the optimizer.
    """

    origin: str | None = None
    target: str = NEWEST
    graph: Path | None = None
    graph_out: Path | None = None
    facts: DatasetFacts | None = None
    allowed: tuple[str, ...] = ()
    in_place: bool = False
    dry_run: bool = False
    verify: bool = False
    drop_optimizer: bool = False

    def __post_init__(self) -> None:
        for option, release in (("from", self.origin), ("to", self.target)):
            if release is not None and release not in RELEASES:
                raise CompatError(
                    f"There is no release {release} of neural-lam known here.",
                    facts={
                        "option": f"--{option}",
                        "known": ", ".join(RELEASES),
                    },
                    remedy="Give one of them; of a development install the "
                    "release before it.",
                )


@dataclass
class Outcome:
    """What came of an upgrade.

    Attributes
    ----------
    file : Path
    origin, target : str
        Releases.
    evidence : list of str
        What the origin rests on.
    steps : list of str
        Ids of the migrations, in order.
    output, backup, graph_out : Path, optional
        What was written; None for what was not.
    before : Path, optional
        The output of an earlier call, where there is one.
    notes : list of str
        What the user is to know besides.
    dry_run : bool
    """

    file: Path
    origin: str
    target: str
    evidence: list[str]
    steps: list[str]
    output: Path | None = None
    backup: Path | None = None
    graph_out: Path | None = None
    before: Path | None = None
    notes: list[str] = field(default_factory=list)
    dry_run: bool = False

    def text(self) -> str:
        """Write it for a terminal."""
        name = self.file.name
        if self.output is None:
            return f"{name} has the layout of {self.target} already."
        verb = "would be carried" if self.dry_run else "was carried"
        lines = [f"{name} {verb} from {self.origin} to {self.target}:"]
        lines += [f"  {found}" for found in self.evidence]
        lines.append("steps:")
        lines += [f"  {step}" for step in self.steps]
        lines.append(f"checkpoint: {self.output}")
        if self.backup is not None:
            lines.append(f"the old one: {self.backup}")
        if self.graph_out is not None:
            lines.append(f"graph: {self.graph_out}")
        return "\n".join([*lines, *self.notes])

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(self).items()
        }
