"""What in a checkpoint tells which release wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.migrations.operations.trees import (
    holds_instance_of,
)
from pytest_nlam_compat.migrations.parameters import CLAMP_BUFFERS
from pytest_nlam_compat.migrations.prefixes import has_prefix
from pytest_nlam_compat.migrations.releases import before, since

# Arguments of train_model.py that only some releases have; all others say
# nothing. Read from each release's own parser.
_ARGUMENTS: dict[str, frozenset[str]] = {
    "0.1.0": frozenset({"dataset"}),
    "0.2.0": frozenset({"data_config", "wandb_project"}),
    "0.3.0": frozenset(
        {"config_path", "wandb_project", "num_past_forcing_steps"}
    ),
    "0.4.0": frozenset({"config_path", "logger", "num_past_forcing_steps"}),
}
_ARGUMENTS["0.5.0"] = _ARGUMENTS["0.4.0"] | {"logger_run_name"}
_ARGUMENTS["0.6.0"] = _ARGUMENTS["0.5.0"] | {
    "create_gif",
    "load_single_member",
    "wandb_id",
}
_ARGUMENTS["0.7.0"] = _ARGUMENTS["0.6.0"] | {
    "g2m_gnn_type",
    "num_sanity_val_steps",
    "runs_root",
    "train_steps_to_log",
}
_TELLING = frozenset[str]().union(*_ARGUMENTS.values())


@dataclass(frozen=True)
class Evidence:
    """One observation, and the releases that it leaves.

    Attributes
    ----------
    seen : str
        What was found in the file.
    releases : tuple of str
        Those that write such a file.
    """

    seen: str
    releases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.seen}: {self.span}"

    @property
    def span(self) -> str:
        """The releases, for people."""
        if len(self.releases) > 2:
            return f"{self.releases[0]} to {self.releases[-1]}"
        return " or ".join(self.releases)


def evidence_of_prefix(names: Iterable[str]) -> Evidence:
    """Give what the place of the weights says.

    Parameters
    ----------
    names : iterable of str
        Keys of a state_dict.

    Returns
    -------
    Evidence
    """
    if has_prefix(names):
        return Evidence("weights under forecaster.", since("0.7.0"))
    return Evidence("no weights under forecaster.", before("0.7.0"))


def other_evidence(
    names: Iterable[str], hyper_parameters: object
) -> Iterable[Evidence]:
    """Give what else a checkpoint says.

    Parameters
    ----------
    names : iterable of str
        Keys of its state_dict.
    hyper_parameters : object
        Of the file, where it has any.

    Yields
    ------
    Evidence
    """
    last = {name.rpartition(".")[2] for name in names}
    if last.issuperset(CLAMP_BUFFERS):
        yield Evidence("buffers of output clamping", since("0.4.0"))
    else:
        yield Evidence("no buffers of output clamping", before("0.4.0"))
    if isinstance(hyper_parameters, Mapping):
        yield from _evidence_of_hyper_parameters(dict(hyper_parameters))


def _evidence_of_hyper_parameters(
    hyper_parameters: dict[str, Any],
) -> Iterable[Evidence]:
    kind = "neural_lam.config.DatastoreKindStr"
    if holds_instance_of(hyper_parameters, kind):
        yield Evidence(
            "class DatastoreKindStr in the config", ("0.3.0", "0.4.0")
        )
    if "config" in hyper_parameters:
        yield Evidence("a config in the hyper-parameters", since("0.3.0"))
    elif "args" in hyper_parameters:
        yield Evidence("args and no config", before("0.3.0"))
    args = hyper_parameters.get("args")
    if isinstance(args, InertObject) and args.attributes:
        telling = _TELLING & set(args.attributes)
        fitting = tuple(
            release for release, known in _ARGUMENTS.items() if known == telling
        )
        # A namespace that was made in Python, or by a development install,
        # fits no release's parser: it says nothing.
        if fitting:
            yield Evidence("the set of args", fitting)
