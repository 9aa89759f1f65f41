"""What happened to the tensors of a run, in few words."""

from pytest_nlam_compat.diagnosis.load_failure import headline
from pytest_nlam_compat.diagnosis.parameter_matching import match_parameters

PREFIX = "forecaster.predictor."


def told(before, after):
    return headline(
        match_parameters(
            {f"{PREFIX}{name}": shape for name, shape in before.items()},
            {f"{PREFIX}{name}": shape for name, shape in after.items()},
        )
    )


def test_a_module_is_named_without_what_every_name_begins_with():
    before = {"a.0.weight": (4, 3), "a.0.bias": (4,)}
    after = {"b.0.weight": (4, 3), "b.0.bias": (4,)}
    assert told(before, after) == "renamed a -> b"


def test_one_rename_in_many_layers_is_one():
    before = {
        f"gnn_{i}.edge_mlp.{j}.weight": (4, 3) for i in "ab" for j in "02"
    }
    before |= {f"list.{i}.edge_mlp.0.weight": (4, 3) for i in range(3)}
    after = {n.replace("edge_mlp", "mlp"): s for n, s in before.items()}
    assert told(before, after) == "renamed edge_mlp -> mlp"


def test_widths_and_counts_are_left_out():
    assert told({"a": (4, 3)}, {"a": (4, 5)}) == "columns added a"
    dropped = told({f"m.{i}.weight": (i + 2,) for i in range(5)}, {})
    assert dropped == ("dropped m.0.weight, m.1.weight, m.2.weight and 2 more")
