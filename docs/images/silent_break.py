"""Draw the picture of the README: a checkpoint that loads, and is wrong.

The checkpoint is a reference that neural-lam 0.5.0 wrote on a square domain.
The installed neural-lam loads the raw file with its own loader, without an
error, and rolls it out. Run it with neural-lam 0.7.0::

    python docs/images/silent_break.py docs/images/silent_break.png
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from pytest_nlam_compat.adapters.probe import probe, select_adapter
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.under_test.reference_under_test import (
    ReferenceUnderTest,
)

FIXTURES = Path(__file__).parents[2] / "fixtures"
RELEASE, CASE, SAMPLE, VARIABLE = "0.5.0", "graph_lam-square", 1, "t2m"


def forecasts() -> tuple[np.ndarray, np.ndarray, int]:
    """Return the temperature of the last step, and its hour.

    (Nx, Ny) as 0.5.0 computed it; (Nx, Ny) as the installed neural-lam does.
    Both from the mean of what 0.5.0 computed, in its standard deviations: the
    weights of references are large, and kelvins would look like no weather.
    """
    torch.set_num_threads(1)
    reference = Reference(ReleaseArchive(FIXTURES / f"{RELEASE}.zip"), CASE)
    dataset = reference.dataset
    with TemporaryDirectory() as folder:
        subject = ReferenceUnderTest(
            reference,
            select_adapter(probe()),
            Path(folder),
            torch.device("cpu"),
        )
        module = subject.native_model(torch.float64)
        obtained = subject.outputs(module, torch.float64)["prediction"]
    golden = reference.group("golden64")["prediction"]
    hours = golden.shape[1] * dataset.step_hours
    index = dataset.names["state"].index(VARIABLE)
    then, now = (
        tensor[SAMPLE, -1, :, index].numpy().reshape(dataset.grid_shape)
        for tensor in (golden, obtained)
    )
    mean, spread = then.mean(), then.std()
    return (then - mean) / spread, (now - mean) / spread, hours


def figures(then: np.ndarray, now: np.ndarray) -> str:
    """Say how wrong it is, for the caption and for the test."""
    percent = 100 * np.abs(now - then)
    return (
        f"up to {percent.max():.0f} % of a standard deviation, and by more "
        f"than 1 % at {(percent > 1).sum()} of {percent.size} grid points"
    )


def draw(file: str) -> None:
    """Draw the golden, what was obtained, and the error, side by side."""
    then, now, hours = forecasts()
    mpl.rcParams.update({"font.size": 11})
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    limits = {"vmin": then.min(), "vmax": then.max(), "cmap": "viridis"}
    largest = np.abs(now - then).max()
    fields = (
        (f"by neural-lam {RELEASE}", then, limits),
        ("same file, by 0.7.0", now, limits),
        (
            "error of 0.7.0",
            now - then,
            {"vmin": -largest, "vmax": largest, "cmap": "RdBu_r"},
        ),
    )
    for axis, (title, field, settings) in zip(axes, fields, strict=True):
        image = axis.imshow(field.T, origin="lower", **settings)
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
        figure.colorbar(image, ax=axis, shrink=0.9)
    figure.suptitle(f"2 m temperature after {hours} h, in standard deviations")
    # The test compares these figures: pixels depend on matplotlib.
    figure.savefig(file, dpi=90, metadata={"Description": figures(then, now)})


if __name__ == "__main__":
    draw(*sys.argv[1:])
