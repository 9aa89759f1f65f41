"""Numbers that stand for a tolerance are in the table, or have a name.

Outside of ``numerics/tolerances.py`` a number below 0.01 may only be the
value of a constant of its module, in capitals and with a comment, and nothing
compares by a tolerance of its own.
"""

import ast
import re
import tokenize
from io import StringIO
from pathlib import Path

import pytest

import pytest_nlam_compat

PACKAGE = Path(pytest_nlam_compat.__file__).parent
TABLE = PACKAGE / "numerics" / "tolerances.py"
SMALL = 0.01
KEYWORDS = {"atol", "rtol", "tol", "abs_tol", "rel_tol", "equal_nan"}
FUNCTIONS = {
    "allclose",
    "approx",
    "assert_allclose",
    "assert_almost_equal",
    "assert_close",
    "isclose",
}


def offences(source):
    """Describe what the rule forbids, by line."""
    tree = ast.parse(source)
    allowed = {id(node) for node in named_numbers(tree, source)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if id(node) not in allowed and is_small(node.value):
                found.append((node.lineno, f"the number {node.value}"))
        elif isinstance(node, ast.keyword):
            if node.arg in KEYWORDS:
                found.append((node.value.lineno, f"{node.arg}="))
        elif isinstance(node, ast.Name | ast.Attribute | ast.alias):
            name = ast.unparse(node).rpartition(".")[2]
            if name in FUNCTIONS:
                found.append((node.lineno, name))
    return [f"line {line}: {what}" for line, what in sorted(found)]


def is_small(value):
    return isinstance(value, float) and 0 < abs(value) < SMALL


def named_numbers(tree, source):
    """Numbers in the value of a constant that a comment explains."""
    commented = {
        token.start[0]
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not node.value:
            continue
        places = range(node.lineno - 1, node.end_lineno + 1)
        names = node.targets if isinstance(node, ast.Assign) else [node.target]
        if all(map(is_constant, names)) and commented & set(places):
            yield from ast.walk(node.value)


def is_constant(target):
    return isinstance(target, ast.Name) and re.fullmatch(
        "_?[A-Z][A-Z0-9_]*", target.id
    )


def test_no_tolerance_hides_outside_of_the_table():
    found = {
        str(path.relative_to(PACKAGE)): offences(path.read_text("utf-8"))
        for path in PACKAGE.rglob("*.py")
        if path != TABLE
    }
    assert len(found) > 50
    assert {path: what for path, what in found.items() if what} == {}


def test_the_table_would_be_an_offence():
    # That is: the rule sees what it is made to see.
    assert len(offences(TABLE.read_text(encoding="utf-8"))) >= 3


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1e-6 * y", ["line 1: the number 1e-06"]),
        ("def f(x, least=1e-9): ...", ["line 1: the number 1e-09"]),
        ("if x < 0.001:\n    pass", ["line 1: the number 0.001"]),
        ("X = -1e-9", ["line 1: the number 1e-09"]),
        ("x = 1e-9  # small", ["line 1: the number 1e-09"]),
        ("def f():\n    # Small.\n    X = 1e-9", ["line 3: the number 1e-09"]),
        ("X = 1e-9  # of a variable's spread", []),
        ("# Of the spread.\n_X = {'a': 1e-9}", []),
        ("# Of the spread.\n_X: float = 1e-9", []),
        ("'below 1e-6'", []),
        ("x = 0.0 + 0.25 + 1000.0", []),
        ("torch.allclose(a, b)", ["line 1: allclose"]),
        ("from math import isclose", ["line 1: isclose"]),
        ("check(a, b, atol=ATOL)", ["line 1: atol="]),
    ],
)
def test_the_rule(source, expected):
    assert offences(source) == expected
