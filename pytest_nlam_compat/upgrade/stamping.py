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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_nlam_compat import __version__
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.dataset_facts import (
    DatasetFacts,
    facts_from_table,
)
from pytest_nlam_compat.upgrade.graphs import fingerprint, open_graph
from pytest_nlam_compat.upgrade.inspection import flat
from pytest_nlam_compat.upgrade.output import OutputFile
from pytest_nlam_compat.upgrade.trust import refuse_malformed, refuse_unknown

ENTRY = "stamp"
PREFIX = "stamped_"
_WINDOW = ("args.num_past_forcing_steps", "args.num_future_forcing_steps")


def stamp_of(
    neural_lam: Mapping[str, Any],
    versions: Mapping[str, str | None],
    hyper_parameters: Mapping[str, Any],
    graph: Path | None,
    facts: DatasetFacts,
) -> dict[str, Any]:
    """Build a stamp.

    `hyper_parameters` are plain values by path, such as ``args.graph``; `graph`
    is the graph directory.
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
    """Stamp a file that was written without a stamp, and return the stamp.

    Raises a CompatError if it has one, or its release can't be detected.
    """
    file = output.file
    with read_checkpoint(file) as checkpoint:
        refuse_unknown(checkpoint, allowed)
        refuse_malformed(checkpoint)
        data = dict(checkpoint.data)
        record = record_in(data)
        if ENTRY in record:
            raise CompatError(
                f"{file.name} has a stamp already.",
                facts={"file": file, "stamp": record[ENTRY].get("neural_lam")},
                remedy="It needs no second one.",
            )
        release = detect_origin(data, origin).release
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
        output.write(checkpoint)
    return stamp


def record_in(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return this package's record in a checkpoint; empty if it has none."""
    record = data.get(STAMP)
    return record if isinstance(record, dict) else {}


def stamp_in(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the stamp in a checkpoint; empty if it has none."""
    stamp = record_in(data).get(ENTRY)
    return stamp if isinstance(stamp, dict) else {}


def facts_in(stamp: Mapping[str, Any]) -> DatasetFacts | None:
    """Read the facts about the dataset from a stamp, None if it has none."""
    table = stamp.get("dataset")
    if table is None:
        return None
    try:
        return facts_from_table(table)
    except ValueError:
        # Of another version of this package, or changed by hand.
        return None


def _graph(folder: Path | None, name: Any) -> dict[str, Any] | None:
    if folder is None:
        return None
    with open_graph(folder) as graph:
        return {
            "name": name if isinstance(name, str) else folder.name,
            "format": graph.format,
            "fingerprint": fingerprint(graph.tensors),
        }
