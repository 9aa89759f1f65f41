"""Check that a pinned checkpoint gives the same numbers.

It is run with the installed neural-lam. The exit status is 0 if it does, after
the migrations that nlam-compat upgrade applies, and 1 if not.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.commands import CommandResult
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports.terminal import progress

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# In an order in which each model is made once.
_CHECKS = ("outputs", "outputs_float32", "batch", "loss", "resumes")
_NATIVE = {
    "equal": "ok, without an upgrade of the file",
    "differs": "WRONG numbers and no error",
    "fails": "can't load the file",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="an archive that nlam-compat pin wrote",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Verify a reference, and print what each check says."""
    from pytest_nlam_compat.adapters.probe import probe, select_adapter
    from pytest_nlam_compat.references.pins import open_file

    reference = open_file(arguments.file)
    with progress("Loading neural-lam") as doing:
        import torch

        from pytest_nlam_compat.judging.native_route import try_native
        from pytest_nlam_compat.under_test.reference_under_test import (
            ReferenceUnderTest,
        )
        from pytest_nlam_compat.upgrade.check import neural_lam_errors

        current = probe()
        adapter = select_adapter(current)
        defect = adapter.cannot_run(reference.description["model"])
        if reference.release > current.release:
            defect = f"it is of a newer release, {reference.release}"
        if defect:
            raise CompatError(
                f"The installed neural-lam can't run {reference.id}.",
                facts={
                    "cause": defect,
                    "installed": f"neural-lam {current.release}, "
                    f"{current.path}",
                },
                remedy="Install the neural-lam that you upgrade to, or a later "
                "release.",
            )
        doing(f"Checking {reference.id}")
        with (
            tempfile.TemporaryDirectory() as folder,
            neural_lam_errors("run the reference"),
        ):
            subject = ReferenceUnderTest(
                reference, adapter, Path(folder), torch.device("cpu")
            )
            native = try_native(subject).outcome
            results = dict(_results(subject, native == "equal"))
    title = f"{reference.id} with neural-lam {current.release}, {current.path}"
    right = "right: the numbers are those that were pinned"
    if native != "equal":
        right += ", AFTER an upgrade of the file: nlam-compat upgrade"
    return CommandResult(
        {
            "reference": reference.id,
            "release": str(current.release),
            "neural_lam": str(current.path),
            "checks": results,
            "own_loader": native,
        },
        [
            title,
            *(f"{name}: {result}" for name, result in results.items()),
            f"neural-lam's own loader: {_NATIVE[native]}",
            right,
        ],
    )


def _results(
    subject: ReferenceUnderTest, native: bool
) -> Iterator[tuple[str, str]]:
    """Yield what each check says; raise with the cause if one fails.

    `native`: neural-lam's own loader gives the right outputs in float64. A
    large model is not rolled out once more for them.
    """
    from pytest_nlam_compat.diagnosis.explain import explain
    from pytest_nlam_compat.judging.all_checks import CHECKS

    for name in _CHECKS:
        part = CHECKS[name].needs
        if not subject.reference.has(part):
            why = subject.reference.description["left_out"][part]
            yield name, f"not pinned. {why}"
            continue
        try:
            if name != "outputs" or not native:
                CHECKS[name].judge(subject, None)
        except CompatError as error:
            raise CompatError(
                f"wrong: {error.what}",
                facts=error.facts | explain(subject, name).facts(),
                remedy="Do not use this neural-lam for it: stay with the one "
                "that it was pinned under, and report this to neural-lam.",
            ) from error
        yield name, "ok"
