"""Upgrading a checkpoint file, and writing what comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pytest_nlam_compat.checkpoints.copying import Progress
from pytest_nlam_compat.checkpoints.weights import read_run
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.graphs import (
    Graph,
    changed,
    open_graph,
    write_graph,
)
from pytest_nlam_compat.upgrade.output import Output
from pytest_nlam_compat.upgrade.plan import carry, find_way
from pytest_nlam_compat.upgrade.request import Outcome, Request
from pytest_nlam_compat.upgrade.trust import refuse_unknown


def upgrade(
    output: Output,
    request: Request,
    progress: Progress | None = None,
) -> Outcome:
    """Upgrade a checkpoint file.

    Parameters
    ----------
    output : Output
        The file, and where to.
    request : Request
    progress : callable, optional
        Told now and then how many bytes are written, and of how many.

    Returns
    -------
    Outcome
        Without an ``output`` where there was nothing to do.

    Raises
    ------
    CompatError
        Whatever is wrong; the file is as it was.
    """
    with contextlib.ExitStack() as opened:
        checkpoint = opened.enter_context(read_run(output.file, STAMP))
        refuse_unknown(checkpoint, request.allowed)
        if request.verify:
            checkpoint.archive.verify()
        graph = (
            opened.enter_context(open_graph(request.graph))
            if request.graph
            else None
        )
        way = find_way(checkpoint, request, graph)
        outcome = Outcome(
            file=output.file,
            origin=way.origin,
            target=request.target,
            evidence=way.evidence,
            steps=[step.id for step in way.steps],
            dry_run=request.dry_run,
        )
        if not way.steps:
            return outcome
        output.refuse_taken()
        outcome.output = output.path
        checkpoint.data, run, outcome.notes = carry(checkpoint, way, request)
        with _graph_with_it(request, output):
            _place_graph(run, graph, request, outcome)
            if not request.dry_run:
                outcome.backup = output.write(checkpoint, progress)
    return outcome


@contextlib.contextmanager
def _graph_with_it(request: Request, output: Output) -> Iterator[None]:
    """Remove a new graph directory again where its checkpoint fails."""
    target = request.graph_out
    there = target is None or target.exists()
    try:
        yield
    except BaseException:
        if target is not None and not there and not output.placed:
            import shutil

            shutil.rmtree(target, ignore_errors=True)
        raise


def _place_graph(
    run: SavedRun, graph: Graph | None, request: Request, outcome: Outcome
) -> None:
    """Write the graph directory, or say that it stays as it is."""
    if graph is None:
        return
    if request.graph_out is None:
        if differing := changed(graph, run.graph):
            raise CompatError(
                "The graph has to be carried over too.",
                facts={
                    "directory": graph.folder,
                    "other": ", ".join(f"{stem}.pt" for stem in differing),
                },
                remedy="Say where the new graph directory goes with "
                "--graph-out.",
            )
        outcome.notes.append(f"The graph stays as it is: {graph.folder}.")
        return
    outcome.graph_out = request.graph_out
    if not request.dry_run:
        write_graph(graph, run.graph, request.graph_out)
