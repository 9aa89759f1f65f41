"""Room for inputs that a Linear did not have."""

import pytest
import torch
from saved_runs import saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import AddInputColumns


def test_new_inputs_count_for_nothing():
    run = saved_run({"a.weight": (2, 3), "a.bias": (2,)})
    after = AddInputColumns("a.weight", (1, 4)).apply(run)
    weight = after.state_dict["a.weight"]
    assert weight.shape == (2, 5)
    assert torch.equal(weight[:, [0, 2, 3]], run.state_dict["a.weight"])
    assert not weight[:, [1, 4]].any()
    for optimizer in after.optimizers:
        for kind in ("exp_avg", "exp_avg_sq"):
            moment = optimizer.moments["a.weight"][kind]
            assert moment.shape == (2, 5)
            assert not moment[:, [1, 4]].any()


def test_columns_that_cannot_be():
    run = saved_run({"a.weight": (2, 3)})
    with pytest.raises(CompatError, match=r"'a\.weight' would have 4 columns"):
        AddInputColumns("a.weight", (7,)).apply(run)
    for columns in ((2, 1), (1, 1), (-1,)):
        with pytest.raises(ValueError, match="Not ascending columns"):
            AddInputColumns("a.weight", columns)
