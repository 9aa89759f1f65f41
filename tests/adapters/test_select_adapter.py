"""The adapter of an API era, and what is said of an unknown one."""

from pathlib import Path

import pytest
from packaging.version import Version

from pytest_nlam_compat.adapters import probe
from pytest_nlam_compat.adapters.probe import CurrentCode, select_adapter

CURRENT = CurrentCode("9.9", Path("/clone/neural_lam"), Version("9.9"), "none")


@pytest.fixture
def offers(monkeypatch):
    """Let neural_lam offer no more than some names."""

    def offer(*names):
        monkeypatch.setattr(
            probe, "has", lambda module, name: f"{module}.{name}" in names
        )

    return offer


@pytest.mark.neural_lam
def test_the_installed_one(current_adapter):
    assert type(current_adapter).__name__ == "ForecasterAdapter"


@pytest.mark.neural_lam
@pytest.mark.parametrize(
    ("names", "adapter"),
    [
        (["neural_lam.models.ForecasterModule"], "ForecasterAdapter"),
        (["neural_lam.models.ar_model.ARModel"], "ARModelAdapter"),
        (
            [
                "neural_lam.models.ForecasterModule",
                "neural_lam.models.ar_model.ARModel",
            ],
            "ForecasterAdapter",
        ),
    ],
)
def test_an_era_is_known_by_its_class(offers, names, adapter):
    offers(*names)
    found = select_adapter(CURRENT)
    assert type(found).__name__ == adapter
    assert found.current is CURRENT


@pytest.mark.neural_lam
def test_an_unknown_api_is_driven_as_the_newest(offers):
    offers()
    assert type(select_adapter(CURRENT)).__name__ == "ForecasterAdapter"


def test_the_hook_it_names_exists():
    from pytest_nlam_compat import hookspecs

    assert hasattr(hookspecs, "pytest_nlam_compat_adapter")
