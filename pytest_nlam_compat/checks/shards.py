"""Split the references of a run over the jobs of CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.reference import Reference

OPTION = "--nlam-compat-shard"


@dataclass(frozen=True)
class Shard:
    """One part of the references.

    Attributes
    ----------
    index, count : int
        Which of how many parts, from 1 on.
    references : frozenset of str
        Ids of those in this part.
    """

    index: int
    count: int
    references: frozenset[str]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shard_of(text: str, references: Sequence[Reference]) -> Shard:
    """Return one of several parts that take about the same time.

    The parts are the same on every machine: each reference, the longest
    first, goes to the part that has the least to do so far.

    Parameters
    ----------
    text : str
        Of the option, such as ``1/4``.
    references : sequence of Reference
        All that are selected.

    Raises
    ------
    CompatError
        It is no shard, or there are fewer references than shards.
    """
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text, re.ASCII)
    if not match or int(match[1]) > int(match[2]):
        raise CompatError(
            f"{OPTION} is not a shard.",
            facts={
                "expected": "which of how many, such as 1/4 to 4/4",
                "found": text,
            },
            remedy="Correct it, or leave it out for all references.",
        )
    index, count = int(match[1]), int(match[2])
    if count > len(references):
        raise CompatError(
            f"{OPTION} leaves shards without a reference.",
            facts={"shards": count, "references selected": len(references)},
            remedy="Ask for fewer shards, or select more references.",
        )
    newest = max(reference.release for reference in references)
    parts: list[set[str]] = [set() for _ in range(count)]
    loads = [0] * count
    costs = {one.id: cost(one, newest) for one in references}
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        part = loads.index(min(loads))
        parts[part].add(name)
        loads[part] += costs[name]
    return Shard(index, count, frozenset(parts[index - 1]))


def cost(reference: Reference, newest: Version) -> int:
    """Estimate what the checks of a reference cost, in any unit.

    Building, loading and running a model takes time by its layers, which have
    parameter tensors each, and a part that all models have. Those of the newest
    release are saved as well: measured over all of them, three quarters more.
    """
    tensors = len(reference.description.get("resume", ())) + 100
    return tensors * 7 // 4 if reference.release == newest else tensors


class ShardSelector:
    """Deselects what another shard runs.

    Checks of the migrations are in the first. Tests that use no reference run
    in each: they are not ours to split.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    @pytest.hookimpl
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the tests of this shard."""
        others = [item for item in items if not self._has(item)]
        if others:
            items[:] = [item for item in items if self._has(item)]
            config.hook.pytest_deselected(items=others)

    def _has(self, item: pytest.Item) -> bool:
        call = getattr(item, "callspec", None)
        parameters = call.params if call is not None else {}
        reference = parameters.get("nlam_reference")
        if isinstance(reference, Reference):
            return reference.id in self._shard.references
        return "nlam_registry" not in parameters or self._shard.index == 1
