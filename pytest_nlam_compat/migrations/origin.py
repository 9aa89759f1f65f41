"""Which release wrote a checkpoint.

No release writes its version into a checkpoint, so the answer rests on
evidence, which is always shown with it. A stamp, if there is one, is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from packaging.version import Version

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    contains_instance_of,
)
from pytest_nlam_compat.migrations.releases import (
    CLAMP_BUFFERS,
    FIRST_WITH_PREFIX,
    KIND,
    PREFIX,
    RELEASES,
    has_prefix,
    raise_on_unknown_prefix,
    unwrapped,
    without_prefix,
)
from pytest_nlam_compat.migrations.stamps import (
    raise_on_upstream_stamp,
    recorded_release,
)
from pytest_nlam_compat.references import release_evidence
from pytest_nlam_compat.references.release_evidence import KINDS, WEIGHTS

# Of the research branches of neural-lam, which never became a release: of all,
# and of one. ccai_paper_2023 is not among them: it is 0.1.0.
_RESEARCH_ARGUMENTS = {
    *("kl_beta", "latent_dim", "prior_dist", "crps_weight", "learn_prior"),
    *("vertical_propnets", "encoder_processor_layers", "sample_obs_noise"),
    *("prior_processor_layers",),
}
# Of the releases that had no prefix.
_MODELS = {"graph_lam", "hi_lam", "hi_lam_parallel"}
_GLOBAL = {"expanded_test", "eval_leads"}
# Names that files of some releases have, by what these are names of.
_TELLING = {
    kind: release_evidence.names_of_releases(release_evidence.published(), kind)
    for kind in release_evidence.KINDS
}
_MOST_SHOWN = 5


class Evidence(NamedTuple):
    """What was seen in a file, and the releases that write such a file."""

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


class Origin(NamedTuple):
    """The release that wrote a checkpoint, and what says so."""

    release: str
    evidence: tuple[Evidence, ...]


def detect_origin(data: Mapping[str, Any], said: str | None = None) -> Origin:
    """Detect which release wrote a checkpoint.

    Parameters
    ----------
    data : mapping
        The whole tree of a checkpoint, as ``Checkpoint.data``.
    said : str, optional
        The release that wrote it, according to the user.

    Raises
    ------
    CompatError
        The evidence leaves several releases, or none; it excludes the release
        that the user says; there are no weights, or under a prefix that no
        release has; or a stamp is unknown.
    """
    raise_without_weights(data)
    names = [unwrapped(str(name)) for name in data["state_dict"]]
    raise_on_upstream_stamp(data)
    if not has_prefix(names):
        _raise_on_research(data.get("hyper_parameters"))
    recorded = recorded_release(data)
    if recorded is not None:
        release, seen = recorded
        evidence: tuple[Evidence, ...] = (Evidence(seen, (release,)),)
        if said not in (None, release):
            raise _excluded(str(said), evidence)
        return Origin(release, evidence)
    raise_on_unknown_prefix(names)
    others = tuple(_other_evidence(names, data.get("hyper_parameters")))
    evidence = (_prefix_evidence(names), *others)
    left = _left(evidence)
    # An install between two releases writes the arguments of one with the
    # weights of the next. The weights are what is migrated.
    between = [r for r in _left(evidence[:2]) if _is_next(r, evidence)]
    if said is not None:
        if Version(said) >= FIRST_WITH_PREFIX and not has_prefix(names):
            raise without_prefix(names[0])
        if said not in (left or between):
            raise _excluded(said, evidence)
        return Origin(said, (*evidence, Evidence("--from", (said,))))
    if len(left) > 1 and not _changed(left):
        seen = "nothing to migrate between the releases that are left"
        return Origin(left[0], (*evidence, Evidence(seen, tuple(left))))
    if len(left) != 1:
        part = not has_prefix(names) and str(FIRST_WITH_PREFIX) in _left(others)
        raise _undecided(evidence, left, left or between, part)
    return Origin(left[0], evidence)


def _raise_on_research(hyper_parameters: object) -> None:
    """Refuse a file of a research branch, whatever a user says it is."""
    if not isinstance(hyper_parameters, Mapping):
        return
    args = hyper_parameters.get("args")
    arguments = args.attributes if isinstance(args, InertObject) else {}
    model = arguments.get("model")
    found = _RESEARCH_ARGUMENTS & set(arguments)
    if not found and (not isinstance(model, str) or model in _MODELS):
        return
    kind = "global" if _GLOBAL & set(arguments) else "lam"
    raise CompatError(
        f"The checkpoint was written by the research branch prob_model_{kind} "
        "of neural-lam or a fork, and no migration to a release is known.",
        facts={
            "args.model": printable(str(model)),
            "arguments of that branch": ", ".join(sorted(found)) or "none",
        },
        remedy=f"Use it with that branch (git checkout prob_model_{kind}) or "
        "fork.",
    )


def raise_without_weights(data: Mapping[str, Any]) -> None:
    """Refuse the tree of a file without weights under ``state_dict``."""
    weights = data.get("state_dict")
    if isinstance(weights, Mapping) and weights:
        return
    if "state_dict" not in data:
        found = join_some((printable(str(key)) for key in data), _MOST_SHOWN)
        what = "The file holds no state_dict."
        fact = {"found": found or "nothing"}
    elif isinstance(weights, Mapping):
        what = "The state_dict of the file is empty."
        fact = {"expected": "the weights of a model"}
    else:
        what = "The state_dict of the file is not a table of weights."
        fact = {"found": f"something of type {type(weights).__name__}"}
    raise CompatError(
        what,
        facts=fact,
        remedy="Pass a checkpoint that neural-lam's training has written. If "
        "you have weights alone, save them as the entry state_dict of a dict.",
    )


def _since(first: str) -> tuple[str, ...]:
    return tuple(r for r in RELEASES if Version(r) >= Version(first))


def _before(first: str) -> tuple[str, ...]:
    return tuple(r for r in RELEASES if Version(r) < Version(first))


def _prefix_evidence(names: Iterable[str]) -> Evidence:
    if has_prefix(names):
        return Evidence("weights under forecaster.", _since("0.7.0"))
    return Evidence("no weights under forecaster.", _before("0.7.0"))


def _other_evidence(
    names: Collection[str], hyper_parameters: object
) -> Iterable[Evidence]:
    last = {name.rpartition(".")[2] for name in names}
    if last.issuperset(CLAMP_BUFFERS):
        yield Evidence("buffers of output clamping", _since("0.4.0"))
    else:
        yield Evidence("no buffers of output clamping", _before("0.4.0"))
    patterns = set(map(release_evidence.without_numbers, names))
    found = patterns & _union(_TELLING[WEIGHTS])
    if found:
        yield Evidence(
            f"{KINDS[WEIGHTS]}, such as {min(found)}",
            tuple(
                release
                for release in RELEASES
                if found <= _TELLING[WEIGHTS].get(Version(release), set())
            ),
        )
    if not isinstance(hyper_parameters, Mapping):
        return
    table = dict(hyper_parameters)
    if contains_instance_of(table, KIND):
        yield Evidence(
            "class DatastoreKindStr in the config", ("0.3.0", "0.4.0")
        )
    if "config" in table:
        yield Evidence("a config in the hyper-parameters", _since("0.3.0"))
    elif "args" in table:
        yield Evidence("args and no config", _before("0.3.0"))
    yield from _evidence_by_names(table)


def _union(known: Mapping[Version, frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*known.values())


def _evidence_by_names(table: dict[str, Any]) -> Iterable[Evidence]:
    """Compare names in the hyper-parameters with those of each release.

    Names that fit no release say nothing: a namespace that was made in
    Python, or by a development install.
    """
    args = table.get("args")
    arguments = args.attributes if isinstance(args, InertObject) else None
    for kind, known in _TELLING.items():
        telling = _union(known)
        if kind == WEIGHTS:
            continue
        if kind == "classes":
            found = {n for n in telling if contains_instance_of(table, n)}
        else:
            names = (arguments or {}) if kind == "args" else table
            found = {name for name in telling if name in names}
        fitting = tuple(
            r for r in RELEASES if known.get(Version(r), set()) == found
        )
        if telling and fitting and (arguments or kind != "args"):
            yield Evidence(f"the set of {KINDS[kind]}", fitting)


def _left(evidence: tuple[Evidence, ...]) -> list[str]:
    return [r for r in RELEASES if all(r in each.releases for each in evidence)]


def _changed(releases: list[str]) -> bool:
    """Tell whether a migration lies between releases."""
    oldest, newest = map(Version, (releases[0], releases[-1]))
    return any(oldest < Version(step.since) <= newest for step in HISTORY)


def _excluded(said: str, evidence: tuple[Evidence, ...]) -> CompatError:
    return CompatError(
        f"neural-lam {said} did not write this checkpoint.",
        facts={"--from": said, **{e.seen: e.span for e in evidence}},
        remedy="Leave --from out, or name a release that all of this fits.",
    )


def _is_next(release: str, evidence: Iterable[Evidence]) -> bool:
    """Tell whether all evidence fits a release or the one before it."""
    fitting = set(RELEASES[max(0, RELEASES.index(release) - 1) :][:2])
    return all(fitting & set(each.releases) for each in evidence)


def _undecided(
    evidence: tuple[Evidence, ...],
    left: list[str],
    possible: list[str],
    part: bool,
) -> CompatError:
    """Build the error.

    `possible` is what ``--from`` accepts, and `part` whether only the prefix
    excludes 0.7.0.
    """
    facts = {found.seen: found.span for found in evidence}
    facts["left"] = ", ".join(left) or "none"
    what = (
        "Several releases of neural-lam may have written this checkpoint."
        if left
        else "The checkpoint holds contradictory evidence of the release that "
        "wrote it."
    )
    remedy = (
        "Name the release that wrote it with --from, such as --from "
        f"{possible[-1]}."
        if possible
        else "Pass the checkpoint as neural-lam has written it."
    )
    if part:
        # The names of a predictor are those of the whole model before.
        facts["or"] = (
            f"the predictor of {FIRST_WITH_PREFIX} alone, without the prefix "
            f"{PREFIX!r}"
        )
        put = f"ut {PREFIX!r} before each name of the state_dict, and save it."
        remedy = (
            f"{remedy} If it is the predictor alone, p{put}"
            if left
            else f"P{put}"
        )
    return CompatError(what, facts=facts, remedy=remedy)
