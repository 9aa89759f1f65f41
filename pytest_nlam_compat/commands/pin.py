"""Make a private reference of your own checkpoint.

It is of the neural-lam that it runs with today. This runs the pickle of the
file, which must name only known classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import CommandResult, add_options, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path)
    add_options(parser, "--graph")
    add_options(parser, "--datastore", required=True)
    parser.add_argument(
        "--into",
        metavar="DIR",
        type=Path,
        default=Path("pinned"),
        help="the folder of pinned references (default: pinned)",
    )
    parser.add_argument(
        "--name",
        default="",
        help="its name in reports (default: that of the file)",
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=int,
        default=1,
        help="the first samples of the training split (default: 1)",
    )
    parser.add_argument(
        "--crop",
        metavar="N",
        type=int,
        default=0,
        help="pin only N x N grid nodes in the middle, and what the mesh needs",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Pin a file, and print what the reference holds."""
    from pytest_nlam_compat.recording.pin import PinRequest, pin
    from pytest_nlam_compat.recording.pinned_run import strength_lines
    from pytest_nlam_compat.recording.release_recorder import quietly

    request = PinRequest(
        arguments.file,
        arguments.datastore,
        arguments.into,
        arguments.graph,
        arguments.name or arguments.file.stem,
        arguments.samples,
        arguments.crop,
    )
    with quietly():
        pinned = pin(request, say)
    description = pinned.description
    lines = [
        f"pinned: {pinned.archive} ({_megabytes(pinned.archive)})",
        f"weights: {pinned.weights} ({_megabytes(pinned.weights)})",
        *strength_lines(description),
        *(
            f"not recorded, {part}: {why}"
            for part, why in description["left_out"].items()
        ),
    ]
    if pinned.dropped:
        lines.append(f"left out of the copy: {', '.join(pinned.dropped)}")
    lines += [
        "next, with the new neural-lam:",
        f"  nlam-compat verify {pinned.archive}",
    ]
    return CommandResult(
        {
            "archive": str(pinned.archive),
            "weights": str(pinned.weights),
            "not_recorded": description["left_out"],
            "left_out": list(pinned.dropped),
        },
        lines,
    )


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f} MB"
