"""neural-lam's own stamp goes along with what a file holds."""

import pytest
import torch

from pytest_nlam_compat.adapters.probe import upstream_registry
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import saved_run_from_checkpoint
from pytest_nlam_compat.migrations.stamps import upstream_stamp

STAMP = "neural_lam_checkpoint_version"


@pytest.fixture
def run(tmp_path):
    """Read a file with whatever else it has into a saved run."""

    def read(**more):
        path = tmp_path / "run.ckpt"
        torch.save({"state_dict": {"w": torch.zeros(1)}, **more}, path)
        with read_checkpoint(path) as checkpoint:
            return saved_run_from_checkpoint(checkpoint.data)

    return read


@pytest.mark.parametrize("newest", [None, 3])
def test_a_file_without_a_stamp_has_none(run, newest):
    assert upstream_stamp(run(epoch=1).stamps, newest) == {}


@pytest.mark.parametrize("stamp", [1, 3])
def test_a_stamp_that_the_code_knows_is_handed_on(stamp, run):
    assert upstream_stamp(run(**{STAMP: stamp}).stamps, 3) == {STAMP: stamp}


@pytest.mark.parametrize(
    ("newest", "shown"), [(2, "2"), (0, "0"), (None, "none")]
)
def test_a_newer_stamp_is_refused(newest, shown, run):
    with pytest.raises(CompatError) as caught:
        upstream_stamp(run(**{STAMP: 3}).stamps, newest)
    assert str(caught.value) == (
        "The checkpoint was written by a newer neural-lam.\n"
        "  neural_lam_checkpoint_version: 3\n"
        f"  newest that the installed neural-lam knows: {shown}\n"
        "Upgrade neural-lam."
    )


@pytest.mark.neural_lam
def test_no_release_up_to_now_has_a_registry():
    assert upstream_registry() is None
