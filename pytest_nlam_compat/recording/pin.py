"""Pin a user's own checkpoint: a private reference of the neural-lam in use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import Version
from torch import Tensor

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.model_arguments import revive
from pytest_nlam_compat.adapters.probe import probe, select_adapter
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.drafts import reserved
from pytest_nlam_compat.migrations.reading import saved_run_from_checkpoint
from pytest_nlam_compat.migrations.saved_run import SavedRun, loaded
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.recording import extract
from pytest_nlam_compat.recording.cases import Case
from pytest_nlam_compat.recording.pinned_run import compute
from pytest_nlam_compat.recording.redaction import redact, redacted
from pytest_nlam_compat.recording.release_recorder import provenance
from pytest_nlam_compat.recording.workspace import Workspace, series_length
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.pins import ARCHIVE, REGISTRY, WEIGHTS
from pytest_nlam_compat.references.reference import write_graph
from pytest_nlam_compat.references.release_archive import (
    to_json,
    write_archive,
)
from pytest_nlam_compat.upgrade.check import (
    approved,
    neural_lam_errors,
    refuse_other_graph,
)
from pytest_nlam_compat.upgrade.configuration import plain_config
from pytest_nlam_compat.upgrade.dataset_facts import load_datastore
from pytest_nlam_compat.upgrade.graphs import (
    fingerprint,
    open_graph,
    refuse_mismatch,
)
from pytest_nlam_compat.upgrade.weights import read_run

# Of the file: weights, and moments of twice their size.
LARGE_BYTES = 200_000_000
_TOO_LARGE = (
    "The model is large: a training step in float64 takes four times its size "
    "in memory."
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+-]{0,99}")
_HEADER = """\
# Pinned references of this folder, by nlam-compat pin. No line ever changes: a
# reference stays as it was pinned.
"""


@dataclass(frozen=True)
class PinRequest:
    """What is pinned: the checkpoint, what it was trained with, and where to.

    `graph` is by default that of the datastore; `crop` is the side of the part
    of the grid that is pinned, 0 for all of it.

    Raises
    ------
    CompatError
        There would be nothing in it, or it can't have this name.
    """

    file: Path
    config: Path
    folder: Path
    graph: Path | None
    name: str  # in the matrix
    samples: int = 1
    crop: int = 0

    def __post_init__(self) -> None:
        """Refuse what can't be pinned."""
        if self.samples < 1 or self.crop < 0:
            raise CompatError(
                "There is nothing to pin.",
                facts={"samples": self.samples, "crop": self.crop},
                remedy="Pass one sample or more, and part of the grid or all.",
            )
        if not _NAME.fullmatch(self.name):
            raise CompatError(
                "This can't be the name of a pinned reference.",
                facts={
                    "name": self.name,
                    "expected": "letters, digits, and _ . = + - between them",
                },
                remedy="Pass another --name.",
            )


class Pinned(NamedTuple):
    """What was written, and what it can show."""

    archive: Path
    weights: Path
    description: Mapping[str, Any]
    dropped: tuple[str, ...]


def pin(request: PinRequest, say: Callable[[str], None]) -> Pinned:
    """Make a private reference with the neural-lam that is installed.

    `say` receives what will be written and how long it will take. Nothing that
    exists is changed; the registry of the folder receives two lines.

    Raises
    ------
    CompatError
        The file is not one of the installed release, or neural-lam can't run
        it on this graph and dataset; or it can't be written.
    """
    with read_run(request.file) as checkpoint:
        found = approved(checkpoint, (), (), None)
        adapter = _installed(found, request.file)
        archive, weights = _targets(request, adapter.current.release)
        run, left_out = _readable_run(checkpoint)
        # In place, so that a path among the arguments needs no class.
        data, dropped = redact(checkpoint.data)
        hyper_parameters = revive(data["hyper_parameters"])
        args = hyper_parameters["args"]
        with neural_lam_errors("read the dataset"):
            config, datastore = load_datastore(request.config)
            length = series_length(args, request.samples)
            dataset = extract.extract(datastore, request.samples, length)
        home = Path(datastore.root_path) / "graph" / str(found["graph"])
        with reserved(archive, is_folder=True) as folder:
            case = Case(
                name=request.name,
                model=found["model"],
                graph=args.graph,
                samples=request.samples,
            )
            work = Workspace(case, adapter, dataset, hyper_parameters, folder)
            kept = _copy_graph(
                request.graph or home, run, checkpoint, work, request.crop
            )
            arrays = sum(each.nbytes for each in work.dataset.arrays.values())
            arrays += sum(path.stat().st_size for path in work.graph.iterdir())
            say(
                f"Writes at most {_megabytes(request.file.stat().st_size)} of "
                f"weights and about {_megabytes(2 * arrays)} of data."
            )
            write_checkpoint(data, work.checkpoint, keep_device=False)
            # Every YAML reader reads JSON.
            text = to_json(redacted(plain_config(config)))
            (work.folder / "config.yaml").write_bytes(text)
            with neural_lam_errors("run the file"):
                members = compute(work, datastore, kept, left_out, say)
            index = {
                "release": str(adapter.current.release),
                "void": {},
                "provenance": provenance("pin"),
            }
            draft = work.folder / archive.name
            write_archive(draft, index, {request.name: members})
            _targets(request, adapter.current.release)
            _publish({draft: archive, work.checkpoint: weights})
    description = json.loads(members["case.json"])
    return Pinned(archive, weights, description, tuple(dropped))


