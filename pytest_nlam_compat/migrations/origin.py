"""Which release wrote a checkpoint.

No release writes its version into a checkpoint, so the answer rests on
evidence, which is always shown with it. A stamp, where there is one, is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.checkpoints.standins import Instance
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.trees import (
    holds_instance_of,
)
from pytest_nlam_compat.migrations.parameters import CLAMP_BUFFERS
from pytest_nlam_compat.migrations.wrapping import refuse_wrapped

RELEASES = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0")

# Upstream's own integer stamp (neural-lam #701, open).
UPSTREAM_STAMP = "neural_lam_checkpoint_version"
# Ours, in a file that was migrated: evidence of the origin is in pieces there.
STAMP = "nlam_compat"

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
        return f"{self.seen}: {_span(self.releases)}"


@dataclass(frozen=True)
class Origin:
    """The release that wrote a checkpoint, and why we think so.

    Attributes
    ----------
    release : str
        For example ``"0.6.0"``.
    evidence : tuple of Evidence
        What the answer rests on.
    stamp : int, optional
        ``neural_lam_checkpoint_version`` of the file.
    """

    release: str
    evidence: tuple[Evidence, ...]
    stamp: int | None = None

    @property
    def version(self) -> Version:
        """The release as a version."""
        return Version(self.release)


def detect_origin(data: Mapping[str, Any]) -> Origin:
    """Tell from a checkpoint which release wrote it.

    Parameters
    ----------
    data : mapping
        The whole tree of a checkpoint, as ``Checkpoint.data``.

    Returns
    -------
    Origin

    Raises
    ------
    CompatError
        The evidence leaves several releases, or none, the weights stand
        where no release has them, or the file was migrated by a newer version
        of this package.
    """
    record = data.get(STAMP)
    if isinstance(record, Mapping) and "layout" in record:
        return _stamped(data, str(record["layout"]))
    if isinstance(record, Mapping) and "stamp" in record:
        version = _version_in(record["stamp"])
        _refuse_unknown(version)
        if version in RELEASES:
            return Origin(
                release=version,
                evidence=(Evidence(f"stamped by {version}", (version,)),),
                stamp=data.get(UPSTREAM_STAMP),
            )
    refuse_wrapped(map(str, data.get("state_dict", {})))
    evidence = tuple(_evidence(data))
    left = [
        release
        for release in RELEASES
        if all(release in found.releases for found in evidence)
    ]
    if len(left) != 1:
        raise CompatError(
            "Several releases of neural-lam may have written this checkpoint."
            if left
            else "The checkpoint contradicts itself on the release that "
            "wrote it.",
            facts={
                **{found.seen: _span(found.releases) for found in evidence},
                "left": ", ".join(left) or "none",
            },
            remedy="Say which one wrote it with --from, such as --from "
            f"{left[-1] if left else RELEASES[-1]}.",
        )
    return Origin(
        release=left[0], evidence=evidence, stamp=data.get(UPSTREAM_STAMP)
    )


def stamp(layout: Version, applied: Iterable[str]) -> dict[str, Any]:
    """Give what to write into a migrated file, so that it is recognised.

    Parameters
    ----------
    layout : Version
        Release whose layout the file has now.
    applied : iterable of str
        ``SavedRun.applied``.

    Returns
    -------
    dict
        One key and its value, to merge into the checkpoint.
    """
    return {STAMP: {"layout": str(layout), "migrations": list(applied)}}


def refuse_newer(origin: Origin, newest: int | None) -> None:
    """Refuse a file with a stamp that the current code doesn't know.

    Parameters
    ----------
    origin : Origin
    newest : int, optional
        ``neural_lam.migrations.CURRENT_CHECKPOINT_VERSION``; None where the
        current code has no migrations.

    Raises
    ------
    CompatError
        The stamp is newer, or none that neural-lam writes.
    """
    if origin.stamp is None:
        return
    if not isinstance(origin.stamp, int):
        raise CompatError(
            "The stamp of the checkpoint is no number.",
            facts={UPSTREAM_STAMP: repr(origin.stamp)},
            remedy="Give the file as neural-lam has written it.",
        )
    if newest is not None and origin.stamp <= newest:
        return
    raise CompatError(
        "The checkpoint was written by a newer neural-lam.",
        facts={
            UPSTREAM_STAMP: origin.stamp,
            "newest that the installed neural-lam knows": newest
            if newest is not None
            else "none",
        },
        remedy="Upgrade neural-lam.",
    )


def _stamped(data: Mapping[str, Any], layout: str) -> Origin:
    if layout not in RELEASES:
        raise CompatError(
            "The checkpoint was migrated by a newer pytest-nlam-compat.",
            facts={"layout": layout, "newest known": RELEASES[-1]},
            remedy="Upgrade pytest-nlam-compat.",
        )
    return Origin(
        release=layout,
        evidence=(Evidence(f"migrated to {layout} before", (layout,)),),
        stamp=data.get(UPSTREAM_STAMP),
    )


def _version_in(stamp: Any) -> str:
    """Read the version in a stamp; that of a development install says little.

    It is derived from tags that its clone may not have.
    """
    try:
        return str(stamp["neural_lam"]["version"])
    except (TypeError, KeyError):
        return ""


def _refuse_unknown(version: str) -> None:
    """Refuse a file that a release wrote of which nothing is known here."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return
    made_from_tags = parsed.is_devrelease or parsed.local is not None
    if not made_from_tags and parsed > Version(RELEASES[-1]):
        raise CompatError(
            "The checkpoint was written by a neural-lam that this "
            "pytest-nlam-compat does not know.",
            facts={"stamped by": version, "newest known": RELEASES[-1]},
            remedy="Upgrade pytest-nlam-compat.",
        )


