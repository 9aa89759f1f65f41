"""The matrix of releases and cases in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.version import Version

# Of a tolerance; two digits of a percentage show no less.
_LEAST_SHOWN = 1e-4

_NATIVE_CHECK = "test_native"
_ROLLOUTS = {"test_outputs", "test_outputs_float32"}
_NATIVE = {"equal": "ok", "differs": "wrong", "fails": "no"}
_LEGEND = (
    "native / migrated, with the largest share of a tolerance that is used",
    "native: ok = same outputs, wrong = other outputs without an error,",
    "no = does not load or run; in capitals if that is a failure",
    "-: its rollout was not run",
)


@dataclass
class Cell:
    """The result of one reference.

    Attributes
    ----------
    void : str
        Why there is nothing to check; empty otherwise.
    native : str
        ``equal``, ``differs``, ``fails``, or empty if it was not tried.
    failed, checked : set of str
        Names of the checks that failed, and of those that ran.
    share : float or None
        Largest share of a tolerance, of the migrated route.
    """

    void: str = ""
    native: str = ""
    failed: set[str] = field(default_factory=set)
    checked: set[str] = field(default_factory=set)
    share: float | None = None

    def add(
        self,
        check: str,
        passed: bool,
        properties: Mapping[str, Any],
        *,
        setup: bool,
    ) -> None:
        """Add the report of a check, or of its setup, with its properties."""
        # That a setup passed says nothing of the check.
        if not (setup and passed):
            self.checked.add(check)
        if not passed:
            self.failed.add(check)
        self.native = str(properties.get("nlam_native", self.native))
        share = properties.get("nlam_share")
        if share is not None:
            self.share = max(float(share), self.share or 0.0)

    def __str__(self) -> str:
        if self.void:
            return "void"
        if not self.checked:
            return "-"
        return f"{self._native_route()} / {self._migrated_route()}"

    def _native_route(self) -> str:
        if _NATIVE_CHECK not in self.failed:
            return _NATIVE.get(self.native, "-")
        return _NATIVE.get(self.native, "failed").upper()

    def _migrated_route(self) -> str:
        if self.failed - {_NATIVE_CHECK}:
            return "FAILED"
        # That a file opens or loads says nothing of what it computes.
        if not self.checked & _ROLLOUTS:
            return "-"
        return "ok" if self.share is None else f"ok {_percent(self.share)}"


def _percent(share: float) -> str:
    if share == 0:
        return "0%"
    if share < _LEAST_SHOWN:
        return "<0.01%"
    return f"{100 * share:.2g}%"


def render(
    cells: Mapping[tuple[Version, str], Cell], width: int
) -> Iterator[str]:
    """Print the matrix, in as many blocks of columns as `width` allows.

    `cells` are those of each release and case. The legend and the reasons of
    void cases follow.
    """
    releases = sorted({release for release, _ in cells})
    cases = sorted({case for _, case in cells})
    texts = {
        (release, case): str(cells.get((release, case), ""))
        for release in releases
        for case in cases
    }
    head = max(len(str(release)) for release in releases)
    widths = {
        case: max(len(case), *(len(texts[r, case]) for r in releases))
        for case in cases
    }
    for block in _blocks(cases, widths, width - head):
        titles = "".join(f"  {case:<{widths[case]}}" for case in block)
        yield f"{'':<{head}}{titles}".rstrip()
        for release in releases:
            row = "".join(
                f"  {texts[release, case]:<{widths[case]}}" for case in block
            )
            yield f"{release!s:<{head}}{row}".rstrip()
        yield ""
    yield from _LEGEND
    yield from _reasons(cells)


def _blocks(
    cases: list[str], widths: Mapping[str, int], width: int
) -> Iterator[list[str]]:
    """Split columns into blocks that fit; one column always does."""
    block: list[str] = []
    used = 0
    for case in cases:
        needed = widths[case] + 2
        if block and used + needed > width:
            yield block
            block, used = [], 0
        block.append(case)
        used += needed
    if block:
        yield block


def _reasons(cells: Mapping[tuple[Version, str], Cell]) -> Iterator[str]:
    """Say why cells are void, each reason once."""
    reasons: dict[str, list[str]] = {}
    for (release, case), cell in cells.items():
        if cell.void:
            reasons.setdefault(cell.void, []).append(f"{release}-{case}")
    for reason, where in reasons.items():
        yield f"void: {', '.join(where)}: {reason}"
