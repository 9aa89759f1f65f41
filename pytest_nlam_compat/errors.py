"""The one kind of error that users see."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


class CompatError(Exception):
    """What happened, the facts, and what to do about it.

    Parameters
    ----------
    what : str
        One sentence: what happened, in the words of the user.
    facts : mapping of str to object, optional
        Labelled facts, printed one a line: expected, found, file, cause.
    remedy : str
        What to do now.
    shares : mapping of str to float, optional
        Of a failed comparison: the share of each tolerance, by its name.

    Examples
    --------
    >>> print(CompatError(
    ...     "The archive of neural-lam 0.6.0 is not what was published.",
    ...     facts={"expected": "sha256 1a2b", "found": "sha256 3c4d"},
    ...     remedy="Delete it and run again.",
    ... ))
    The archive of neural-lam 0.6.0 is not what was published.
      expected: sha256 1a2b
      found: sha256 3c4d
    Delete it and run again.
    """

    def __init__(
        self,
        what: str,
        *,
        facts: Mapping[str, object] | None = None,
        remedy: str,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.what = what
        self.facts = dict(facts or {})
        self.remedy = remedy
        self.shares = dict(shares or {})
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  {label}: {fact}" for label, fact in self.facts.items()]
        lines.append(self.remedy)
        return "\n".join(lines)

    def plain(self) -> dict[str, object]:
        """Return it as plain data, for JSON."""
        facts = {label: str(fact) for label, fact in self.facts.items()}
        return {"problem": self.what, "facts": facts, "remedy": self.remedy}


@contextmanager
def clear_import_errors() -> Iterator[None]:
    """Turn a failed import, of a package that we need or of ours, into one.

    Raises
    ------
    CompatError
        A package is missing, broken, or of a version that does not fit; or a
        module of this package is broken.
    """
    try:
        yield
    except CompatError:
        raise
    # A broken package raises anything: what counts is that a module was run,
    # not a function. Python removes the frames of the import itself.
    except Exception as cause:
        import traceback

        frames = traceback.extract_tb(cause.__traceback__)
        importing = isinstance(cause, ImportError | SyntaxError) or any(
            frame.name == "<module>" for frame in frames
        )
        # torch can be imported beside a numpy that it was not built for.
        if not importing and "Numpy is not available" not in str(cause):
            raise
        file, line = frames[-1].filename, frames[-1].lineno
        if isinstance(cause, SyntaxError) and cause.filename:
            file, line = cause.filename, cause.lineno
        raise CompatError(
            "pytest-nlam-compat, or a package that it needs, can't be "
            "imported.",
            facts={
                "cause": f"{type(cause).__name__}: {cause}",
                "raised in": f"{file}:{line}",
                "python": sys.executable,
            },
            remedy="If you have edited that file, fix it. Otherwise install "
            "its package again, in a version that fits the others: "
            "`pip install -U pytest-nlam-compat`, then `pip check`.",
        ) from cause


def counted(number: int, what: str) -> str:
    """Return a number of things as text: 1 reference, 2 references."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def join_some(names: Iterable[str], most: int = 8) -> str:
    """Join names for a message: the first few, and how many more there are."""
    found = list(names)
    rest = len(found) - most
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(found[:most]) + more
