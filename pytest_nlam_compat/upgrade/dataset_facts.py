"""What migrations need to know about a dataset, and how to get it.

As a file it is JSON, or safetensors with the arrays as tensors and the rest,
each as JSON, in its metadata; ``docs/upgrade.md`` shows one. The arrays are
those of `migrations.saved_run.Statistics`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.recognition import open_regular
from pytest_nlam_compat.upgrade.configuration import plain_config

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
EXTENT = "extent"
"""x_min, x_max, y_min, y_max of the grid; optional in a file."""
_LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class DatasetFacts:
    """What is known about a dataset; ``docs/upgrade.md`` describes it."""

    arrays: Mapping[str, list[float]]  # by the names of `ARRAYS`
    static_names: tuple[str, ...]  # in today's order
    grid_shape: tuple[int, int]  # nodes along x and y
    config: Mapping[str, Any] | None = None  # neural-lam's, as in its YAML file
    features: Mapping[str, list[str]] = field(default_factory=dict)

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
        """Return the content of a file: safetensors or, by default, JSON."""
        table = self.table()
        if suffix != ".safetensors":
            text = json.dumps(table, indent=1, allow_nan=False)
            return f"{text}\n".encode()
        import numpy as np
        from safetensors.numpy import save

        arrays = table.pop("arrays")
        return save(
            {name: np.array(numbers) for name, numbers in arrays.items()},
            {name: json.dumps(value) for name, value in table.items()},
        )


def load_facts(
    statistics: Path | None, datastore: Path | None
) -> DatasetFacts | None:
    """Return `read_facts` or `facts_from_config`, whichever has a path."""
    if statistics is not None:
        return read_facts(statistics)
    return None if datastore is None else facts_from_config(datastore)


def read_facts(path: Path) -> DatasetFacts:
    """Read a file of statistics; refuse one that is not complete.

    It is JSON or safetensors, whatever its name.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
        is_safetensors = content[8:9] == b"{"
        table = _safetensors(path) if is_safetensors else json.loads(content)
        return facts_from_table(table)
    except OSError as error:
        cause = error.strerror or str(error)
    except (ValueError, TypeError, RecursionError) as error:
        cause = str(error)
    raise CompatError(
        f"{path.name} is not a file of dataset statistics.",
        facts={"file": path, "cause": cause},
        remedy="Write one with nlam-compat statistics --datastore CONFIG "
        "-o FILE.",
    )


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


def facts_from_table(table: Any) -> DatasetFacts:
    """Read what `DatasetFacts.table` returned; a ValueError if it did not."""
    try:
        return _facts(table)
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _facts(table: Any) -> DatasetFacts:
    if not isinstance(table, Mapping):
        raise ValueError("it is not a table")
    if table[FORMAT] != 1:
        raise ValueError(f"its format is {table[FORMAT]}, not 1")
    names = tuple(map(str, table["static_names"]))
    arrays = {
        name: [float(number) for number in table["arrays"][name]]
        for name in (*ARRAYS, EXTENT)
        if name != EXTENT or name in table["arrays"]
    }
    for name, numbers in arrays.items():
        like = names if name.startswith("static") else arrays["state_mean"]
        expected = 4 if name == EXTENT else len(like)
        if len(numbers) != expected:
            raise ValueError(
                f"{name} has {len(numbers)} numbers, not {expected}"
            )
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name} has numbers that are not finite")
    nx, ny = map(int, table["grid_shape"])
    if not 0 < min(nx, ny) <= max(nx, ny) < _LARGEST:
        raise ValueError("its grid_shape makes no sense")
    features = {
        str(category): [str(name) for name in of_category]
        for category, of_category in table.get("features", {}).items()
    }
    return DatasetFacts(arrays, names, (nx, ny), table.get("config"), features)


def facts_from_config(path: Path) -> DatasetFacts:
    """Compute the facts of the dataset of a neural-lam configuration."""
    config, datastore = load_datastore(path)
    return facts_of(datastore, plain_config(config))


def load_datastore(path: Path) -> tuple[Any, Any]:
    """Load a neural-lam configuration and its dataset, with neural-lam.

    Raises a CompatError if there is no neural-lam, or it can't load them.
    """
    try:
        from neural_lam.config import load_config_and_datastore
    except ImportError as error:
        raise CompatError(
            "Reading a datastore requires neural-lam, and it can't be"
            " imported.",
            facts={"cause": error},
            remedy="Install it. Or run nlam-compat statistics where it is "
            "installed, and pass the file with --statistics.",
        ) from None
    try:
        config, datastore = load_config_and_datastore(str(path))
        return config, datastore
    # Whatever a datastore raises is about the user's files.
    except Exception as error:
        raise CompatError(
            "neural-lam can't load the datastore.",
            facts={"file": path, "cause": f"{type(error).__name__}: {error}"},
            remedy="Pass the config.yaml that the run was trained with, and "
            "the files that it names.",
        ) from error


def facts_of(
    datastore: Any, config: dict[str, Any] | None = None
) -> DatasetFacts:
    """Compute the facts of a ``BaseRegularGridDatastore`` of neural-lam.

    One without static features is refused with a CompatError.
    """
    import numpy as np

    state = datastore.get_standardization_dataarray(category="state")
    static_statistics = datastore.get_standardization_dataarray("static")
    static = datastore.get_dataarray(category="static", split=None)
    if static is None:
        raise CompatError(
            "The dataset has no static features.",
            remedy="Pass the dataset that the run was trained on.",
        )
    table = np.asarray(
        static.transpose("grid_index", "static_feature"), dtype=np.float64
    )
    shape = datastore.grid_shape_state
    xy = np.asarray(datastore.get_xy("state", True), dtype=np.float64)
    limits = np.stack((xy.min(axis=0), xy.max(axis=0)), axis=1)
    arrays = {
        "state_mean": state["state_mean"],
        "state_std": state["state_std"],
        "state_diff_mean": state["state_diff_mean_standardized"],
        "state_diff_std": state["state_diff_std_standardized"],
        "static_mean": static_statistics["static_mean"],
        "static_std": static_statistics["static_std"],
        "static_min": table.min(axis=0),
        "static_max": table.max(axis=0),
        EXTENT: limits.ravel(),
    }
    return DatasetFacts(
        {
            name: np.asarray(values, dtype=np.float64).tolist()
            for name, values in arrays.items()
        },
        tuple(map(str, datastore.get_vars_names(category="static"))),
        (int(shape.x), int(shape.y)),
        config,
        {
            category: [str(name) for name in datastore.get_vars_names(category)]
            for category in ("state", "forcing", "static")
        },
    )
