"""How the columns of an input have changed, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnChange:
    """How the columns of an input now differ from those recorded.

    Attributes
    ----------
    kind : str
        ``same``, ``reordered``, ``scaled`` (sign changes included),
        ``shifted`` (scale and offset), ``added``, ``removed``, ``other``.
    order : tuple of int
        Recorded column that each column is now; -1 for one that is new.
    scale, shift : tuple of float
        Column now = scale * recorded column + shift, after reordering.
    confirmed : bool
        Whether undoing the change gives the recorded input again.
    others : tuple of tuple of int
        Other orders that are confirmed as well.
    """

    kind: str
    order: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    confirmed: bool = False
    others: tuple[tuple[int, ...], ...] = ()

    def __str__(self) -> str:
        if self.kind == "reordered":
            order = _short(self.order)
            if self.others:
                return (
                    "its columns are the recorded ones in another order, "
                    f"which is one of {1 + len(self.others)}"
                )
            return f"its columns are the recorded ones in the order {order}"
        if self.kind in ("scaled", "shifted"):
            return "; ".join(self._units())
        if self.kind == "added":
            new = [i for i, old in enumerate(self.order) if old < 0]
            return f"columns added: {_short(new)}"
        if self.kind == "removed":
            return f"columns left, by their old places: {_short(self.order)}"
        return "its columns are none of the recorded ones"

    def _units(self) -> list[str]:
        changed: dict[str, list[int]] = {}
        for column, (factor, offset) in enumerate(
            zip(self.scale, self.shift, strict=True)
        ):
            if factor == 1 and offset == 0:
                continue
            text = "changed sign" if factor == -1 else f"times {factor:.6g}"
            if offset:
                text += f" plus {offset:.6g}"
            changed.setdefault(text, []).append(column)
        return [f"columns {_short(c)} {text}" for text, c in changed.items()]


def _short(columns: Sequence[int], limit: int = 24) -> str:
    shown = ", ".join(map(str, columns[:limit]))
    return shown + (", ..." if len(columns) > limit else "")
