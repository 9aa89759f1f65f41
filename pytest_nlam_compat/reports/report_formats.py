"""Report files: which formats there are, how they are written and read."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from pytest_nlam_compat.errors import CompatError, clear_import_errors
from pytest_nlam_compat.files.drafts import draft
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.reports import results as data
from pytest_nlam_compat.reports.markdown import markdown
from pytest_nlam_compat.reports.results import Results

SUFFIXES = (".html", ".json", ".md")
SCHEMA = files("pytest_nlam_compat.reports") / "results-1.schema.json"


def check_targets(paths: list[Path]) -> None:
    """Raise unless each report can be written, before anything is run.

    Raises
    ------
    CompatError
        A format is unknown, a folder does not exist or can't be written to,
        or packages for HTML are missing.
    """
    for path in paths:
        facts = {"report": path}
        if path.suffix.lower() not in SUFFIXES:
            raise CompatError(
                f"There is no report with the suffix {path.suffix!r}.",
                facts={**facts, "suffixes": ", ".join(SUFFIXES)},
                remedy="Choose a name with one of these suffixes.",
            )
        if path.is_dir() or not path.parent.is_dir():
            what = "is a folder" if path.is_dir() else "has no folder"
            raise CompatError(
                f"The report {path.name} {what}.",
                facts={**facts, "folder": path.parent},
                remedy="Make the folder first, or choose another path.",
            )
        if not os.access(path.parent, os.W_OK):
            raise CompatError(
                f"The report {path.name} can't be written.",
                facts={**facts, "folder": path.parent},
                remedy="Fix the permissions of the folder, or choose another.",
            )
    if any(path.suffix.lower() == ".html" for path in paths):
        require_extra("jinja2", "matplotlib")


def require_extra(*modules: str) -> None:
    """Import modules of the extra ``[report]``, or raise a CompatError."""
    from importlib import import_module

    missing = []
    for module in modules:
        try:
            with clear_import_errors():
                import_module(module)
        except CompatError as error:
            if not isinstance(error.__cause__, ModuleNotFoundError):
                raise
            missing.append(module)
    if missing:
        raise CompatError(
            "Packages that reports need are missing.",
            facts={"missing": ", ".join(missing)},
            remedy="Install them: `pip install 'pytest-nlam-compat[report]'`.",
        )


def write_report(results: Results, path: Path) -> None:
    """Write one report, whole or not at all; an older one is replaced.

    Raises
    ------
    CompatError
        It can't be written. What was there before is still there.
    """
    suffix = path.suffix.lower()
    if suffix == ".html":
        from pytest_nlam_compat.reports.html import html

        text = html(results)
    elif suffix == ".md":
        text = markdown(results)
    else:
        text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    with draft(path, overwrite=True) as stream:
        stream.write(text.encode("utf-8", errors="backslashreplace"))


def read_results(path: Path) -> Results:
    """Read a results file, and check it against the schema.

    Raises
    ------
    CompatError
        It can't be read, is of a newer version, or holds something else.
    """
    require_extra("jsonschema")
    import jsonschema

    try:
        text = path.read_text(encoding="utf-8")
        content: Any = json.loads(text, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(path, "can't be read", str(error)) from error
    is_ours = isinstance(content, dict) and content.get("format") == data.FORMAT
    if not is_ours:
        raise _refused(path, "is no results file", "it names no format")
    if content.get("version") != data.VERSION:
        raise CompatError(
            f"{path.name} has a format that this version of "
            "pytest-nlam-compat can't read.",
            facts={
                "expected": f"version {data.VERSION}",
                "found": printable(str(content.get("version"))),
            },
            remedy="Draw it with the version of pytest-nlam-compat that wrote "
            "it, or a newer one.",
        )
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for wrong in validator.iter_errors(content):
        raise _refused(
            path, "is damaged", f"{wrong.json_path}: {wrong.message}"
        )
    results = cast(Results, content)
    for check in data.all_checks(results):
        found = check["map"]
        if found is None:
            continue
        nodes = found["grid"][0] * found["grid"][1]
        if {len(found["golden"]), len(found["difference"])} != {nodes}:
            raise _refused(path, "is damaged", f"the map of {check['id']}")
    return results


def _refused(path: Path, what: str, cause: str) -> CompatError:
    return CompatError(
        f"{path.name} {what}.",
        facts={"file": path, "cause": printable(cause, 300)},
        remedy="Pass a file that --nlam-compat-report=results.json has "
        "written.",
    )


def _refuse_constant(name: str) -> float:
    # Not of JSON: Python reads NaN and Infinity all the same.
    raise ValueError(f"{name} is no number of JSON")
