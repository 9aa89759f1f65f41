"""One name, one thing: of classes and of modules."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "pytest_nlam_compat"
MODULES = sorted(PACKAGE.rglob("*.py"))


def twice(named):
    """Return the names that more than one place has, with these places."""
    places = defaultdict(list)
    for name, place in named:
        places[name].append(place)
    return [
        f"{name}: {', '.join(found)}"
        for name, found in sorted(places.items())
        if len(found) > 1
    ]


def test_the_package_is_found():
    assert len(MODULES) > 50


def test_no_class_name_is_used_twice():
    named = [
        (node.name, f"{module.relative_to(PACKAGE)}:{node.lineno}")
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert twice(named) == []


def test_no_module_name_is_used_twice():
    named = [
        (module.stem, str(module.relative_to(PACKAGE)))
        for module in MODULES
        if module.stem not in ("__init__", "__main__")
        # A subcommand is named as what it serves.
        and module.parent.name != "commands"
    ]
    assert twice(named) == []
