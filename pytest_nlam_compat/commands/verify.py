"""``nlam-compat verify``: run one pinned reference, without pytest."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports.terminal import progress, show

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

HELP = (
    "Check that a pinned checkpoint gives the same numbers with the installed "
    "neural-lam. The exit status is 0 if it does, after the migrations that "
    "nlam-compat upgrade applies, and 1 if not."
)
# In an order in which each model is made once.
_CHECKS = ("loads", "outputs", "outputs_float32", "batch", "loss", "resumes")
_PARTS = {"loss": "loss", "resumes": "resume"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="an archive that nlam-compat pin wrote",
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify a reference, and print what each check says."""
    from pytest_nlam_compat.adapters.probe import probe, select_adapter
    from pytest_nlam_compat.references.pins import open_file

    reference = open_file(arguments.file)
    with progress("Loading neural-lam") as doing:
        import torch

        from pytest_nlam_compat.under_test.large_reference import in_front_of
        from pytest_nlam_compat.upgrade.check import neural_lam_errors

        current = probe()
        if reference.release > current.release:
            raise CompatError(
                f"{reference.id} is of a newer release than the installed "
                "neural-lam.",
                facts={
                    "pinned with": reference.release,
                    "installed": f"neural-lam {current.release}, "
                    f"{current.path}",
                },
                remedy="Install the neural-lam that you upgrade to, or one "
                f"from {reference.release} on.",
            )
        adapter = select_adapter(current)
        defect = adapter.cannot_run(reference.description["model"])
        if defect:
            raise CompatError(
                f"The installed neural-lam can't run {reference.id}.",
                facts={"cause": defect},
                remedy="Choose a later release.",
            )
        doing(f"Checking {reference.id}")
        with (
            tempfile.TemporaryDirectory() as folder,
            neural_lam_errors("run the reference"),
        ):
            subject = in_front_of(
                adapter, reference, Path(folder), torch.device("cpu")
            )
            lines = [*_results(subject)]
            doing("Trying neural-lam's own loader")
            lines += _own_loader(subject)
    title = f"{reference.id} with neural-lam {current.release}, {current.path}"
    show([title, *lines])
    return 0


def _results(subject: ReferenceUnderTest) -> Iterator[str]:
    """Yield a line for each check; raise with the cause if one fails."""
    from pytest_nlam_compat.judging.all_checks import checks_of

    checks = checks_of(None, newest=False)
    for name in _CHECKS:
        part = _PARTS.get(name, "")
        if part and not subject.reference.has(part):
            why = subject.reference.description["left_out"][part]
            yield f"{name}: not pinned. {why}"
            continue
        try:
            checks[name](subject)
        except CompatError as error:
            raise _wrong(subject, name, error) from error
        yield f"{name}: ok"


def _wrong(
    subject: ReferenceUnderTest, check: str, error: CompatError
) -> CompatError:
    """Add the cause to the error of a check."""
    from pytest_nlam_compat.diagnosis.explain import explain
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    with tempfile.TemporaryDirectory() as folder:
        # In full, however large it is: it has to be looked into.
        whole = ReferenceUnderTest(
            subject.reference, subject.adapter, Path(folder), subject.device
        )
        facts = explain(whole, check).facts()
    return CompatError(
        f"wrong: {error.what}",
        facts=error.facts | facts,
        remedy="Do not use this neural-lam for it. `pytest --nlam-compat` says "
        "whether the checkpoints of all releases are concerned, "
        "and searches for a fix.",
    )


def _own_loader(subject: ReferenceUnderTest) -> Iterator[str]:
    """Say whether neural-lam loads the file without our migrations."""
    from pytest_nlam_compat.judging.native_route import try_native
    from pytest_nlam_compat.under_test.large_reference import (
        LargeReferenceUnderTest,
    )

    outcome = ""
    if isinstance(subject, LargeReferenceUnderTest):
        with suppress(CompatError):
            outcome = "equal" if subject.loads_the_same() else ""
    outcome = outcome or try_native(subject).outcome
    right = "right: the numbers are those that were pinned"
    if outcome == "equal":
        yield "neural-lam's own loader: ok, without an upgrade of the file"
        yield right
        return
    problem = "WRONG numbers and no error"
    if outcome == "fails":
        problem = "can't load the file"
    yield f"neural-lam's own loader: {problem}"
    yield f"{right}, AFTER an upgrade of the file: nlam-compat upgrade"
