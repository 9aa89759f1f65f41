"""What one process measures, with the kernels that it was started with."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from unittest import mock

import torch
from emulations import HARM, ORDERS, OrderOfSums


def subjects(device, names=()):
    """Put references in front of the current code: all, or those named."""
    from loguru import logger

    from pytest_nlam_compat.adapters.probe import probe, select_adapter
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.references.release_archive import ReleaseArchive
    from pytest_nlam_compat.references.store import Store
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    logger.remove()
    adapter, store = select_adapter(probe()), Store.locate()
    for release in store.releases:
        archive = ReleaseArchive(store.archive(release))
        for case in archive.cases:
            reference = Reference(archive, case)
            if names and reference.id not in names:
                continue
            if not adapter.cannot_run(reference.description["model"]):
                with tempfile.TemporaryDirectory() as folder:
                    yield ReferenceUnderTest(
                        reference, adapter, Path(folder), device
                    )


def measure(device, threads, *, harm, names=()):
    """Measure shares of tolerances of all references.

    Returns
    -------
    dict
        ``kernels`` of torch; ``harmless`` and ``harm``, by what is done, then
        by reference: share of the tolerance; ``row``, the same of the row
        float32 alone.
    """
    from pytest_nlam_compat.numerics.torch_settings import choose_device

    device = choose_device(device)
    torch.set_num_threads(threads)
    answer = {
        "kernels": torch.backends.cpu.get_cpu_capability()
        if device.type == "cpu"
        else torch.cuda.get_device_name(),
        "harmless": {},
        "harm": {},
        "row": {},
    }

    def add(kind, what, reference, share):
        answer[kind].setdefault(what, {})[reference.id] = share

    with (
        warnings.catch_warnings(),
        # While models run there is one thread: here it is as many as asked.
        mock.patch.object(torch, "set_num_threads"),
    ):
        warnings.simplefilter("ignore")
        for subject in subjects(device, names):
            reference = subject.reference
            model = subject.migrated_model(torch.float64)
            share, _ = shares(subject, model, torch.float64)
            add("harmless", "float64", reference, share)
            model = subject.migrated_model(torch.float32)
            for name, order in ORDERS.items():
                with OrderOfSums(order) as mode:
                    share, alone = shares(subject, model, torch.float32)
                # Else a sum was not recognised, and nothing permuted.
                assert mode.sums, reference.id
                what = f"float32, {name} order"
                add("harmless", what, reference, share)
                add("row", what, reference, alone)
            for name, context in HARM.items() if harm else ():
                share, _ = shares(subject, model, torch.float32, context)
                add("harm", name, reference, share)
    return answer


def shares(subject, model, dtype, context=None):
    """Return the largest share of the tolerance, and of the row float32."""
    from pytest_nlam_compat.judging.grade import (
        grade_outputs,
        recorded_rounding,
    )

    if context is None:
        outputs = subject.outputs(model, dtype)
    else:
        with context(model):
            outputs = subject.outputs(model, dtype)
    # In half precision they would fail for that alone.
    outputs = {name: output.to(dtype) for name, output in outputs.items()}

    def rounding():
        return recorded_rounding(subject)

    return (
        grade_outputs(subject.reference, outputs, rounding).share,
        grade_outputs(subject.reference, outputs).share,
    )
