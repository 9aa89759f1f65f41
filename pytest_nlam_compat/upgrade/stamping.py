"""The stamp: what a checkpoint was trained with, as plain data.

::

    {
      "neural_lam": {"version": "0.7.0", "commit": None, "dirty": None},
      "torch": "2.13.0", "lightning": "2.6.6",
      "graph": {"name": "1level", "format": "legacy", "fingerprint": "..."},
      "features": {"state": [...], "forcing": [...], "static": [...]},
      "forcing_window": [1, 1],
      "dataset": {...}
    }

``dataset`` is what `dataset_facts` writes to JSON. Unknown values are None.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_nlam_compat import __version__
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.stamps import STAMP, raise_on_upstream_stamp
from pytest_nlam_compat.upgrade.dataset_facts import (
    DatasetFacts,
    facts_from_table,
)
from pytest_nlam_compat.upgrade.graphs import fingerprint, open_graph
from pytest_nlam_compat.upgrade.output import OutputFile
from pytest_nlam_compat.upgrade.plain import flat
from pytest_nlam_compat.upgrade.trust import refuse_unknown

ENTRY = "stamp"
PREFIX = "stamped_"
_WINDOW = ("args.num_past_forcing_steps", "args.num_future_forcing_steps")
_GIT_TIMEOUT_S = 20


def stamp_of(
    neural_lam: Mapping[str, Any],
    versions: Mapping[str, str | None],
    hyper_parameters: Mapping[str, Any],
    graph: Path | None,
    facts: DatasetFacts,
) -> dict[str, Any]:
    """Build a stamp.

    Parameters
    ----------
    neural_lam : mapping
        ``version``, ``commit`` and ``dirty``.
    versions : mapping
        ``torch`` and ``lightning``.
    hyper_parameters : mapping
        Plain values by path: ``args.graph`` and so on.
    graph : Path, optional
        The graph directory.
    facts : DatasetFacts
    """
    window = [hyper_parameters.get(path) for path in _WINDOW]
    return {
        "neural_lam": dict(neural_lam),
        **versions,
        "tool": f"pytest-nlam-compat {__version__}",
        "graph": _graph(graph, hyper_parameters.get("args.graph")),
        "features": facts.features,
        "forcing_window": None if None in window else window,
        "dataset": facts.table(),
    }


def stamp_file(
    output: OutputFile,
    *,
    origin: str | None,
    graph: Path | None,
    facts: DatasetFacts,
    allowed: tuple[str, ...],
) -> dict[str, Any]:
    """Stamp a file that was written without a stamp.

    Parameters
    ----------
    output : OutputFile
        The file, and where to write the new one.
    origin : str, optional
        Release that wrote it; detected by default.
    graph : Path, optional
        Its graph directory.
    facts : DatasetFacts
        About its dataset.
    allowed : tuple of str
        Classes that it may name besides the known ones.

    Returns
    -------
    dict
        The stamp.

    Raises
    ------
    CompatError
        If it has a stamp, or its release can't be detected.
    """
    file = output.file
    with read_checkpoint(file) as checkpoint:
        refuse_unknown(checkpoint, allowed)
        checkpoint.state_dict()
        data = dict(checkpoint.data)
        record = data.get(STAMP)
        record = dict(record) if isinstance(record, dict) else {}
        if ENTRY in record:
            raise CompatError(
                f"{file.name} has a stamp already.",
                facts={"file": file, "stamp": record[ENTRY].get("neural_lam")},
                remedy="It needs no other.",
            )
        # --from doesn't make an unknown layout a known one.
        raise_on_upstream_stamp(data)
        release = origin or detect_origin(data).release
        lightning = data.get("pytorch-lightning_version")
        stamp = stamp_of(
            {"version": release, "commit": None, "dirty": None},
            {"torch": None, "lightning": lightning},
            flat(data.get("hyper_parameters", {})),
            graph,
            facts,
        )
        data[STAMP] = {**record, ENTRY: stamp}
        checkpoint.data = data
        output.write(checkpoint, None)
    return stamp


def facts_in(stamp: Mapping[str, Any]) -> DatasetFacts | None:
    """Read the facts about the dataset from a stamp, None if it has none."""
    table = stamp.get("dataset")
    if table is None:
        return None
    try:
        return facts_from_table(table)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Of another version of this package, or changed by hand.
        return None


def installed_neural_lam() -> dict[str, Any]:
    """Describe the neural-lam that would be imported, without importing it.

    Returns
    -------
    dict
        ``version`` (not reliable for a development install), ``commit`` and
        ``dirty`` (whether files were changed since), None if unknown.
    """
    spec = find_spec("neural_lam")
    origin = spec.origin if spec else None
    commit, dirty = _git_state(Path(origin).parent) if origin else (None, None)
    if commit is None:
        commit = _installed_commit()
    return {"version": _version("neural-lam"), "commit": commit, "dirty": dirty}


def versions() -> dict[str, str | None]:
    """Return the versions of torch and Lightning."""
    return {
        "torch": _version("torch"),
        "lightning": _version("pytorch-lightning") or _version("lightning"),
    }


def _graph(folder: Path | None, name: Any) -> dict[str, Any] | None:
    if folder is None:
        return None
    with open_graph(folder) as graph:
        return {
            "name": name if isinstance(name, str) else folder.name,
            "format": graph.format,
            "fingerprint": fingerprint(graph.tensors),
        }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return commit and whether files changed, None if git tracks none."""
    if not _git(folder, "ls-files", "__init__.py"):
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ".")
    return commit or None, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _installed_commit() -> str | None:
    """Read what pip stores about an installation from git (PEP 610)."""
    try:
        text = metadata.distribution("neural-lam").read_text("direct_url.json")
        commit = json.loads(text or "{}")["vcs_info"]["commit_id"]
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    return str(commit)
