"""What the installed neural_lam offers."""

import pytest

from pytest_nlam_compat.adapters.probe import MARKERS, has


@pytest.fixture(scope="module")
def names(current_adapter):
    from pytest_nlam_compat.adapters.inventory import inventory

    return inventory()


@pytest.mark.neural_lam
def test_the_probe_finds_each_name(names):
    assert len(names) > 500
    assert [name for name in names if not has(*name)] == []
    assert len(set(names)) == len(names)


@pytest.mark.neural_lam
@pytest.mark.parametrize(
    "name",
    [
        ("neural_lam.train_model", "build_predictor"),
        ("neural_lam.train_model", "build_predictor(config)"),
        ("neural_lam.train_model", "--graph"),
        ("neural_lam.models.module", "ForecasterModule"),
        ("neural_lam.models.module", "ForecasterModule(loss)"),
        ("neural_lam.models.module", "ForecasterModule.training_step"),
        ("neural_lam.models", "MODELS"),
    ],
)
def test_names_of_each_kind(names, name):
    assert name in names


@pytest.mark.neural_lam
def test_no_name_that_a_module_has_imported(names):
    assert ("neural_lam.train_model", "ArgumentParser") not in names
    assert ("neural_lam.train_model", "ForecasterModule") not in names


@pytest.mark.neural_lam
def test_the_marker_of_the_newest_release_would_have_been_found(names):
    newest = MARKERS[0]
    assert ((newest.module, newest.name) in names) is newest.present
