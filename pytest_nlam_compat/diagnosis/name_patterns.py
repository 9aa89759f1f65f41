"""Renames and patterns that say in few words what happened to many names."""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)

from pytest_nlam_compat.migrations import Operation, Rename
from pytest_nlam_compat.migrations.operations.segments import match

Operations = tuple[Operation, ...]
Described = tuple[str, str, Operations]


def enclosing_pairs(one: str, other: str) -> Iterator[tuple[str, str]]:
    """Yield two names, then what encloses both as long as their ends agree."""
    while one and other:
        yield one, other
        one, _, end = one.rpartition(".")
        other, _, its_end = other.rpartition(".")
        if end != its_end:
            return


def generalise(names: Iterable[str], everything: Collection[str]) -> list[str]:
    """Find few patterns that name some tensors in full, and no others."""
    groups: dict[tuple[int, str], list[str]] = {}
    for name in names:
        segments = name.split(".")
        end = ".".join(segments[-3:])
        groups.setdefault((len(segments), end), []).append(name)
    patterns: list[str] = []
    for members in groups.values():
        pattern = one_pattern(members, everything)
        patterns += members if pattern is None else [pattern]
    return patterns


def one_pattern(
    names: Sequence[str], everything: Collection[str]
) -> str | None:
    """Find the pattern that names some things in full, and no others.

    All `names` have the same number of segments.
    """
    pattern = _common(names)
    covered = {n for n in everything if _is_full(pattern, n)}
    return pattern if covered <= set(names) else None


def exchange(one: str, other: str) -> Operations:
    """Exchange the names of two modules, or of two tensors."""
    aside = f"{one}_exchanged"
    return Rename(one, aside), Rename(other, one), Rename(aside, other)


def renames(
    pairs: Mapping[str, str], given: Collection[str]
) -> list[Described]:
    """Describe renamed tensors by the modules that hold them.

    `pairs` are old and new names, `given` all names of the run. Returns the
    kind of each change, its text, and the operations.
    """
    groups = Counter(
        _renamed_modules(old, new, pairs, given)
        for old, new in pairs.items()
        if old != new
    )
    found: list[Described] = [
        ("exchanged", f"{one} and {other}", exchange(one, other))
        for one, other in groups
        if (other, one) in groups and one < other
    ]
    plain = {
        key: count for key, count in groups.items() if key[::-1] not in groups
    }
    for old, new, count in _merged(plain, given):
        text = f"{old} -> {new} ({count} tensors)"
        whole = any(match(old, n) and not _is_full(old, n) for n in given)
        operations: Operations = (Rename(old, new, alone=not whole),)
        if whole and match(old, new):
            # Into itself: as a whole it would be moved once more each time.
            inside = [name for name in pairs if match(old, name)]
            operations = tuple(
                Rename(name, pairs[name], alone=True) for name in inside
            )
        found.append(("renamed", text, operations))
    return found


def _is_full(pattern: str, name: str) -> bool:
    found = match(pattern, name)
    return found is not None and not found.rest


def _common(names: Sequence[str]) -> str:
    columns = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(_segment(sorted(set(column))) for column in columns)


def _segment(texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    start = texts[0]
    while not all(text.startswith(start) for text in texts):
        start = start[:-1]
    # ``*`` stands for one character at least.
    if start in texts:
        start = start[:-1]
    return f"{start}*"


def _renamed_modules(
    old: str, new: str, pairs: Mapping[str, str], given: Collection[str]
) -> tuple[str, str]:
    """Return the outermost modules that were renamed as a whole."""
    best = old, new
    for start, target in enclosing_pairs(old, new):
        if start == target:
            break
        inside = [n for n in given if n.startswith(f"{start}.")]
        if all(pairs.get(n) == target + n.removeprefix(start) for n in inside):
            best = start, target
    return best


def _merged(
    groups: Mapping[tuple[str, str], int], given: Collection[str]
) -> list[tuple[str, str, int]]:
    """Join renames of one segment in many places to patterns."""
    alike: dict[tuple[int, str, str, str], list[tuple[str, str]]] = {}
    for old, new in groups:
        was, now = old.split("."), new.split(".")
        differ = [i for i in range(min(len(was), len(now))) if was[i] != now[i]]
        place = differ[0] if differ else len(was)
        key = (place, ".".join(was[place:]), ".".join(now[place:]), was[0])
        alike.setdefault(key, []).append((old, new))
    merged = []
    for (place, was_rest, now_rest, _), members in alike.items():
        heads = [".".join(old.split(".")[:place]) for old, _ in members]
        count = sum(groups[member] for member in members)
        pattern = _common(heads) if len(members) > 1 and place else ""
        old, new = f"{pattern}.{was_rest}", f"{pattern}.{now_rest}"
        covered = {n for n in given if pattern and match(old, n)}
        meant = {
            n
            for n in given
            for m, _ in members
            if n == m or n.startswith(f"{m}.")
        }
        if pattern and covered == meant:
            merged.append((old, new, count))
        else:
            merged += [(o, n, groups[o, n]) for o, n in members]
    return merged
