"""neural-lam's own stamp goes along with what a file holds."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.routes.stamp import upstream_stamp

pytestmark = pytest.mark.neural_lam


@pytest.fixture
def registry(monkeypatch):
    """Give the installed neural-lam a registry, as #701 does."""

    def put(newest):
        module = ModuleType("neural_lam.migrations")
        module.__spec__ = SimpleNamespace(name=module.__name__)
        module.MIGRATIONS = [
            SimpleNamespace(target_version=number)
            for number in range(1, newest + 1)
        ]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


@pytest.fixture
def file(tmp_path):
    def write(**more):
        path = tmp_path / "run.ckpt"
        torch.save({"state_dict": {"w": torch.zeros(1)}, **more}, path)
        return path

    return write


def test_a_file_without_a_stamp_has_none(file):
    assert upstream_stamp(file()) == {}


def test_a_stamp_that_the_code_knows_is_handed_on(file, registry):
    registry(3)
    stamp = {"neural_lam_checkpoint_version": 3}
    assert upstream_stamp(file(**stamp)) == stamp


@pytest.mark.parametrize(("newest", "told"), [(2, 2), (0, 0)])
def test_a_newer_stamp_is_refused(newest, told, file, registry):
    registry(newest)
    with pytest.raises(CompatError) as caught:
        upstream_stamp(file(neural_lam_checkpoint_version=3))
    assert str(caught.value) == (
        "The checkpoint was written by a newer neural-lam.\n"
        "  neural_lam_checkpoint_version: 3\n"
        f"  newest that the installed neural-lam knows: {told}\n"
        "Upgrade neural-lam."
    )


def test_a_stamp_without_a_registry_is_refused(file):
    with pytest.raises(CompatError) as caught:
        upstream_stamp(file(neural_lam_checkpoint_version=1))
    assert caught.value.facts == {
        "neural_lam_checkpoint_version": 1,
        "newest that the installed neural-lam knows": "none",
    }
