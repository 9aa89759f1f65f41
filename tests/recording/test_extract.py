"""What is copied of a dataset gives the batch that the dataset gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.recording.extract import extract, refuse_unlike

pytestmark = pytest.mark.neural_lam


@pytest.fixture
def stored(reference_of, tmp_path):
    from pytest_nlam_compat.adapters.datastore import StoredDatastore

    def datastore(case, **changes):
        dataset = reference_of(f"0.7.0-{case}").dataset
        dataset = replace(dataset, **changes)
        return dataset, StoredDatastore(dataset, tmp_path, "f4")

    return datastore


@pytest.mark.parametrize(
    "case", ["graph_lam", "graph_lam-forecast", "graph_lam-ensemble"]
)
def test_the_first_samples_are_copied_with_their_statistics(case, stored):
    dataset, datastore = stored(case)
    length = 6
    found = extract(datastore, 1, length)
    assert found.is_forecast == dataset.is_forecast
    assert found.is_ensemble == dataset.is_ensemble
    assert found.names == dataset.names
    assert found.start.startswith(dataset.start)
    assert found.step_hours == dataset.step_hours
    times = 1 if dataset.is_forecast else length
    for name, array in dataset.arrays.items():
        if name in ("state", "forcing"):
            array = array[:times]
        np.testing.assert_array_equal(found.arrays[name], array, name)


def test_a_step_may_be_part_of_an_hour(stored):
    _, datastore = stored("graph_lam", step_hours=0.25)
    found = extract(datastore, 1, 6)
    assert found.step_hours == 0.25
    steps = np.diff(datastore.get_dataarray("state", "train").time.values)
    assert {*steps} == {np.timedelta64(15, "m")}


def test_a_dataset_without_forcing_has_none(stored):
    dataset, _ = stored("graph_lam")
    _, datastore = stored("graph_lam", names={**dataset.names, "forcing": ()})
    found = extract(datastore, 1, 6)
    assert found.arrays["forcing"].shape == (6, 54, 0)
    assert not found.is_ensemble


def test_gaps_are_refused(stored):
    dataset, _ = stored("graph_lam")
    arrays = dict(dataset.arrays)
    arrays["state"] = arrays["state"].copy()
    arrays["state"][3, 5, 1] = np.nan
    _, datastore = stored("graph_lam", arrays=arrays)
    with pytest.raises(CompatError, match="missing or not finite") as error:
        extract(datastore, 1, 6)
    assert error.value.facts == {"in": "state"}
    extract(datastore, 1, 3)


def test_another_batch_is_refused(reference_of):
    reference = reference_of("0.7.0-graph_lam")
    batch = reference.batch(torch.float32)
    refuse_unlike(reference.dataset, batch, batch)
    init, *others = batch
    with pytest.raises(CompatError, match="not those that the dataset") as e:
        refuse_unlike(reference.dataset, (init + 1e-2, *others), batch)
    assert e.value.facts == {"differ": "initial states"}
    *others, times = batch
    with pytest.raises(CompatError):
        refuse_unlike(reference.dataset, (*others, times + 1), batch)
