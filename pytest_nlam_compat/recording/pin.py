"""Pin a user's own checkpoint: a private reference of the neural-lam in use."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from safetensors.torch import save
from torch import Tensor

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.probe import probe, select_adapter
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.reading import saved_run_from_checkpoint
from pytest_nlam_compat.migrations.saved_run import SavedRun, loaded
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.recording import extract, pinned_run
from pytest_nlam_compat.recording.crop import crop
from pytest_nlam_compat.recording.redaction import (
    graph_name,
    redact,
    redacted,
)
from pytest_nlam_compat.recording.release import provenance
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.pins import (
    ARCHIVE,
    REGISTRY,
    WEIGHTS,
    PinnedReference,
)
from pytest_nlam_compat.references.reference import Dataset, write_graph
from pytest_nlam_compat.references.release_archive import (
    to_json,
    write_archive,
)
from pytest_nlam_compat.under_test.large_reference import in_front_of
from pytest_nlam_compat.upgrade.check import (
    approved,
    args_of,
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

AR_STEPS = 3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+-]{0,99}")
_HEADER = """\
# Pinned references of this folder, by nlam-compat pin. No line ever changes: a
# reference stays as it was pinned.
"""


@dataclass(frozen=True)
class PinRequest:
    """What is pinned: the checkpoint, what it was trained with, and where to.

    `graph` is by default that of the datastore, `name` that of the file; `crop`
    is the side of the part of the grid that is pinned, 0 for all of it.
    """

    file: Path
    config: Path
    folder: Path
    graph: Path | None = None
    name: str = ""
    samples: int = 1
    crop: int = 0

    @property
    def case(self) -> str:
        """Its name in the matrix; CompatError if it can't be one."""
        name = self.name or self.file.stem
        if not _NAME.fullmatch(name):
            raise CompatError(
                "This can't be the name of a pinned reference.",
                facts={
                    "name": name,
                    "expected": "letters, digits, and _ . = + - between them",
                },
                remedy="Pass another --name.",
            )
        return name


@dataclass(frozen=True)
class Pinned:
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
    if request.samples < 1 or request.crop < 0:
        raise CompatError(
            "There is nothing to pin.",
            facts={"samples": request.samples, "crop": request.crop},
            remedy="Pass one sample or more, and part of the grid or all.",
        )
    with read_run(request.file, STAMP) as checkpoint:
        found = approved(checkpoint, (), (), None)
        adapter = _installed(found, request.file)
        archive, weights = _targets(request, adapter.current.release)
        run, left_out = _readable_run(checkpoint)
        # In place, so that a path among the arguments needs no class.
        data, dropped = redact(checkpoint.data)
        with neural_lam_errors("load the dataset"):
            config, datastore = load_datastore(request.config)
        args = args_of(checkpoint)
        past, future = (
            int(getattr(args, f"num_{when}_forcing_steps", 1))
            for when in ("past", "future")
        )
        # One more than needed: up to 0.5 a dataset is one sample shorter.
        length = max(2, past) + AR_STEPS + future + request.samples
        with neural_lam_errors("read the dataset"):
            dataset = extract.extract(datastore, request.samples, length)
        extract.refuse_other_variables(
            run,
            dataset,
            1 + past + future,
            output_std=bool(getattr(args, "output_std", False)),
        )
        home = Path(datastore.root_path) / "graph" / str(found["graph"])
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            graph, dataset, kept = _copy_graph(
                request.graph or home,
                run,
                dataset,
                request.crop,
                folder,
                checkpoint,
            )
            _announce(say, checkpoint, dataset, request.samples, folder)
            # Both refuse a file that has come to be there, and leave it alone.
            write_checkpoint(data, weights, keep_device=False)
            with _removed_on_failure(weights):
                description = {
                    "case": request.case,
                    "model": found["model"],
                    "predictor": None,
                    "graph": graph,
                    "features": dataset.names,
                    "step_hours": dataset.step_hours,
                    "start": dataset.start,
                    "samples": request.samples,
                    "ar_steps": AR_STEPS,
                    "optimizer_steps": data.get("global_step"),
                    "left_out": left_out,
                }
                (folder / "config.yaml").write_bytes(
                    # Every YAML reader reads JSON.
                    to_json(redacted(plain_config(config)))
                )
                draft = _Draft(
                    adapter.current.release,
                    weights,
                    folder,
                    description,
                    dataset,
                )
                subject = in_front_of(
                    adapter, draft, folder / "run", torch.device("cpu")
                )
                with neural_lam_errors("run the file"), _about_the_file():
                    pinned_run.compute(subject, datastore, kept, say)
                _write(archive, request.case, draft)
                with _removed_on_failure(archive):
                    _register(archive, weights)
    return Pinned(archive, weights, draft.description, tuple(dropped))


