"""The matrix of releases and cases in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from pytest_nlam_compat.errors import counted

# Of a tolerance.
_LEAST_SHOWN = 0.01

_NATIVE_CHECK = "test_native"
_ROLLOUTS = {"test_outputs", "test_outputs_float32"}
_NATIVE = {"equal": "ok", "differs": "wrong", "fails": "no"}
_LEGEND = (
    "native/migrated: ok, no = does not load or run, - = was not run, wrong =",
    "other outputs and no error; in capitals if it fails; %: of the tolerance",
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

    def __str__(self) -> str:
        if self.void:
            return "void"
        if not self.checked:
            return "-"
        return f"{self._native_route()}/{self._migrated_route()}"

    def _native_route(self) -> str:
        if _NATIVE_CHECK not in self.failed:
            return _NATIVE.get(self.native, "-")
        return _NATIVE.get(self.native, "fail").upper()

    def _migrated_route(self) -> str:
        if self.failed - {_NATIVE_CHECK}:
            return "FAIL"
        # That a file opens or loads says nothing of what it computes.
        if not self.checked & _ROLLOUTS:
            return "-"
        return "ok" if self.share is None else percent(self.share)


def percent(share: float) -> str:
    """Return a share of a tolerance as a short text."""
    if share == 0:
        return "0%"
    return f"{100 * share:.0f}%" if share >= _LEAST_SHOWN else "<1%"


def colour(cell: str) -> str:
    """Return the name of the colour of a cell, as pytest's; empty if none."""
    if any(part.isupper() for part in cell.split("/")):
        return "red"
    if "wrong" in cell or cell == "void":
        return "yellow"
    return "green" if "ok" in cell or cell.endswith("%") else ""


def render(
    cells: Mapping[tuple[Version, str], Cell],
    width: int,
    *,
    merge: bool,
    paint: Callable[[str, str], str] = lambda text, colour: text,
) -> Iterator[str]:
    """Print the matrix: a row for each case, a column for each release.

    With `merge`, cases whose cells are equal share a row, and void cases are
    counted only. Releases that do not fit into `width` go into a block below.
    The legend and the reasons of void cases follow. `paint` puts the colour
    that is named into a text.
    """
    releases = sorted({release for release, _ in cells})
    rows: dict[tuple[str, ...], list[str]] = {}
    for case in sorted({case for _, case in cells}):
        texts = [str(cells.get((release, case), "")) for release in releases]
        rows.setdefault((*texts, "" if merge else case), []).append(case)
    table = [("", [str(release) for release in releases])]
    for key, (first, *others) in rows.items():
        title = f"{first} +{len(others)}" if others else first
        table.append((title, [*key[:-1]]))
    head = max(len(title) for title, _ in table)
    columns = zip(*(texts for _, texts in table), strict=True)
    widths = [max(map(len, column)) + 1 for column in columns]
    if head + sum(widths) + len(widths) <= width:
        widths = [each + 1 for each in widths]
    for block in _blocks(widths, width - head):
        for title, texts in table:
            # Padded before it is painted: colours have no width.
            last = max((at for at in block if texts[at]), default=-1)
            row = "".join(
                " " * (widths[at] - len(texts[at]))
                + paint(texts[at], colour(texts[at]))
                for at in block
                if at <= last
            )
            yield f"{title:<{head}}{row}".rstrip()
        yield ""
    yield from _LEGEND
    void = sum(bool(cell.void) for cell in cells.values())
    if merge and void:
        cases = counted(void, "case")
        yield f"void: {cases} that a release can't run; -v shows why"
    else:
        yield from reasons(cells)


def _blocks(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Split columns into blocks that fit; one column always does."""
    block: list[int] = []
    used = 0
    for column, own in enumerate(widths):
        if block and used + own > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += own
    if block:
        yield block


def reasons(cells: Mapping[tuple[Version, str], Cell]) -> Iterator[str]:
    """Say why cells are void, each reason once."""
    found: dict[str, list[str]] = {}
    for (release, case), cell in cells.items():
        if cell.void:
            found.setdefault(cell.void, []).append(f"{release}-{case}")
    for reason, where in found.items():
        yield f"void: {', '.join(where)}: {reason}"
