"""``nlam-compat report``: draw a report again, or merge those of shards."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pytest_nlam_compat.commands import add_options

HELP = (
    "Draw a report from results (--nlam-compat-report=results.json), or merge "
    "those of shards. Fails if the merged results are not whole."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("results", metavar="RESULTS", type=Path, nargs="+")
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
    add_options(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
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
    if arguments.json:
        written = [str(path) for path in arguments.outputs]
        said = {
            "reports": written,
            "verdict": verdict(results),
            "incomplete": results["incomplete"],
        }
        print(json.dumps(said, indent=1))
    else:
        print(f"neural-lam checkpoints: {verdict(results)}")
        if results["incomplete"]:
            print(results["incomplete"], file=sys.stderr)
    return int(bool(results["incomplete"]))
