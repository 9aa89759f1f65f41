"""The command to run next, with the paths of the run that a file is of."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_GRAPHS = "upgraded_graph"
_UP = 4
"""A checkpoint is in saved_models/RUN/, somewhere below the project."""


class RunFiles(NamedTuple):
    """What belongs to a checkpoint file; None if it is not near it."""

    file: Path
    graph: Path | None
    config: Path | None
    model: str | None
    source: str | None = None  # of the migrations of a repository

    def upgrade(self, needs: Sequence[str]) -> str:
        """Return the command that upgrades the file, given what it needs."""
        options = []
        if "graph" in needs:
            graph = self.graph
            target: Path | str = "NEW_DIR"
            if graph is not None:
                target = self.file.parent / _GRAPHS / graph.name
            options += ["--graph", graph or "DIR", "--graph-out", target]
        if {"statistics", "grid_shape"} & {*needs}:
            options += ["--datastore", self.config or "CONFIG"]
        if self.source is not None:
            options += ["--migrations", self.source]
        return _command("upgrade", self.file, options)

    def check(self) -> str | None:
        """Return the command that checks the file; None if none can.

        neural-lam's loader builds a model by what ``args`` say.
        """
        if self.model is None:
            return None
        options = ["--graph", self.graph or "DIR"]
        if self.config is not None:
            options += ["--datastore", self.config]
        return _command("check", self.file, options)


def next_command(report: Mapping[str, Any]) -> str | None:
    """Return what to run next for a `report` of ``inspect``; None if nothing.

    A file of an unknown release needs ``--from``, and one without weights is
    no checkpoint.
    """
    run = run_files(Path(report["file"]), report)
    if report["migrations"]:
        return run.upgrade(report["needs"])
    if report["migrations"] is not None:
        return run.check()
    return f"{run.upgrade(())} --from RELEASE" if report["parameters"] else None


def run_files(
    file: Path,
    report: Mapping[str, Any],
    graph: Path | None = None,
    config: Path | None = None,
) -> RunFiles:
    """Find what belongs to a file, by its `report`, unless it is passed."""
    name = inner_path(report["graph"])
    given = inner_path(report["hyper_parameters"].get("args.config_path"))
    places = list(_places(file))
    if config is None:
        names = [each for each in (given, "config.yaml") if each]
        config = _first(place / each for place in places for each in names)
    if graph is None and name:
        roots = [*places, *([config.parent] if config else [])]
        folders = [root / "graph" / name for root in roots]
        if report["record"]:
            # The graph of before the upgrade is not that of this file.
            folders.insert(0, file.parent / _GRAPHS / name)
        found = _first(each / "g2m_edge_index.pt" for each in folders)
        graph = found.parent if found else None
    source = report.get("source")
    return RunFiles(file, graph, config, report["model"], source)


def _places(file: Path) -> Iterator[Path]:
    yield file.parent
    # As they are written, and then by their full names.
    yield from list(file.parent.parents)[:_UP]
    yield Path()
    yield from list(file.parent.absolute().parents)[:_UP]


def inner_path(name: Any) -> str | None:
    """Return a path that a file names; None unless it leads further down."""
    if not isinstance(name, str) or not name or not name.isprintable():
        return None
    path = Path(name)
    return None if path.is_absolute() or ".." in path.parts else name


def _first(paths: Iterable[Path]) -> Path | None:
    # Unlike Path.is_file, this takes names that are too long.
    return next((path for path in paths if os.path.isfile(path)), None)


def _command(name: str, file: Path, options: Sequence[object]) -> str:
    # A file named like an option would be read as one.
    path = Path(".") / file
    shown = f"./{path}" if str(path).startswith("-") else str(path)
    words = [shown, *map(str, options)]
    return " ".join(["nlam-compat", name, *map(shlex.quote, words)])
