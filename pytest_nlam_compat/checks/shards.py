"""Split the references of a run over the jobs of CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.reference import Reference

OPTION = "--nlam-compat-shard"


@dataclass(frozen=True)
class Shard:
    """One part of the references, and their ids; the first is 1 of `count`."""

    index: int
    count: int
    references: frozenset[str]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shard_of(text: str, references: Sequence[Reference]) -> Shard:
    """Return one of several parts, which are the same on every machine.

    References are dealt out in turn, by release and case: those of one release
    take about the same time, so the parts do as well. `text` is that of the
    option, such as ``1/4``.

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
    found = sorted(references, key=lambda r: (r.release, r.case))
    part = found[index - 1 :: count]
    return Shard(index, count, frozenset(each.id for each in part))


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
