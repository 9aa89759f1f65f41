"""Merge the results of shards: runs of parts of the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports.results import (
    NOT_RUN,
    CauseResult,
    Check,
    ReferenceResult,
    Results,
    all_checks,
    missing_shards,
)

_MISSING = "Shards are missing: "


def merge(parts: Mapping[str, Results]) -> Results:
    """Merge results, by the names of their files.

    A part that is not whole, and a shard that is missing, make the merged
    results incomplete.

    Raises
    ------
    CompatError
        The parts are of different code, plugins, references or settings, or
        they contradict each other.
    """
    results = list(parts.values())
    # A run that could not begin does not know what it would have checked.
    first = next((each for each in results if each["current"]), results[0])
    _raise_on_difference(parts)
    alone = len(results) == 1
    told = [_told("" if alone else name, r) for name, r in parts.items()]
    incomplete = [text for text in told if text]
    shards = list(dict.fromkeys(s for r in results for s in r["shards"]))
    if missing := missing_shards(shards):
        incomplete.append(f"{_MISSING}{', '.join(missing)}.")
    merged: Results = {
        **first,
        "incomplete": "\n".join(incomplete),
        "exit_status": max(each["exit_status"] for each in results),
        "started": min(each["started"] for each in results),
        "seconds": round(sum(each["seconds"] for each in results), 1),
        "shards": shards,
        "selected": _union([each["selected"] for each in results]),
        "notices": _distinct(each["notices"] for each in results),
        "references": _references(parts),
        "other_checks": _checks(
            {name: each["other_checks"] for name, each in parts.items()}
        ),
        "causes": [],
    }
    if not (incomplete or any(all_checks(merged))):
        merged["incomplete"] = "Nothing was checked."
    merged["causes"] = _causes(results, merged)
    return merged


def _told(name: str, results: Results) -> str:
    """Return why a part is not whole; which shards lack is found anew."""
    lines = results["incomplete"].splitlines()
    text = "\n".join(one for one in lines if not one.startswith(_MISSING))
    return f"{name}: {text}" if name and text else text


def _raise_on_difference(parts: Mapping[str, Results]) -> None:
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for name, results in parts.items():
        for (what, label), there in _common(results).items():
            first, here = known.setdefault((what, label), (name, there))
            if here != there:
                raise CompatError(
                    f"The results can't be merged: they differ in the {what}.",
                    facts={
                        f"{label} of {first}": here,
                        f"{label} of {name}": there,
                    },
                    remedy="Merge results of one run that was split into "
                    "shards, with one version of everything.",
                )


def _common(results: Results) -> dict[tuple[str, str], str]:
    """Return what all parts of one run have in common, as far as it is known.

    By what it is a fact of, and its label.
    """
    current, shards = results["current"], results["shards"]
    common = {
        ("settings", name): each for name, each in results["settings"].items()
    }
    for what, facts, labels in (
        ("current code", current, ("release", "version", "content")),
        ("plugin and references", results["plugin"], ("version", "registry")),
    ):
        common |= {
            (what, name): facts[name] for name in labels if name in facts
        }
    if current:
        totals = {shard.partition("/")[2] for shard in shards}
        common["shards", "of"] = ", ".join(sorted(totals)) or "not split"
    if shards:
        chosen = [
            f"{name} {fact}" for name, fact in results["selected"].items()
        ]
        common["selection", "selection"] = "; ".join(chosen) or "all"
    return common


def _references(parts: Mapping[str, Results]) -> list[ReferenceResult]:
    """Merge references by id, in the order of release and case."""
    found: dict[str, dict[str, ReferenceResult]] = {}
    for name, results in parts.items():
        for reference in results["references"]:
            found.setdefault(reference["id"], {})[name] = reference
    merged: list[ReferenceResult] = []
    for each in found.values():
        first = next(iter(each.values()))
        lists = {name: one["checks"] for name, one in each.items()}
        merged.append({**first, "checks": _checks(lists)})
    return sorted(merged, key=lambda r: (Version(r["release"]), r["case"]))


def _checks(parts: Mapping[str, Sequence[Check]]) -> list[Check]:
    """Merge checks by id; one that was run counts before one that was not."""
    found: dict[str, tuple[str, Check]] = {}
    for name, checks in parts.items():
        for check in checks:
            seen = found.get(check["id"])
            if seen is None or seen[1]["outcome"] == NOT_RUN:
                found[check["id"]] = name, check
            elif check["outcome"] != NOT_RUN and not _equal(seen[1], check):
                raise CompatError(
                    "The results can't be merged: they contradict each other.",
                    facts={
                        "check": check["id"],
                        seen[0]: seen[1]["outcome"],
                        name: check["outcome"],
                    },
                    remedy="Pass the results of each shard once.",
                )
    return [check for _, check in found.values()]


def _equal(one: Check, other: Check) -> bool:
    without: Any = {"seconds": 0}
    return {**one, **without} == {**other, **without}


def _causes(results: Sequence[Results], merged: Results) -> list[CauseResult]:
    """Merge causes by key; that of most failures comes first."""
    keys = [check["cause"] for check in all_checks(merged)]
    found: dict[str, CauseResult] = {}
    for each in results:
        for cause in each["causes"]:
            count = keys.count(cause["key"])
            own: CauseResult = {**cause, "failures": count}
            seen = found.setdefault(cause["key"], own)
            seen["checks"] = _distinct([seen["checks"], cause["checks"]])
            seen["modules"] = _distinct([seen["modules"], cause["modules"]])
            both = [seen["references"], cause["references"]]
            seen["references"] = _distinct(both)
    return sorted(found.values(), key=lambda c: c["failures"], reverse=True)


def _distinct(lists: Any) -> list[str]:
    return list(dict.fromkeys(text for each in lists for text in each))


def _union(facts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Merge facts; where they differ, all values are named."""
    labels = _distinct(facts)
    return {
        label: "; ".join(_distinct([[f[label]] for f in facts if label in f]))
        for label in labels
    }
