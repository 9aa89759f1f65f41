"""What migrations need of the dataset that a run was trained on, as a file.

JSON::

    {
      "nlam_compat_statistics": 1,
      "grid_shape": [nx, ny],
      "static_names": ["surface_geopotential", ...],
      "arrays": {"state_mean": [...], ...},
      "features": {"state": [...], "forcing": [...], "static": [...]},
      "config": {"datastore": {...}, "training": {...}}
    }

The arrays are those of `migrations.saved_run.Statistics`; ``features`` and
``config``, as in neural-lam's own YAML file, may be left out. A safetensors
file has the arrays as F64 or F32 tensors and the rest, each as JSON, in its
metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.migrations.saved_run import Statistics

FORMAT = "nlam_compat_statistics"
ARRAYS = (
    "state_mean",
    "state_std",
    "state_diff_mean",
    "state_diff_std",
    "static_mean",
    "static_std",
    "static_min",
    "static_max",
)
#: x_min, x_max, y_min, y_max of the grid; files of others may lack it.
EXTENT = "extent"
_LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset.

    Attributes
    ----------
    arrays : mapping of str to list of float
        By the names of `ARRAYS`.
    static_names : tuple of str
        Static features in today's order.
    grid_shape : tuple of (int, int)
        Grid nodes along x and y.
    config : mapping, optional
        neural-lam's configuration, plain, as in its YAML file.
    features : mapping of str to list of str, optional
        Names of ``state``, ``forcing`` and ``static`` features, in order.
    """

    arrays: Mapping[str, list[float]]
    static_names: tuple[str, ...]
    grid_shape: tuple[int, int]
    config: Mapping[str, Any] | None = None
    features: Mapping[str, list[str]] = field(default_factory=dict)

    def statistics(self) -> Statistics:
        """Return the arrays as migrations take them."""
        from pytest_nlam_compat.migrations.saved_run import Statistics

        return Statistics(self.arrays, list(self.static_names))

    def table(self) -> dict[str, Any]:
        """Return it as plain data, as in a JSON file."""
        table: dict[str, Any] = {
            FORMAT: 1,
            "grid_shape": list(self.grid_shape),
            "static_names": list(self.static_names),
            "features": {k: list(names) for k, names in self.features.items()},
            "arrays": {k: list(numbers) for k, numbers in self.arrays.items()},
        }
        if self.config is not None:
            table["config"] = dict(self.config)
        return table

    def to_bytes(self, suffix: str) -> bytes:
        """Return the content of a file that `read_facts` reads.

        Parameters
        ----------
        suffix : str
            Ending of its name: ``.safetensors``, or anything else for JSON.
        """
        rest = self.table()
        arrays = rest.pop("arrays")
        if suffix != ".safetensors":
            table = {**rest, "arrays": arrays}
            text = json.dumps(table, indent=1, allow_nan=False)
            return f"{text}\n".encode()
        import numpy as np
        from safetensors.numpy import save

        return save(
            {name: np.array(numbers) for name, numbers in arrays.items()},
            {name: json.dumps(value) for name, value in rest.items()},
        )


def facts_given(
    statistics: Path | None, datastore: Path | None
) -> DatasetFacts | None:
    """Get the facts from whichever option a user gave.

    Parameters
    ----------
    statistics : Path, optional
        A file for `read_facts`.
    datastore : Path, optional
        neural-lam's configuration; this imports neural-lam.

    Returns
    -------
    DatasetFacts or None

    Raises
    ------
    CompatError
        If they can't be had from there.
    """
    if statistics is not None:
        return read_facts(statistics)
    if datastore is not None:
        from pytest_nlam_compat.upgrade.from_datastore import (
            facts_from_config,
        )

        return facts_from_config(datastore)
    return None


def read_facts(path: Path) -> DatasetFacts:
    """Read a file of statistics.

    Parameters
    ----------
    path : Path
        JSON or safetensors.

    Returns
    -------
    DatasetFacts

    Raises
    ------
    CompatError
        If it is neither, or not complete.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise _refusal(path, f"more than {_LARGEST} bytes")
        content = path.read_bytes()
        safetensors = content[8:9] == b"{"
        table = _safetensors(path) if safetensors else _json(content)
    except OSError as error:
        raise _refusal(path, str(error.strerror or error)) from None
    except ValueError as error:
        raise _refusal(path, str(error)) from None
    try:
        return facts_from_table(table)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise _refusal(path, str(cause)) from None


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            arrays = {name: file.get_tensor(name).tolist() for name in names}
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    table = {key: json.loads(value) for key, value in metadata.items()}
    return {**table, "arrays": arrays}


def _json(content: bytes) -> dict[str, Any]:
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("it holds no table")
    return found


def facts_from_table(table: Mapping[str, Any]) -> DatasetFacts:
    """Read what `DatasetFacts.table` gave.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        If it is not that.
    """
    if table[FORMAT] != 1:
        raise ValueError(f"its format is {table[FORMAT]}, and not 1")
    names = tuple(map(str, table["static_names"]))
    arrays = {
        name: [float(number) for number in table["arrays"][name]]
        for name in (*ARRAYS, EXTENT)
        if name != EXTENT or name in table["arrays"]
    }
    lengths = {EXTENT: 4}
    for name, numbers in arrays.items():
        like = names if name.startswith("static") else arrays["state_mean"]
        expected = lengths.get(name, len(like))
        if len(numbers) != expected:
            raise ValueError(
                f"{name} has {len(numbers)} numbers, and not {expected}"
            )
        if any(abs(number) == float("inf") for number in numbers) or any(
            number != number for number in numbers
        ):
            raise ValueError(f"{name} has numbers that are not finite")
    nx, ny = map(int, table["grid_shape"])
    features = {
        str(category): [str(name) for name in of_category]
        for category, of_category in table.get("features", {}).items()
    }
    return DatasetFacts(arrays, names, (nx, ny), table.get("config"), features)


def _refusal(path: Path, cause: str) -> CompatError:
    return CompatError(
        f"{path.name} is no file of dataset statistics.",
        facts={"file": path, "cause": cause},
        remedy="Write one with nlam-compat statistics --datastore CONFIG "
        "-o FILE.",
    )
