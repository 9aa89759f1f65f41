"""What to do with a checkpoint file, and what was done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.releases import RELEASES

if TYPE_CHECKING:
    from pytest_nlam_compat.migrations.migration import Migration
    from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts

NEWEST = RELEASES[-1]
OPTIONS = {
    "graph": "--graph DIR (with --graph-out DIR)",
    "grid_shape": "--statistics FILE or --datastore CONFIG",
    "statistics": "--statistics FILE or --datastore CONFIG",
}
"""What to pass for each need of a migration."""


class UpgradeRequest(NamedTuple):
    """What to do with a checkpoint file: the options of ``upgrade``."""

    origin: str | None = None
    target: str = NEWEST
    own: tuple[Migration, ...] = ()  # of a repository, after those to target
    graph: Path | None = None
    graph_root: Path | None = None  # of directories by the graphs' names
    graph_out: Path | None = None  # with a root: of directories, too
    graph_name_differs: bool = False
    facts: DatasetFacts | None = None
    config: Path | None = None  # of neural-lam, named in the next command
    allowed: tuple[str, ...] = ()
    in_place: bool = False
    dry_run: bool = False
    verify: bool = False
    drop_optimizer: bool = False
    keep_device: bool = False


@dataclass
class UpgradeResult:
    """What was done with a file, or would be done in a dry run.

    Where nothing has to change, nothing is written, or a copy if the user
    names an output. `before` is the output of an earlier upgrade, `repository`
    the migrations of a repository that the file has by now, and `next` the
    command that checks what is there.
    """

    file: Path
    origin: str
    target: str
    evidence: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    repository: list[str] = field(default_factory=list)
    output: Path | None = None
    backup: Path | None = None
    graph_out: Path | None = None
    before: Path | None = None
    notes: list[str] = field(default_factory=list)
    dry_run: bool = False
    is_changed: bool = False
    next: str | None = None

    @property
    def layout(self) -> str:
        """Whose layout the file has now, for people."""
        if not self.repository:
            return self.target
        return (
            f"{self.target} with {', '.join(map(printable, self.repository))}"
        )

    def text(self) -> str:
        """Write it for a terminal."""
        name = self.file.name
        tense = "would be" if self.dry_run else "was"
        lines = [f"{name} has the layout of {self.layout} already."]
        if self.steps:
            lines = [
                f"{name} {tense} converted from {self.origin} to "
                f"{self.layout}:",
                *(f"  {found}" for found in self.evidence),
                "steps:",
                *(f"  {step}" for step in self.steps),
            ]
        elif self.output is not None:
            change = "rewritten" if self.is_changed else "copied, byte for byte"
            lines.append(f"It {tense} {change}.")
        written = {
            "checkpoint": self.output,
            "backup": self.backup,
            "graph": self.graph_out,
        }
        lines += [f"{what}: {path}" for what, path in written.items() if path]
        lines += self.notes
        if self.next:
            lines += ["Check it with neural-lam itself:", f"  {self.next}"]
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(self).items()
        }
