"""New migrations of a repository: where they go, and what is written there."""

from __future__ import annotations

import ast
import os
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.drafts import draft
from pytest_nlam_compat.migrations.formatting import import_line
from pytest_nlam_compat.migrations.lint import PLACEHOLDER
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.repository import (
    DEFAULT_FOLDER,
    INI_KEY,
    LIST,
    RepositorySetup,
    read_steps,
    step_files,
)

_EMPTY = '''"""Migrations of this repository, for runs saved before them."""

MIGRATIONS = []
'''
_BOM = b"\xef\xbb\xbf"
# In a folder, migrations of one release are applied by the names of files.
_IN_A_FOLDER = ("suggested.py", "then_suggested.py", "z_suggested.py")

_STEP = '''"""A change of neural-lam's layout, for runs saved before it."""

from pytest_nlam_compat.migrations import Migration, Rename

MIGRATIONS = [
    Migration(
        # Never change it once published: upgraded files name it.
        id="{id}",
        # First release with the change. All runs of older ones need it.
        since="{since}",
        reason="{placeholder}: what changed and why, with the pull request.",
        # In order, for weights and optimizer alike. If only some models need
        # them, say which: when=Holds("old_name").
        operations=(
            Rename(
                "forecaster.predictor.old_name",
                "forecaster.predictor.new_name",
            ),
        ),
    ),
]
'''
_TEST = '''"""The migration of {stem}.py, on weights as they were saved."""

from pathlib import Path

import torch

from pytest_nlam_compat.migrations import SavedRun, read_steps

[STEP] = read_steps(Path(__file__).with_name("{stem}.py"))


def test_{stem}():
    weight = torch.tensor([[1.0, 2.0]])
    old = SavedRun({{"forecaster.predictor.old_name.0.weight": weight}}, {{}})
    new = STEP.apply(old).state_dict
    assert list(new) == ["forecaster.predictor.new_name.0.weight"]
    assert torch.equal(new["forecaster.predictor.new_name.0.weight"], weight)
'''


@dataclass(frozen=True)
class Destination:
    """Where a migration is added.

    `unread` is what the file holds by now, if pytest does not read it, and
    `advice` says how to make pytest read it.
    """

    file: Path
    unread: tuple[Migration, ...] = ()
    advice: str = ""


def folder_for_new(setup: RepositorySetup) -> Path:
    """Find the folder in which each new migration gets a file of its own.

    Raises
    ------
    CompatError
        The ini key names a single file, or a folder outside of the
        repository.
    """
    folder = setup.root / (setup.source or DEFAULT_FOLDER)
    if folder.is_file() or folder.suffix == ".py":
        raise CompatError(
            f"{INI_KEY} names one file, and a new migration needs a file of "
            "its own.",
            facts={INI_KEY: setup.source},
            remedy="Move that file into a folder and name the folder, or "
            "write the migration into the file.",
        )
    return _inside(setup, folder)


def _inside(setup: RepositorySetup, path: Path) -> Path:
    """Refuse a path outside of the repository, or that a link leads out of."""
    if path.resolve().is_relative_to(setup.root.resolve()):
        return path
    raise CompatError(
        "New migrations would be written outside of the repository.",
        facts={
            "repository": setup.root.resolve(),
            "folder": path.resolve(),
            INI_KEY: setup.source or "not set",
        },
        remedy=f"Name a folder of the repository with {INI_KEY}.",
    )


def destination(setup: RepositorySetup, wanted: Path | None) -> Destination:
    """Find the file that migrations are added to: `wanted`, or by the setup.

    Raises
    ------
    CompatError
        No file of the folder can come last, or a file can't be read.
    """
    folder = setup.root / (setup.source or DEFAULT_FOLDER)
    if wanted is None:
        file = folder if folder.suffix == ".py" else _last_file(folder)
        _inside(setup, file)
    else:
        file = wanted.resolve()
    is_read = folder.resolve() in (file.resolve(), file.resolve().parent)
    if setup.source and is_read:
        return Destination(file)
    read = folder if wanted is None else file
    unread = read_steps(read) if read.exists() else []
    below = read.is_relative_to(setup.root)
    path = read.relative_to(setup.root) if below else read
    advice = setup.unread(path) if unread else setup.advice(path)
    return Destination(file, tuple(unread), advice)


def _last_file(folder: Path) -> Path:
    """Choose a file of a folder whose migrations come last."""
    names = [file.name for file in step_files(folder)]
    last = names[-1] if names else ""
    for name in _IN_A_FOLDER:
        if name >= last:
            return folder / name
    raise CompatError(
        "No new file would come last in the folder of migrations.",
        facts={"folder": folder, "last": last},
        remedy="Name a file that does with --file.",
    )