def _evidence(data: Mapping[str, Any]) -> Iterable[Evidence]:
    if UPSTREAM_STAMP in data:
        yield Evidence(
            f"{UPSTREAM_STAMP} {data[UPSTREAM_STAMP]}", _since("0.7.0")
        )
    names = [str(name) for name in data.get("state_dict", {})]
    yield from _evidence_of_weights(names)
    hyper_parameters = data.get("hyper_parameters")
    if isinstance(hyper_parameters, Mapping):
        yield from _evidence_of_hyper_parameters(dict(hyper_parameters))


def _evidence_of_weights(names: list[str]) -> Iterable[Evidence]:
    if any(name.startswith("forecaster.") for name in names):
        yield Evidence("weights under forecaster.", _since("0.7.0"))
    else:
        yield Evidence("no weights under forecaster.", _before("0.7.0"))
    last = {name.rpartition(".")[2] for name in names}
    if last.issuperset(CLAMP_BUFFERS):
        yield Evidence("buffers of output clamping", _since("0.4.0"))
    else:
        yield Evidence("no buffers of output clamping", _before("0.4.0"))


def _evidence_of_hyper_parameters(
    hyper_parameters: dict[str, Any],
) -> Iterable[Evidence]:
    kind = "neural_lam.config.DatastoreKindStr"
    if holds_instance_of(hyper_parameters, kind):
        yield Evidence(
            "class DatastoreKindStr in the config", ("0.3.0", "0.4.0")
        )
    if "config" in hyper_parameters:
        yield Evidence("a config in the hyper-parameters", _since("0.3.0"))
    elif "args" in hyper_parameters:
        yield Evidence("args and no config", _before("0.3.0"))
    args = hyper_parameters.get("args")
    if isinstance(args, Instance) and args.attributes:
        telling = _TELLING & set(args.attributes)
        fitting = tuple(
            release for release, known in _ARGUMENTS.items() if known == telling
        )
        # A namespace that was made in Python, or by a development install,
        # fits no release's parser: it says nothing.
        if fitting:
            yield Evidence("the set of args", fitting)


def _since(first: str) -> tuple[str, ...]:
    return RELEASES[RELEASES.index(first) :]


def _before(first: str) -> tuple[str, ...]:
    return RELEASES[: RELEASES.index(first)]


def _span(releases: tuple[str, ...]) -> str:
    if len(releases) > 2:
        return f"{releases[0]} to {releases[-1]}"
    return " or ".join(releases)
