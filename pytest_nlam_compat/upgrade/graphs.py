"""Graph directories: read them lazily, compare them, and write them whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.drafts import is_own, reserved, unreserved
from pytest_nlam_compat.files.recognition import open_regular
from pytest_nlam_compat.migrations.reading import METAINFO, graph_format
from pytest_nlam_compat.migrations.releases import PREFIX
from pytest_nlam_compat.migrations.saved_run import (
    Lazy,
    SavedRun,
    dtype_name,
    loaded,
    values,
)
from pytest_nlam_compat.upgrade.output import copy_checkpoint

MACOS = "._"
"""What macOS writes beside each file on other disks begins with this."""

# What has features -> the embedders of these, flat or of the lowest level.
_EMBEDDERS = {
    "g2m": ("g2m_embedder",),
    "m2g": ("m2g_embedder",),
    "m2m": ("m2m_embedder", "mesh_same_embedders.0", "m2m_embedders.0"),
    "mesh": ("mesh_embedder", "mesh_embedders.0"),
    "mesh_up": ("mesh_up_embedders.0",),
    "mesh_down": ("mesh_down_embedders.0",),
}


class GraphDirectory(NamedTuple):
    """An open graph directory."""

    folder: Path
    archives: dict[str, Archive]  # by file stem
    tensors: dict[str, Any]  # a TensorRef, or a list of them, by file stem
    format: str  # by `graph_format`


@contextlib.contextmanager
def open_graph(folder: Path) -> Iterator[GraphDirectory]:
    """Open a graph directory, to be used and written inside the with block.

    Any other directory, and a damaged file, is refused with a CompatError.
    """
    files = sorted(
        file for file in folder.glob("*.pt") if not file.name.startswith(MACOS)
    )
    if not files:
        raise CompatError(
            "There is no graph in the directory.",
            facts={"directory": folder, "expected": "g2m_edge_index.pt, ..."},
            remedy="Pass the directory that create_graph wrote, such as "
            "graph/multiscale.",
        )
    with contextlib.ExitStack() as opened:
        found = {
            file.stem: opened.enter_context(read_checkpoint(file))
            for file in files
        }
        archives = {stem: each.archive for stem, each in found.items()}
        tensors = {stem: _tensors(each) for stem, each in found.items()}
        yield GraphDirectory(folder, archives, tensors, graph_format(folder))


def _tensors(opened: Checkpoint) -> Any:
    if not all(isinstance(part, TensorRef) for part in _parts(opened.data)):
        raise CompatError(
            f"{opened.path.name} is not a graph file: it holds more than "
            "tensors.",
            facts={"file": opened.path},
            remedy="Pass the directory that create_graph wrote.",
        )
    return opened.data


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


@contextlib.contextmanager
def new_graph(
    graph: GraphDirectory,
    tensors: Mapping[str, Any],
    target: Path,
    is_used: Callable[[], bool],
) -> Iterator[None]:
    """Write a graph directory with new tensors, whole or not at all.

    Files that did not change are copied from the original. The target may
    exist only with the same content. If the with block fails, a new directory
    is removed again unless it `is_used`; until then others wait for it.
    """

    def remove_unused(failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None and is_own(target) and not is_used():
            import shutil

            shutil.rmtree(target, ignore_errors=True)

    differing = changed(graph, tensors)
    # A path such as "." has no name.
    target = Path(os.path.realpath(target))
    if target == target.parent:
        raise CompatError(
            "The graph can't become the root of the file system.",
            facts={"directory": target},
            remedy="Choose another --graph-out.",
        )
    with contextlib.ExitStack() as held:
        try:
            part = held.enter_context(reserved(target, is_folder=True))
            held.push(remove_unused)
            for stem in graph.archives.keys() - differing:
                copy_checkpoint(graph.archives[stem], part / f"{stem}.pt")
            for stem in differing:
                write_checkpoint(tensors[stem], part / f"{stem}.pt")
            _copy_metainfo(graph.folder / METAINFO, part / METAINFO)
            _place_folder(part, target)
        except OSError as error:
            raise CompatError(
                "The graph directory can't be written.",
                facts={"directory": target, "cause": error.strerror or error},
                remedy="Nothing was changed. Free some space or fix the "
                "permissions, and try again.",
            ) from error
        yield


def _place_folder(part: Path, target: Path) -> None:
    """Give a draft its name, or complete what has it."""
    try:
        if not target.exists():
            part.rename(target)
            return
    except OSError:
        if not target.exists():
            raise
    # An upgrade that has not ended may still remove it.
    with unreserved(target):
        if target.exists():
            _refuse_other_content(part, target)
            # It may be somebody's current folder, so it stays the same one.
            for file in part.iterdir():
                if not (target / file.name).exists():
                    file.rename(target / file.name)
            return
    _place_folder(part, target)


def _copy_metainfo(source: Path, copy: Path) -> None:
    if source.is_symlink():
        raise CompatError(
            f"{METAINFO} is a link: what is behind it would be copied into the "
            "output.",
            facts={"link": source},
            remedy="Replace it by the file, if it is one of this graph.",
        )
    if source.exists():
        import shutil

        with open_regular(source) as old, copy.open("xb") as new:
            shutil.copyfileobj(old, new)


def _refuse_other_content(part: Path, target: Path) -> None:
    """Refuse a target with anything but files, or all, of what is written.

    Some are there after a process was killed.
    """
    import filecmp

    is_same = False
    if target.is_dir():
        names, there = set(os.listdir(part)), set(os.listdir(target))
        same, _, _ = filecmp.cmpfiles(part, target, there, shallow=False)
        is_part = there <= names or names <= there
        is_same = is_part and set(same) == there & names
    if not is_same:
        raise CompatError(
            "The output exists, and is not a directory with this graph.",
            facts={"directory": target},
            remedy="Choose another --graph-out.",
        )


def changed(graph: GraphDirectory, tensors: Mapping[str, Any]) -> list[str]:
    """List the stems of the files whose tensors differ from a graph's."""
    return [
        stem
        for stem, new in tensors.items()
        if not _same(_parts(graph.tensors[stem]), _parts(new))
    ]


