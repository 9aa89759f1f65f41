"""Graph directories, whose tensors are read only where they are needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.values import (
    Lazy,
    dtype_name,
    loaded,
    values,
)

METAINFO = "metainfo.yaml"
LEGACY = "legacy"
_LONGEST = 4096


@dataclass(frozen=True)
class Graph:
    """An open graph directory.

    Attributes
    ----------
    folder : Path
    tensors : dict of str to (TensorRef or list of TensorRef)
        By file stem.
    format : str
        ``"legacy"``, or ``spec_version`` of ``metainfo.yaml``.
    """

    folder: Path
    tensors: dict[str, Any]
    format: str


@contextlib.contextmanager
def open_graph(folder: Path) -> Iterator[Graph]:
    """Open a graph directory.

    Parameters
    ----------
    folder : Path

    Yields
    ------
    Graph
        To be used, and written, inside of the with block.

    Raises
    ------
    CompatError
        If it is no graph directory, or a file in it is damaged.
    """
    files = sorted(folder.glob("*.pt"))
    if not files:
        raise CompatError(
            "There is no graph in the directory.",
            facts={"directory": folder, "expected": "g2m_edge_index.pt, ..."},
            remedy="Give the directory that create_graph wrote, such as "
            "graph/multiscale.",
        )
    with contextlib.ExitStack() as opened:
        tensors = {
            file.stem: _content(opened.enter_context(read_checkpoint(file)))
            for file in files
        }
        yield Graph(folder, tensors, _format(folder / METAINFO))


def write_graph(
    graph: Graph, tensors: Mapping[str, Any], target: Path
) -> list[str]:
    """Write a graph directory, whole or not at all.

    Parameters
    ----------
    graph : Graph
        Where it comes from. What did not change is copied as it is.
    tensors : mapping of str to (tensor or list of tensors)
        By file stem.
    target : Path
        There may be the same already, and nothing else.

    Returns
    -------
    list of str
        The files that differ from those of `graph`.

    Raises
    ------
    CompatError
        If there is another directory already, or the disk does not take it.
    """
    # Upgrades without a graph do without it, and begin sooner.
    import shutil

    differing = changed(graph, tensors)
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        part.mkdir(parents=True)
        for file in sorted(graph.folder.iterdir()):
            if file.name == METAINFO or (
                file.suffix == ".pt" and file.stem not in differing
            ):
                shutil.copyfile(file, part / file.name)
        for stem in differing:
            write_checkpoint(tensors[stem], part / f"{stem}.pt")
        if target.exists():
            _refuse_another(part, target)
        else:
            part.rename(target)
    except OSError as error:
        raise CompatError(
            "The graph directory can't be written.",
            facts={"directory": target, "cause": error.strerror or error},
            remedy="Nothing was changed. Make room or mend the permissions, "
            "and try again.",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [f"{stem}.pt" for stem in differing]


def changed(graph: Graph, tensors: Mapping[str, Any]) -> list[str]:
    """List the files whose tensors are not those of a graph.

    Parameters
    ----------
    graph : Graph
    tensors : mapping of str to (tensor or list of tensors)
        By file stem, in the types of the files.

    Returns
    -------
    list of str
        File stems.
    """
    return [
        stem
        for stem, new in tensors.items()
        if not _same(graph.tensors[stem], new)
    ]


def fingerprint(tensors: Mapping[str, Any]) -> str:
    """Give the same for the same tensors, however their files were written.

    Parameters
    ----------
    tensors : mapping of str to (tensor or list of tensors)
        By file stem, in the types of the files.

    Returns
    -------
    str
        A SHA-256 in hexadecimal.
    """
    import hashlib

    digest = hashlib.sha256()
    for stem, content in sorted(tensors.items()):
        parts = content if isinstance(content, list) else [content]
        for level, tensor in enumerate(parts):
            shape = tuple(tensor.shape)
            head = f"{stem} {level} {dtype_name(tensor)} {shape}\n"
            digest.update(head.encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Lazy) -> bytes:
    import torch

    flat = loaded(tensor).detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _same(old: Any, new: Any) -> bool:
    olds = old if isinstance(old, list) else [old]
    news = new if isinstance(new, list) else [new]
    return len(olds) == len(news) and all(
        a is b
        or (
            (tuple(a.shape), dtype_name(a)) == (tuple(b.shape), dtype_name(b))
            and bool((values(a) == values(b)).all())
        )
        for a, b in zip(olds, news, strict=True)
    )


def _content(opened: Any) -> Any:
    if not _is_content(opened.data):
        raise CompatError(
            f"{opened.path.name} is no file of a graph: it holds more than "
            "tensors.",
            facts={"file": opened.path},
            remedy="Give the directory that create_graph wrote.",
        )
    return opened.data


def _is_content(data: Any) -> bool:
    parts = data if isinstance(data, list) else [data]
    return all(isinstance(part, TensorRef) for part in parts)


def _format(metainfo: Path) -> str:
    """Read the one entry that create_graph writes; no other YAML."""
    if not metainfo.exists():
        return LEGACY
    with metainfo.open(encoding="utf-8", errors="replace") as stream:
        for line in stream.read(_LONGEST).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "spec_version":
                return value.strip().strip("'\"")
    return LEGACY


def _refuse_another(part: Path, target: Path) -> None:
    """Refuse a target that is not byte for byte what would be written."""
    names = {file.name for file in part.iterdir()}
    same = target.is_dir() and all(
        (target / name).is_file()
        and (target / name).read_bytes() == (part / name).read_bytes()
        for name in names
    )
    if not same:
        raise CompatError(
            "There is another graph directory already.",
            facts={"directory": target},
            remedy="Give another --graph-out.",
        )
