"""Which references the current code's own loader has to load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.native_routes import expected_of

INI_KEY = "nlam_compat_given_up"


@dataclass(frozen=True)
class NativeExpectations:
    """What the newest recorded release loads by itself, less what is given up.

    Attributes
    ----------
    release : Version or None
        That release; None if there is none up to the current code.
    loads : frozenset of str
        Ids of the references that its own loader loads.
    ahead : mapping of str to Version
        Releases of references that are newer than the code, by their id.
    given_up : mapping of str to str
        By pattern of ids, why the repository no longer loads them.
    """

    release: Version | None = None
    loads: frozenset[str] = frozenset()
    ahead: Mapping[str, Version] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)

    def recorded(self, reference: str) -> Version | None:
        """Return the release that loads a reference, if the code has to."""
        if self.reason(reference):
            return None
        loaded = self.release if reference in self.loads else None
        return self.ahead.get(reference, loaded)

    def reason(self, reference: str) -> str:
        """Return why a reference is given up; empty if it is not."""
        for pattern, reason in self.given_up.items():
            if fnmatchcase(reference, pattern):
                return f"{pattern}: {reason}"
        return ""


def native_expectations(
    routes: Mapping[Version, frozenset[str]],
    current: Version,
    entries: Iterable[str],
) -> NativeExpectations:
    """Read what has to load, and what a repository gives up.

    `routes` is what each release loads with its own loader, `entries` are lines
    of the ini key, each ``reference: reason``.

    Raises
    ------
    CompatError
        An entry has no reason, or names no reference.
    """
    known = frozenset[str]().union(*routes.values())
    given_up: dict[str, str] = {}
    for entry in entries:
        pattern, _, reason = (part.strip() for part in entry.partition(":"))
        if not reason:
            raise _entry_error("has an entry without a reason", entry)
        if not any(fnmatchcase(one, pattern) for one in known):
            raise _entry_error("names no reference", entry)
        given_up[pattern] = reason
    release, loads = expected_of(routes, current)
    return NativeExpectations(release, loads, given_up=given_up)


def _entry_error(what: str, entry: str) -> CompatError:
    return CompatError(
        f"The ini key {INI_KEY} {what}.",
        facts={
            "expected": "lines such as '0.5.0-hi_lam*: too slow (#800)'",
            "found": entry,
        },
        remedy="Name references as the ids of the checks do, and say why they "
        "need not load.",
    )
