"""The blocks of README and docs that a reader would run.

What a block is for is said by its language, and by a comment before it::

    <!-- run: 1 -->           status of the commands of a console block
    <!-- edit: subject -->    a diff of neural-lam, which is committed
    <!-- file: name -->       a file to write
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<directive>edit|file|run)(?:: (?P<argument>[^\n]+?))? -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<content>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment before it."""

    page: str
    line: int
    language: str
    directive: str
    argument: str
    content: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each command, and the lines that it shall print."""
        text = self.content.replace("\\\n", " ")
        if self.language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *output = part.splitlines()
                yield command, output
        elif self.language == "bash":
            for line in text.splitlines():
                if line and not line.startswith("#"):
                    yield line, []


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    text = text_of(page)
    found = []
    for match in _BLOCK.finditer(text):
        indent = len(match["indent"])
        lines = match["content"].splitlines(keepends=True)
        found.append(
            Block(
                page,
                text.count("\n", 0, match.start("language")) + 1,
                match["language"],
                match["directive"] or "",
                match["argument"] or "",
                "".join(line[indent:] or "\n" for line in lines),
            )
        )
    # Else one is written in a way that is not found.
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(found)
    return found


def spoken_of(page: str) -> list[str]:
    """Return the commands that a page names outside of its blocks."""
    text = _BLOCK.sub("", text_of(page))
    indented = re.findall(r"^    ((?:nlam-compat|pytest) .+)$", text, re.M)
    prose = " ".join(text.split())
    named = re.findall(
        r"`((?:nlam-compat|pytest --nlam|nox -s) ?[^`]+)`", prose
    )
    return [c for c in (*indented, *named) if "..." not in c]


def words_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def edits(diff: str) -> Iterator[tuple[str, str, str]]:
    """Read the places of a diff as (file, old, new)."""
    header, *hunks = re.split(r"^@@\n", diff, flags=re.MULTILINE)
    file = header.removeprefix("--- ").strip()
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        yield file, old, new
