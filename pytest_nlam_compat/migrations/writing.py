"""Steps added to where a repository keeps them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.repository import (
    NAME,
    locate,
    read_steps,
    step_files,
)

KEY = "nlam_compat_migrations"
DEFAULT = Path("nlam_compat_migrations.py")

_HEAD = '''"""Steps of this repository, for runs that were saved before them."""

from pytest_nlam_compat.migrations import *

MIGRATIONS = [
'''
# In a folder, steps of one release are applied by the names of their files.
_IN_A_FOLDER = ("suggested.py", "then_suggested.py", "z_suggested.py")


@dataclass(frozen=True)
class Place:
    """Where a new step goes.

    Attributes
    ----------
    file : pathlib.Path
        Which may not exist yet.
    unnamed : tuple of Migration
        What it holds by now, if pytest does not read it.
    advice : str
        What is to be done so that pytest reads it; empty if it does.
    """

    file: Path
    unnamed: tuple[Migration, ...] = ()
    advice: str = ""

    @property
    def shown(self) -> Path:
        """The file, from where the command was called."""
        here = Path.cwd()
        inside = self.file.is_relative_to(here)
        return self.file.relative_to(here) if inside else self.file


def place_for(named: str, root: Path, wanted: Path | None) -> Place:
    """Find the file that a new step goes into.

    Parameters
    ----------
    named : str
        Value of the ini key; empty where it is not set.
    root : pathlib.Path
        Which that is relative to.
    wanted : pathlib.Path or None
        The file that was asked for.

    Returns
    -------
    Place

    Raises
    ------
    CompatError
        A folder or module takes no further step, or a file can't be read.
    """
    source = _source(named, root) if named else None
    if wanted is None:
        if source is not None:
            return Place(_file_in(source) if source.is_dir() else source)
        file = root / DEFAULT
    else:
        file = wanted.resolve()
        if source is not None and source.resolve() in (file, file.parent):
            return Place(file)
    unnamed = read_steps(file) if file.exists() else []
    value = file.relative_to(root) if file.is_relative_to(root) else file
    return Place(file, tuple(unnamed), f"Set pytest's ini key {KEY} = {value}")


def _source(named: str, root: Path) -> Path:
    """Return the file or folder that the ini key names."""
    path = locate(named, root)
    if path is not None:
        return path
    spec = find_spec(named)
    # It was read before.
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin)
    listed = NAME in file.read_text(encoding="utf-8")
    return file if listed or file.name != "__init__.py" else file.parent


def _file_in(folder: Path) -> Path:
    """Choose a file of a folder whose steps come last."""
    names = [file.name for file in step_files(folder)]
    last = names[-1] if names else ""
    for name in _IN_A_FOLDER:
        if name >= last:
            return folder / name
    raise CompatError(
        "In the folder of steps no new file comes last.",
        facts={"folder": folder, "last": last},
        remedy="Name a file that does with --file.",
    )


def write(steps: Iterable[str], file: Path) -> None:
    """Add steps to a file with a list ``MIGRATIONS``, or begin one.

    Parameters
    ----------
    steps : iterable of str
        The Python of each.
    file : pathlib.Path

    Raises
    ------
    CompatError
        The file does not end with its list, and is left as it is.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else f"{_HEAD}]\n"
    body, _, rest = text.rpartition("]")
    if rest.strip() or not _is_list(text):
        raise CompatError(
            "The steps can't be added to the file: it does not end with its "
            "list of them.",
            facts={"file": file},
            remedy=f"Add them by hand: {NAME} = [..., Migration(...)].",
        )
    body = body.rstrip()
    if not body.endswith(("[", ",")):
        body += ","
    added = "".join(_indented(step) for step in steps)
    written = _with_imports(f"{body}\n{added}]\n")
    part = file.with_name(f"{file.name}.part")
    part.write_text(written, encoding="utf-8")
    part.replace(file)


def _is_list(text: str) -> bool:
    """Tell whether the last that a file does is to list its steps."""
    last = ast.parse(text).body[-1:]
    return any(
        isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.List)
        and NAME in ast.unparse(node).partition("=")[0]
        for node in last
    )


def _with_imports(text: str) -> str:
    """Import what a file uses of `pytest_nlam_compat.migrations`."""
    from pytest_nlam_compat import migrations

    tree = ast.parse(text)
    known: set[str] = set()
    end = 0
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            end = node.end_lineno or 0
            known |= {name.asname or name.name for name in node.names}
        elif isinstance(node, ast.Expr) and not end:
            end = node.end_lineno or 0  # what it says of itself
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    missing = sorted((used & set(migrations.__all__)) - known)
    if not missing or "*" in known:
        return text
    lines = text.splitlines(keepends=True)
    line = f"from {migrations.__name__} import {', '.join(missing)}\n"
    if not end:
        line += "\n"
    return "".join([*lines[:end], line, *lines[end:]])


def _indented(python: str) -> str:
    return "".join(f"    {line}\n" for line in python.splitlines())[:-1] + ",\n"
