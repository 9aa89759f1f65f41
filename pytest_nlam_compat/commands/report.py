"""Draw a report of results, or merge those of shards.

The exit status is 1 if they are not whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import CommandResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "results",
        metavar="RESULTS",
        type=Path,
        nargs="+",
        help="what pytest --nlam-compat-report=results.json wrote",
    )
    parser.add_argument(
        "-o",
        dest="outputs",
        metavar="REPORT",
        type=Path,
        action="append",
        required=True,
        help="the report: .html, .json or .md; may be repeated, and replaces "
        "an older one",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Read results, merge them, and write the reports."""
    from pytest_nlam_compat.reports.merging import merge
    from pytest_nlam_compat.reports.report_formats import (
        check_targets,
        read_results,
        write_report,
    )
    from pytest_nlam_compat.reports.results import verdict

    check_targets(arguments.outputs)
    results = merge(
        {str(path): read_results(path) for path in arguments.results}
    )
    for path in arguments.outputs:
        write_report(results, path)
    incomplete = results["incomplete"]
    return CommandResult(
        {
            "reports": [str(path) for path in arguments.outputs],
            "verdict": verdict(results),
            "incomplete": incomplete,
        },
        [
            f"neural-lam checkpoints: {verdict(results)}",
            *([incomplete] if incomplete else []),
        ],
        int(bool(incomplete)),
    )
