"""A Lightning callback that stamps checkpoints as they are written.

Up to 0.7.0 neural-lam doesn't write the release, graph and dataset of a
training into its checkpoints, so that they can only be guessed later.
"""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from pytest_nlam_compat.adapters.probe import own_metadata
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.dataset_facts import facts_of
from pytest_nlam_compat.upgrade.stamping import ENTRY, stamp_of

_GIT_TIMEOUT_S = 20


class ProvenanceStamp(pl.Callback):  # type: ignore[misc]
    """Write into each checkpoint what it was trained with.

    The versions and the commit, the graph's fingerprint and format, the names
    and statistics of the features, and the forcing window: plain data, which
    doesn't change how the checkpoint loads. The loggers receive the same, once,
    with ``log_hyperparams``.

    Parameters
    ----------
    graph : path-like, optional
        The graph directory. Default: the one in the datastore's root that the
        model's arguments name; pass it for models without such arguments.

    Examples
    --------
    Pass it to the trainer of a training script::

        trainer = pl.Trainer(callbacks=[ProvenanceStamp()], ...)
    """

    def __init__(self, graph: str | Path | None = None) -> None:
        self._graph = Path(graph) if graph is not None else None
        self._stamp: dict[str, Any] | None = None

    def on_fit_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> None:
        """Build the stamp, and log it."""
        stamp = self._stamp_of(pl_module)
        for logger in trainer.loggers:
            logger.log_hyperparams({STAMP: stamp})

    def on_save_checkpoint(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Write the stamp."""
        checkpoint[STAMP] = {ENTRY: self._stamp_of(pl_module)}

    def _stamp_of(self, module: pl.LightningModule) -> dict[str, Any]:
        if self._stamp is None:
            datastore = _datastore(module)
            arguments = _arguments(module)
            self._stamp = stamp_of(
                _installed_neural_lam(),
                {"torch": str(torch.__version__), "lightning": pl.__version__},
                arguments,
                self._graph or _graph(datastore, arguments),
                facts_of(datastore),
            )
        return self._stamp


def _datastore(module: pl.LightningModule) -> Any:
    for name in ("datastore", "_datastore"):
        found = getattr(module, name, None)
        if found is not None:
            return found
    raise CompatError(
        "ProvenanceStamp can't find the datastore of the model.",
        facts={
            "model": type(module).__name__,
            "expected": "an attribute datastore (as ForecasterModule has) or "
            "_datastore (as ARModel had)",
        },
        remedy="Use it with a model of neural-lam, or set the attribute.",
    )


def _arguments(module: pl.LightningModule) -> dict[str, Any]:
    arguments = module.hparams.get("args")
    if arguments is None:
        return {}
    return {f"args.{name}": value for name, value in vars(arguments).items()}


def _graph(datastore: Any, arguments: dict[str, Any]) -> Path | None:
    name = arguments.get("args.graph")
    return Path(datastore.root_path) / "graph" / name if name else None


def _installed_neural_lam() -> dict[str, Any]:
    """Describe the neural-lam that would be imported, without importing it.

    What is unknown is None; the version of a development install is unreliable.
    """
    spec = find_spec("neural_lam")
    if spec is None or spec.origin is None:
        return {"version": None, "commit": None, "dirty": None}
    folder = Path(spec.origin).parent
    version, _ = own_metadata(folder)
    commit, dirty = _git_state(folder)
    if version == "unknown":
        # A tree that hides an install has neither its version nor its commit.
        return {"version": None, "commit": commit, "dirty": dirty}
    commit = commit or _installed_commit()
    return {"version": version, "commit": commit, "dirty": dirty}


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