def _installed(found: Mapping[str, Any], file: Path) -> Adapter:
    """Return the adapter of the installed neural-lam, that of the file."""
    current, release = probe(), Version(found["origin"]["release"])
    facts = {
        "file": file,
        "layout of the file": release,
        "installed": f"neural-lam {current.release}, {current.path}",
    }
    if release != current.release:
        raise CompatError(
            f"{file.name} is not a checkpoint of the installed neural-lam.",
            facts=facts,
            remedy="Pin it where it runs today: with the neural-lam that it is "
            f"of, {release}. Then verify it with the other one.",
        )
    adapter = select_adapter(current)
    defect = adapter.cannot_run(str(found["model"]))
    if defect:
        raise CompatError(
            f"The installed neural-lam can't run {file.name}.",
            facts=facts | {"cause": defect},
            remedy="There is nothing to pin: it has no outputs.",
        )
    return adapter


def _targets(request: PinRequest, release: Version) -> tuple[Path, Path]:
    """Return the files to write; refuse any that exists."""
    name = f"{release}-{request.name}"
    files = [request.folder / f"{name}{end}" for end in (ARCHIVE, WEIGHTS)]
    listing = request.folder / REGISTRY
    listed = registry.read_files(listing) if listing.exists() else {}
    for file in files:
        if file.exists() or file.name in listed:
            raise CompatError(
                f"{file.name} is pinned already, and never overwritten.",
                facts={"file": file},
                remedy="Pass another --name. If this one is not needed any "
                "more, delete its files and its lines in "
                f"{REGISTRY} by hand.",
            )
    # Before anything is computed.
    request.folder.mkdir(parents=True, exist_ok=True)
    return files[0], files[1]


def _readable_run(checkpoint: Checkpoint) -> tuple[SavedRun, dict[str, str]]:
    """Return the run, and which part of its training can't be pinned and why.

    An optimizer of which no step is pinned is left out of the file.
    """
    left_out: dict[str, str] = {}
    data = checkpoint.data
    if checkpoint.path.stat().st_size > LARGE_BYTES:
        left_out = dict.fromkeys(("loss", "resume"), _TOO_LARGE)
        data["optimizer_states"] = []
    try:
        run = saved_run_from_checkpoint(checkpoint.data, lazy=True)
    except CompatError as error:
        if not data.get("optimizer_states"):
            raise
        data["optimizer_states"] = []
        run = saved_run_from_checkpoint(checkpoint.data, lazy=True)
        left_out["resume"] = error.what
    if not run.optimizers:
        left_out.setdefault("resume", "The file holds no optimizer.")
    return run, left_out


def _copy_graph(
    folder: Path,
    run: SavedRun,
    checkpoint: Checkpoint,
    work: Workspace,
    size: int,
) -> Tensor | None:
    """Write the graph into a workspace; return which nodes a crop keeps."""
    kept = None
    known = checkpoint.data.get(STAMP, {}).get("stamp", {})
    with open_graph(folder) as graph:
        run = replace(run, grid_shape=work.dataset.grid_shape)
        refuse_mismatch(graph, run, known, None)
        refuse_other_graph(folder, fingerprint(graph.tensors), checkpoint)
        whole = SavedRun({}, {}, graph=graph.tensors)
        tensors: dict[str, Any] = whole.map_tensors(loaded).graph
        if size:
            work.dataset, tensors, kept = extract.crop(
                work.dataset, tensors, size
            )
        write_graph(tensors, graph.format, work.graph)
    work.widen_graph()
    return kept


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _publish(files: Mapping[Path, Path]) -> None:
    """Move drafts to where they belong, and list them: all or nothing."""
    hashes = {new.name: registry.sha256_of(old) for old, new in files.items()}
    listing = next(iter(files.values())).with_name(REGISTRY)
    try:
        for old, new in files.items():
            old.rename(new)
        if not listing.exists():
            listing.write_text(_HEADER, encoding="utf-8", newline="\n")
        registry.append(listing, hashes)
    except BaseException:
        if not listing.exists() or not (
            hashes.keys() <= registry.read_files(listing).keys()
        ):
            for new in files.values():
                new.unlink(missing_ok=True)
        raise
