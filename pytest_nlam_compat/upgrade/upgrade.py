"""Upgrade a checkpoint file and its graph directory, or a whole folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.errors import CompatError, counted, join_some
from pytest_nlam_compat.files.recognition import open_regular
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.upgrade.graphs import (
    MACOS,
    GraphDirectory,
    changed,
    new_graph,
    open_graph,
)
from pytest_nlam_compat.upgrade.inspection import report, run_report
from pytest_nlam_compat.upgrade.next_steps import inner_path, run_files
from pytest_nlam_compat.upgrade.output import UPGRADED, OutputFile
from pytest_nlam_compat.upgrade.plan import (
    graph_name,
    migrate,
    plan_upgrade,
)
from pytest_nlam_compat.upgrade.request import UpgradeRequest, UpgradeResult
from pytest_nlam_compat.upgrade.stamping import record_in
from pytest_nlam_compat.upgrade.trust import refuse_malformed, refuse_unknown
from pytest_nlam_compat.upgrade.weights import read_run

_LONGEST_FACT = 60

# What torch and DeepSpeed leave in a folder that is a checkpoint.
_DISTRIBUTED = (".metadata", "zero_to_fp32.py")


def upgrade(output: OutputFile, request: UpgradeRequest) -> UpgradeResult:
    """Upgrade a checkpoint file; after a CompatError it is unchanged."""
    with read_run(output.file) as checkpoint:
        result = _upgrade(checkpoint, output, request)
        if not request.dry_run:
            graph = result.graph_out or request.graph
            found = run_report(checkpoint.data)
            # What belongs to it is near the old file.
            near = run_files(result.file, found, graph, request.config)
            file = result.output or result.file
            result.next = near._replace(file=file).check()
    return result


def _upgrade(
    checkpoint: Checkpoint, output: OutputFile, request: UpgradeRequest
) -> UpgradeResult:
    """Upgrade an open checkpoint, which has the new tree then."""
    with contextlib.ExitStack() as opened:
        refuse_unknown(checkpoint, request.allowed)
        if request.verify:
            checkpoint.archive.verify()
        request, graph = _find_graph(checkpoint, request), None
        if request.graph is not None:
            graph = opened.enter_context(open_graph(request.graph))
        plan = plan_upgrade(checkpoint, request, graph)
        result = UpgradeResult(
            file=output.file,
            origin=plan.origin,
            target=request.target,
            evidence=plan.evidence,
            steps=[step.id for step in plan.steps],
            repository=plan.repository,
            dry_run=request.dry_run,
            is_changed=plan.is_changed,
        )
        is_copied = output.is_named or request.graph_out is not None
        if not plan.is_changed and not is_copied:
            return result  # without an output
        run = plan.run
        if plan.is_changed:
            checkpoint.data, run, result.notes = migrate(
                checkpoint, plan, request
            )
        if plan.is_changed or output.is_named:
            output.refuse_existing()
            result.output = output.path
        if graph is not None:
            result.graph_out = out = request.graph_out
            if out is None:
                _refuse_lost_changes(graph, run, result)
            elif not request.dry_run:
                opened.enter_context(
                    new_graph(graph, run.graph, out, lambda: output.placed)
                )
        if result.output is not None and not request.dry_run:
            result.backup = output.write(
                checkpoint,
                keep_device=request.keep_device,
                is_changed=plan.is_changed,
            )
    return result


def _find_graph(
    checkpoint: Checkpoint, request: UpgradeRequest
) -> UpgradeRequest:
    """Find the graph of a run by its name, if there is a folder of graphs."""
    if request.graph_root is None:
        return request
    found = graph_name(checkpoint.data)
    name = inner_path(found)
    if name is None:
        raise CompatError(
            "The checkpoint does not name its graph.",
            facts={"args.graph": printable(str(found))},
            remedy="Pass its directory with --graph instead of --graph-root.",
        )
    out = request.graph_out
    return request._replace(
        graph=request.graph_root / name,
        graph_out=None if out is None else out / name,
    )


def _refuse_lost_changes(
    graph: GraphDirectory, run: SavedRun, result: UpgradeResult
) -> None:
    """Refuse changes of the graph that can't be written; note that none is."""
    if differing := changed(graph, run.graph):
        raise CompatError(
            "The graph changes too, and there is no directory to write it to.",
            facts={
                "graph": graph.folder,
                "changes": ", ".join(f"{stem}.pt" for stem in differing),
            },
            remedy="Pass a new directory with --graph-out.",
        )
    result.notes.append(f"The graph is unchanged: {graph.folder}.")