def _same(olds: list[Lazy], news: list[Lazy]) -> bool:
    return len(olds) == len(news) and all(
        old is new
        or (
            _layout(old) == _layout(new)
            and bool((values(old) == values(new)).all())
        )
        for old, new in zip(olds, news, strict=True)
    )


def _layout(tensor: Lazy) -> tuple[str, tuple[int, ...]]:
    return dtype_name(tensor), tuple(tensor.shape)


def fingerprint(tensors: Mapping[str, Any]) -> str:
    """Return a SHA-256 of the tensors, however their files were written."""
    import hashlib

    import torch

    digest = hashlib.sha256()
    for stem, content in sorted(tensors.items()):
        for level, tensor in enumerate(_parts(content)):
            dtype, shape = _layout(tensor)
            digest.update(f"{stem} {level} {dtype} {shape}\n".encode())
            flat = loaded(tensor).detach().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def refuse_mismatch(
    graph: GraphDirectory,
    run: SavedRun,
    stamp: Mapping[str, Any],
    name: str | None,
) -> None:
    """Refuse a graph that a run can't have been trained with.

    Its name, its numbers of levels, features, edges and nodes must fit each
    other, the weights and the grid, and its fingerprint that in the stamp.
    `name` is that in the run's arguments, None if it need not be the same.
    """
    for compared, found, expected in _comparisons(graph, run, stamp, name):
        if found != expected:
            remedy = "Pass the graph directory that the run was trained with."
            if compared == "name":
                remedy += (
                    " If this is the one, under another name, add "
                    "--graph-name-differs."
                )
            raise CompatError(
                "The graph does not belong to the checkpoint.",
                facts={
                    "directory": graph.folder,
                    "compared": compared,
                    "found": found,
                    "expected": expected,
                },
                remedy=remedy,
            )


def _comparisons(
    graph: GraphDirectory,
    run: SavedRun,
    stamp: Mapping[str, Any],
    name: str | None,
) -> Iterator[tuple[str, object, object]]:
    """Compare what belongs together; each relies on those before it."""
    tensors = graph.tensors
    # A flat model has one embedder, mesh_embedder, and one level.
    levels = sum(map(_embeds_level, run.state_dict)) or 1
    parts: dict[str, list[Any]] = {}
    for stem, count in _files(levels).items():
        content, one = tensors.get(stem), count is None
        if not isinstance(content, TensorRef if one else list):
            kind = "single tensor" if one else "list"
            yield "files", f"no {kind} in {stem}.pt", "one"
        parts[stem] = _parts(content)
        what = f"parts of {stem}.pt"
        if stem == "mesh_features":
            what = "mesh levels"
        yield what, len(parts[stem]), count or 1
    for kind, embedders in _EMBEDDERS.items():
        features = parts.get(f"{kind}_features", [])
        weight = _weight(run, embedders)
        for each in features if weight is not None else ():
            yield (
                f"features in {kind}_features.pt and its embedder",
                each.shape[-1] if each.shape else None,
                weight.shape[-1],
            )
        edges = parts.get(f"{kind}_edge_index", [])
        for each, index in zip(features, edges, strict=False):
            count = index.shape[-1] if index.shape else 0
            if kind in ("g2m", "m2g"):
                count = max(count, 1)
            what = f"type and shape of {kind}_edge_index.pt"
            yield what, _layout(index), ("int64", (2, count))
            yield (
                f"edges in {kind}_features.pt and {kind}_edge_index.pt",
                each.shape[0] if each.shape else None,
                count,
            )
    if name is not None:
        yield "name", graph.folder.resolve().name, name
    if run.grid_shape is not None:
        nodes = values(tensors["m2g_edge_index"])[1]
        yield (
            "grid nodes in m2g_edge_index.pt and the dataset",
            int(nodes.max()) - int(nodes.min()) + 1,
            run.grid_shape[0] * run.grid_shape[1],
        )
    expected = (stamp.get("graph") or {}).get("fingerprint")
    if expected is not None:
        yield "fingerprint in the stamp", fingerprint(tensors), expected


def _files(levels: int) -> dict[str, int | None]:
    """Return the files of a graph, each with its parts; None: a tensor."""
    counts: dict[str, int | None] = {"g2m": None, "m2g": None, "m2m": levels}
    if levels > 1:
        counts |= {"mesh_up": levels - 1, "mesh_down": levels - 1}
    return {
        "mesh_features": levels,
        **{f"{edges}_features": n for edges, n in counts.items()},
        **{f"{edges}_edge_index": n for edges, n in counts.items()},
    }


def _embeds_level(name: str) -> bool:
    module, found, rest = name.rpartition("mesh_embedders.")
    is_embedder = bool(found) and module in ("", PREFIX)
    return is_embedder and rest.endswith(".0.weight")


def _weight(run: SavedRun, embedders: tuple[str, ...]) -> Any:
    names = [f"{p}{each}.0.weight" for each in embedders for p in ("", PREFIX)]
    return next((run.state_dict[n] for n in names if n in run.state_dict), None)
