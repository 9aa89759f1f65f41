"""Upgrade a checkpoint file, and its graph directory."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from pytest_nlam_compat.checkpoints.copying import Progress
from pytest_nlam_compat.checkpoints.weights import read_run
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.graphs import (
    GraphDirectory,
    changed,
    open_graph,
    write_graph,
)
from pytest_nlam_compat.upgrade.output import OutputFile
from pytest_nlam_compat.upgrade.plan import migrate, plan_upgrade
from pytest_nlam_compat.upgrade.request import UpgradeRequest, UpgradeResult
from pytest_nlam_compat.upgrade.trust import refuse_unknown


def upgrade(
    output: OutputFile,
    request: UpgradeRequest,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Upgrade a checkpoint file.

    Parameters
    ----------
    output : OutputFile
        The file, and where to write the new one.
    request : UpgradeRequest
    progress : callable, optional
        Called with the number of bytes written, and of all bytes.

    Returns
    -------
    UpgradeResult
        Without an ``output`` if there was nothing to do.

    Raises
    ------
    CompatError
        Whatever is wrong; the file is unchanged then.
    """
    with contextlib.ExitStack() as opened:
        checkpoint = opened.enter_context(read_run(output.file, STAMP))
        refuse_unknown(checkpoint, request.allowed)
        if request.verify:
            checkpoint.archive.verify()
        graph = None
        if request.graph is not None:
            graph = opened.enter_context(open_graph(request.graph))
        plan = plan_upgrade(checkpoint, request, graph)
        result = UpgradeResult(
            file=output.file,
            origin=plan.origin,
            target=request.target,
            evidence=plan.evidence,
            steps=[step.id for step in plan.steps],
            dry_run=request.dry_run,
        )
        if not plan.steps:
            return result
        output.refuse_existing()
        result.output = output.path
        checkpoint.data, run, result.notes = migrate(checkpoint, plan, request)
        with _removed_on_failure(request.graph_out, output):
            if graph is not None:
                _place_graph(graph, run, request, result)
            if not request.dry_run:
                result.backup = output.write(checkpoint, progress)
    return result


@contextlib.contextmanager
def _removed_on_failure(
    graph_out: Path | None, output: OutputFile
) -> Iterator[None]:
    """Remove a new graph directory if its checkpoint can't be written."""
    existed = graph_out is None or graph_out.exists()
    try:
        yield
    except BaseException:
        if graph_out is not None and not existed and not output.placed:
            shutil.rmtree(graph_out, ignore_errors=True)
        raise


def _place_graph(
    graph: GraphDirectory,
    run: SavedRun,
    request: UpgradeRequest,
    result: UpgradeResult,
) -> None:
    """Write the graph directory, or note that it is unchanged."""
    if request.graph_out is not None:
        result.graph_out = request.graph_out
        if not request.dry_run:
            write_graph(graph, run.graph, request.graph_out)
    elif differing := changed(graph, run.graph):
        raise CompatError(
            "The graph changes too, and there is no directory to write it to.",
            facts={
                "graph": graph.folder,
                "changes": ", ".join(f"{stem}.pt" for stem in differing),
            },
            remedy="Pass a new directory with --graph-out.",
        )
    else:
        result.notes.append(f"The graph is unchanged: {graph.folder}.")
