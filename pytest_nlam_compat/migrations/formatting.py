"""Python expressions as black writes them, for files that people keep."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable

# A migration stands within a list: four of the 80 columns are indentation.
_WIDTH = 76


def formatted(expression: str) -> str:
    """Format an expression of calls and literals, to be indented by 4."""
    return _formatted(ast.parse(expression, mode="eval").body, "", "")


def import_line(module: str, names: Iterable[str]) -> str:
    """Return the line, or lines, that import names from a module."""
    listed = sorted(names)
    line = f"from {module} import {', '.join(listed)}\n"
    if len(line) <= 80:
        return line
    inner = "".join(f"    {name},\n" for name in listed)
    return f"from {module} import (\n{inner})\n"


def _formatted(node: ast.expr, before: str, after: str) -> str:
    """Write it in one line, or each of its parts in lines of its own."""
    flat = before + _flat(node) + after
    parts = list(_parts(node))
    if len(flat) > _WIDTH and isinstance(node, ast.Constant):
        return "\n".join(_cut(node.value, before, after))
    if len(flat) <= _WIDTH or not parts:
        return flat
    start, end = _ends(node)
    indent = " " * (len(before) - len(before.lstrip(" ")))
    inner = "\n".join(
        _formatted(part, f"{indent}    {name}", ",") for name, part in parts
    )
    return f"{before}{start}\n{inner}\n{indent}{end}{after}"


def _cut(value: object, before: str, after: str) -> Iterable[str]:
    """Cut a string that is too long for a line into several, at its dots."""
    indent = " " * (len(before) - len(before.lstrip(" ")))
    pieces = str(value).split(".")
    text = ""
    for piece in (*(f"{p}." for p in pieces[:-1]), pieces[-1]):
        if text and len(f'{before}{text}{piece}""{after}') > _WIDTH:
            yield f"{before}{json.dumps(text, ensure_ascii=False)}"
            text, before = "", indent
        text += piece
    yield f"{before}{json.dumps(text, ensure_ascii=False)}{after}"


def _parts(node: ast.expr) -> Iterable[tuple[str, ast.expr]]:
    if isinstance(node, ast.Call):
        yield from (("", argument) for argument in node.args)
        yield from ((f"{k.arg}=", k.value) for k in node.keywords)
    elif isinstance(node, ast.Tuple | ast.List):
        yield from (("", element) for element in node.elts)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            assert key is not None
            yield f"{_flat(key)}: ", value


def _ends(node: ast.expr) -> tuple[str, str]:
    if isinstance(node, ast.Call):
        return f"{ast.unparse(node.func)}(", ")"
    if isinstance(node, ast.Tuple):
        return "(", ")"
    return ("[", "]") if isinstance(node, ast.List) else ("{", "}")


def _flat(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return json.dumps(node.value, ensure_ascii=False)
    if not isinstance(node, ast.Call | ast.Tuple | ast.List | ast.Dict):
        return ast.unparse(node)
    start, end = _ends(node)
    inner = ", ".join(name + _flat(part) for name, part in _parts(node))
    single = isinstance(node, ast.Tuple) and len(node.elts) == 1
    return f"{start}{inner}{',' if single else ''}{end}"
