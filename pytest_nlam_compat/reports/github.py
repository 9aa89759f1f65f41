"""What GitHub shows of a run: annotations of lines, and the step's summary.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_nlam_compat.reports.causes import headline, where
from pytest_nlam_compat.reports.markdown import markdown
from pytest_nlam_compat.reports.results import CauseResult, Results

SUMMARY_BYTES = 1024 * 1024
"""What a step may write to its summary; GitHub drops all of a longer one."""

_LINE = re.compile(r"(?P<file>.+?):(?P<line>[1-9]\d*)(?:$|[,\s])")


def commands(results: Results, workspace: Path) -> list[str]:
    """Return an ``::error`` command for each cause, and for a stopped run.

    At the line that the diagnosis names, if it is a file in the workspace.
    """
    package = results["current"].get("path", "")
    found = []
    for cause in results["causes"]:
        message = "\n".join([headline(cause), *where(cause)])
        place = _place(cause, package, workspace)
        found.append(_command(message, place))
    if results["incomplete"]:
        found.append(_command(results["incomplete"], None))
    return found


def _place(
    cause: CauseResult, package: str, workspace: Path
) -> tuple[str, str] | None:
    """Return file and line of a cause, relative to the workspace."""
    match = _LINE.match(cause["source"])
    if match is None or not package:
        return None
    # "neural_lam/a.py" is below the folder that holds the package.
    file = (Path(package).parent / match["file"]).resolve()
    root = workspace.resolve()
    if not file.is_file() or not file.is_relative_to(root):
        return None
    return file.relative_to(root).as_posix(), match["line"]


def _command(message: str, place: tuple[str, str] | None) -> str:
    properties = {"title": "nlam-compat"}
    if place is not None:
        properties = {"file": place[0], "line": place[1], **properties}
    listed = ",".join(f"{k}={_property(v)}" for k, v in properties.items())
    return f"::error {listed}::{_data(message)}"


def _data(text: str) -> str:
    escaped = text.replace("%", "%25")
    return escaped.replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def append_summary(results: Results, path: Path) -> None:
    """Append the Markdown report to a summary, or its verdict if it is long.

    Raises
    ------
    OSError
        The file can't be written.
    """
    used = path.stat().st_size if path.exists() else 0
    text = markdown(results)
    if used + len(text.encode()) >= SUMMARY_BYTES:
        verdict = text.partition("\n")[0]
        text = f"{verdict}\n\nToo long for this page: read the other reports.\n"
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"\n{text}" if used else text)