class FolderResult(NamedTuple):
    """The result, or the error, of each file of a folder."""

    folder: Path
    results: dict[Path, UpgradeResult | CompatError]

    @property
    def complete(self) -> bool:
        """Whether no file was refused."""
        results = self.results.values()
        return not any(isinstance(each, CompatError) for each in results)

    def plain(self) -> dict[str, object]:
        """Return it as plain data, for JSON."""
        return {
            "files": [
                {"file": str(file), **result.plain()}
                for file, result in self.results.items()
            ]
        }

    def lines(self) -> Iterator[str]:
        """Write an aligned table, and a line for each kind of refusal."""
        rows = [("file", "from", "result")]
        kinds: dict[tuple[str, str], list[str]] = {}
        for file, result in self.results.items():
            name, origin = str(file.relative_to(self.folder)), "?"
            if isinstance(result, CompatError):
                kind = _kind(result, file)
                kinds.setdefault(kind, []).append(name)
                what = f"refused ({[*kinds].index(kind) + 1})"
            else:
                origin, what = result.origin, _summary(result)
            rows.append((name, origin, what))
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        yield from (f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows)
        for number, ((what, remedy), names) in enumerate(kinds.items(), 1):
            yield f"({number}) {join_some(names, 3)}: {what} {remedy}"


def _kind(error: CompatError, file: Path) -> tuple[str, str]:
    """Return what an error says, without what is of this file only."""
    facts = "; ".join(
        f"{label}: {fact}"
        for label, fact in error.facts.items()
        if str(file.parent) not in str(fact) and len(str(fact)) <= _LONGEST_FACT
    )
    name = printable(file.name)
    what = error.what
    if what.startswith(f"{name} "):
        what = f"The file{what.removeprefix(name)}"
    what = what.replace(name, "OLD")  # as in upgraded_OLD
    remedy = " ".join(error.remedy.split())
    return f"{what} ({facts})" if facts else what, remedy


def upgrade_folder(
    folder: Path, request: UpgradeRequest, say: Callable[[str], None]
) -> FolderResult:
    """Upgrade each ``.ckpt`` below a folder.

    Links are left out, and so are the outputs of an earlier upgrade: a file
    whose output exists counts as done. A directory named ``.ckpt`` is refused,
    because it is a distributed checkpoint. `say` receives what is done now.
    A folder without checkpoints is refused with a CompatError.
    """
    found = set(_checkpoints(folder))
    files = sorted(found - {_output(file) for file in found})
    if not files:
        if folder.suffix == ".ckpt" or any(
            (folder / name).is_file() for name in _DISTRIBUTED
        ):
            # Raises an error that says what it is, and what to do with it.
            open_regular(folder)
        raise CompatError(
            "There are no checkpoints below the folder.",
            facts={"folder": folder, "expected": "files named *.ckpt"},
            remedy="Pass another folder, or a file.",
        )
    results: dict[Path, UpgradeResult | CompatError] = {}
    for number, file in enumerate(files, 1):
        say(f"Upgrading {number} of {len(files)}: {printable(file.name)}")
        try:
            output = OutputFile(file, None, UPGRADED, request.in_place)
            earlier = None
            if _output(file) in found and not request.in_place:
                earlier = _earlier(file, request)
            results[file] = earlier or upgrade(output, request)
        except CompatError as error:
            results[file] = error
    return FolderResult(folder, results)


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Yield what is named ``.ckpt`` below a folder; an OSError if unreadable.

    ``Path.rglob`` leaves out what it may not read.
    """
    for each in sorted(folder.iterdir()):
        if each.is_symlink() or each.name.startswith(MACOS):
            continue
        if each.suffix == ".ckpt" and (each.is_file() or each.is_dir()):
            yield each
        elif each.is_dir():
            yield from _checkpoints(each)


def _output(file: Path) -> Path:
    return file.with_name(f"{UPGRADED}{file.name}")


def _earlier(file: Path, request: UpgradeRequest) -> UpgradeResult | None:
    """Return the result of an earlier upgrade, if the output is one."""
    output = _output(file)
    needed: set[str] = set()
    try:
        with read_checkpoint(output) as checkpoint:
            refuse_malformed(checkpoint)
            record = record_in(checkpoint.data)
        if request.own:
            with read_checkpoint(file) as checkpoint:
                steps = report(checkpoint, request.own)["migrations"] or ()
            needed = {step["id"] for step in steps}
            needed &= {step.id for step in request.own}
    except CompatError:
        return None  # It will be refused as an output that exists.
    lacks_own = needed - {*record.get("migrations", ())}
    if record.get("layout") != request.target or lacks_own:
        return None
    return UpgradeResult(
        file=file,
        origin=str(record.get("origin")),
        target=request.target,
        before=output,
    )


def _summary(result: UpgradeResult) -> str:
    if result.before is not None:
        return f"was converted before: {result.before.name}"
    if result.output is None:
        return f"has the layout of {result.layout} already"
    if not result.steps:
        verb = "would be rewritten" if result.dry_run else "was rewritten"
        return f"{verb} in the layout of {result.layout}: {result.output.name}"
    steps = counted(len(result.steps), "step")
    verb = "would be converted" if result.dry_run else "was converted"
    return f"{verb} to {result.layout} in {steps}: {result.output.name}"