def from_here(path: Path) -> Path:
    """Return a path relative to the working directory, if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def write_new(folder: Path, name: str, since: str) -> tuple[Path, Path]:
    """Write a migration to fill in, and its test; nothing is overwritten.

    `name` is of words joined by hyphens, and `since` the first release with
    the change.
    """
    stem = name.replace("-", "_")
    contents = {
        folder / f"{stem}.py": _STEP.format(
            id=f"{since}-{name}", since=since, placeholder=PLACEHOLDER
        ),
        folder / f"test_{stem}.py": _TEST.format(stem=stem),
    }
    for file in contents:
        # A link to nothing would lead elsewhere.
        if os.path.lexists(file):
            raise CompatError(
                "The file exists already.",
                facts={"file": from_here(file)},
                remedy="Choose another name: published migrations never "
                "change.",
            )
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        with draft(file, overwrite=False) as stream:
            stream.write(content.encode())
    step, test = contents
    return step, test


def add_to(file: Path, steps: Iterable[str]) -> None:
    """Add migrations, as Python, to the list of a file, or begin a file.

    Its mode, its line ends and a byte order mark stay, and a link stays one.

    Raises
    ------
    CompatError
        The file does not end with its list, and is left as it is.
    """
    file = file.resolve()
    raw = file.read_bytes() if file.exists() else _EMPTY.encode()
    bom = _BOM if raw.startswith(_BOM) else b""
    crlf = b"\r\n" in raw
    text = raw.removeprefix(bom).replace(b"\r\n", b"\n")
    end = _list_at_the_end(text)
    if end is None:
        raise CompatError(
            "The migrations can't be added to the file: it does not end with "
            "its list of them.",
            facts={"file": file},
            remedy=f"Add them by hand: {LIST} = [..., Migration(...)].",
        )
    comma, bracket = end
    body = text[:bracket]
    if comma is not None:
        body = text[:comma] + b"," + text[comma:bracket]
    added = "".join(textwrap.indent(f"{step},\n", "    ") for step in steps)
    written = body.rstrip() + b"\n" + added.encode() + text[bracket:]
    written = _with_imports(written.decode()).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with draft(file, overwrite=True) as stream:
        stream.write(
            bom + (written.replace(b"\n", b"\r\n") if crlf else written)
        )


def _list_at_the_end(text: bytes) -> tuple[int | None, int] | None:
    """Find where a comma is missing in a file's list, and its closing bracket.

    Offsets in UTF-8; None for a comma that is not missing, and for both where
    the last statement is not the list of migrations.
    """
    try:
        last = ast.parse(text).body[-1]
    except (SyntaxError, ValueError, IndexError):
        return None
    value = getattr(last, "value", None)
    names = ast.unparse(last).partition("=")[0]
    if not isinstance(last, ast.Assign | ast.AnnAssign) or not (
        isinstance(value, ast.List) and LIST in names
    ):
        return None
    starts = [0, *accumulate(map(len, text.splitlines(keepends=True)))]

    def after(node: ast.expr) -> int:
        return starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)

    bracket = after(value) - 1
    if not value.elts:
        return None, bracket
    comma = after(value.elts[-1])
    between = re.sub(rb"#[^\n]*", b"", text[comma:bracket])
    return (None if b"," in between else comma), bracket


def _names_in(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def _with_imports(text: str) -> str:
    """Import what a file uses of `pytest_nlam_compat.migrations`."""
    from pytest_nlam_compat import migrations

    tree = ast.parse(text)
    known: set[str] = set()
    module = migrations.__name__
    place: tuple[int, int] = (0, 0)
    if ast.get_docstring(tree) is not None:
        place = (tree.body[0].end_lineno or 0,) * 2
    ours: set[str] = set()
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = {name.asname or name.name for name in node.names}
        known |= names
        end = node.end_lineno or 0
        if getattr(node, "module", "") == module and all(
            name.asname is None for name in node.names
        ):
            place, ours = (node.lineno - 1, end), names
        elif not ours:
            place = (end, end)
    missing = (_names_in(tree) & set(migrations.__all__)) - known
    if not missing or "*" in known:
        return text
    lines = text.splitlines(keepends=True)
    line = import_line(module, ours | missing)
    after_docstring = not known and place[0]
    gap = "\n" if after_docstring else ""
    return "".join([*lines[: place[0]], gap, line, *lines[place[1] :]])