class _Draft(PinnedReference):
    """A reference that is being made: its files are in a folder."""

    def __init__(
        self,
        release: Version,
        weights: Path,
        folder: Path,
        description: dict[str, Any],
        dataset: Dataset,
    ) -> None:
        self._release = release
        self.weights = weights
        self.folder = folder
        self.case = description["case"]
        # As they will be read again: tuples are lists in JSON.
        self.description = json.loads(to_json(description))
        self.tensors = {
            f"dataset/{name}": torch.from_numpy(array)
            for name, array in dataset.arrays.items()
        }

    @property
    def release(self) -> Version:
        """Release that is installed."""
        return self._release

    def write(self, into: Path) -> Path:
        """Return its checkpoint; all files are in one folder already."""
        link = self.folder / "checkpoint.ckpt"
        if not link.exists():
            link.symlink_to(self.weights.resolve())
        return link


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
    name = f"{release}-{request.case}"
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
    """Return the run, and why its training can't be pinned, if it can't.

    An optimizer that is not the one of neural-lam is left out of the file.
    """
    left_out: dict[str, str] = {}
    try:
        run = saved_run_from_checkpoint(checkpoint, lazy=True)
    except CompatError as error:
        if not checkpoint.data.get("optimizer_states"):
            raise
        checkpoint.data["optimizer_states"] = []
        run = saved_run_from_checkpoint(checkpoint, lazy=True)
        left_out["resume"] = error.what
    if not run.optimizers:
        left_out.setdefault("resume", "The file holds no optimizer.")
    return run, left_out


def _copy_graph(
    graph: Path,
    run: SavedRun,
    dataset: Dataset,
    size: int,
    into: Path,
    checkpoint: Checkpoint,
) -> tuple[str, Dataset, Tensor | None]:
    """Write the graph into a folder, and return its name.

    With the dataset, and which of its nodes are kept if both are cropped.
    """
    kept = None
    args = checkpoint.data["hyper_parameters"]["args"].attributes
    name = graph_name(str(args["graph"]))
    known = checkpoint.data.get(STAMP, {}).get("stamp", {})
    with open_graph(graph) as opened:
        refuse_mismatch(
            opened, replace(run, grid_shape=dataset.grid_shape), known, None
        )
        refuse_other_graph(graph, fingerprint(opened.tensors), checkpoint)
        tensors = {
            stem: [loaded(t) for t in each]
            if isinstance(each, list)
            else loaded(each)
            for stem, each in opened.tensors.items()
        }
        if size:
            dataset, tensors, kept = crop(dataset, tensors, size)
        write_graph(tensors, opened.format, into / "graph" / name)
    return name, dataset, kept


def _announce(
    say: Callable[[str], None],
    checkpoint: Checkpoint,
    dataset: Dataset,
    samples: int,
    graph: Path,
) -> None:
    """Say how much will be written."""
    weights = checkpoint.path.stat().st_size
    arrays = sum(array.nbytes for array in dataset.arrays.values())
    state = dataset.arrays["state"].itemsize * dataset.arrays["state"][0].size
    arrays += 3 * samples * AR_STEPS * state + sum(
        path.stat().st_size for path in graph.rglob("*.pt")
    )
    say(
        f"Writes at most {_megabytes(weights)} of weights and about "
        f"{_megabytes(arrays)} of data."
    )


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    """Remove a file of ours if the block raises."""
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise


@contextmanager
def _about_the_file() -> Iterator[None]:
    """Say of what neural-lam raises that the file may not belong to the rest.

    Elsewhere it is neural-lam that has changed.
    """
    try:
        yield
    except CompatError as error:
        if error.__cause__ is None:
            raise
        raise CompatError(
            f"neural-lam can't run the file: {error.what}",
            facts=error.facts,
            remedy="Check that graph and dataset are those that it was trained "
            "with, and that this is the neural-lam that it runs with today.",
        ) from error


def _write(path: Path, case: str, draft: _Draft) -> None:
    """Write the archive."""
    graph = draft.graph_folder(draft.folder)
    members = {
        "case.json": to_json(draft.description),
        "config.yaml": (draft.folder / "config.yaml").read_bytes(),
        "tensors.safetensors": save(_separate(draft.tensors)),
        **{
            f"graph/{draft.graph_name}/{file.name}": file.read_bytes()
            for file in sorted(graph.iterdir())
        },
    }
    index = {
        "release": str(draft.release),
        "void": {},
        "provenance": provenance("pin"),
    }
    part = path.with_suffix(f".{os.urandom(4).hex()}.part")
    with _removed_on_failure(part):
        write_archive(part, index, {case: members})
        if path.exists():
            raise CompatError(
                f"{path.name} has been pinned meanwhile.",
                facts={"file": path},
                remedy="Nothing was changed. Pass another --name.",
            )
        part.rename(path)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors: safetensors takes none that share memory."""
    return {n: t.detach().clone().contiguous() for n, t in tensors.items()}


def _register(*files: Path) -> None:
    hashes = {file.name: registry.sha256_of(file) for file in files}
    listing = files[0].with_name(REGISTRY)
    if not listing.exists():
        listing.write_text(_HEADER, encoding="utf-8", newline="\n")
    registry.append(listing, hashes)
