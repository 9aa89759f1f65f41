"""Files that something besides neural-lam had a hand in."""

import json
from collections import OrderedDict

import pytest
import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.cli import main
from pytest_nlam_compat.migrations.layout import check_weights

OLD, NEW, FOLDED = "0.5.0-hi_lam", "0.7.0-graph_lam", "0.3.0-hi_lam"


@pytest.fixture
def make(owned, tmp_path):
    """Write a changed reference: ``make(name, change)``, ``change(data)``."""

    def write(name, change, file="old.ckpt"):
        with read_checkpoint(owned(name).checkpoint) as checkpoint:
            change(checkpoint.data)
            write_checkpoint(checkpoint.data, tmp_path / file)
        return tmp_path / file

    return write


@pytest.fixture
def upgrade(owned, tmp_path):
    """Upgrade a file of a reference with all that it needs."""

    def run(file, name, *options):
        case = owned(name)
        graph = tmp_path / "graph" / case.graph.name
        return main(
            [
                *("upgrade", str(file), "-o", str(tmp_path / "new.ckpt")),
                *("--graph", str(case.graph), "--graph-out", str(graph)),
                *("--statistics", str(case.statistics), *options),
            ]
        )

    return run


def loaded(folder):
    return torch.load(folder / "new.ckpt", weights_only=False)


def rename(change):
    def apply(data):
        weights = data["state_dict"]
        data["state_dict"] = OrderedDict(
            (change(name), tensor) for name, tensor in weights.items()
        )

    return apply


@pytest.mark.parametrize("name", [NEW, OLD, FOLDED])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda name: f"_orig_mod.{name}", "torch.compile"),
        (lambda name: f"module.{name}", "DataParallel"),
        (lambda name: f"module._orig_mod.{name}", "torch.compile"),
        (
            lambda name: name.replace("g2m_gnn.", "g2m_gnn._orig_mod."),
            "torch.compile",
        ),
        (
            lambda name: name.replace(
                "m2g_gnn.", "m2g_gnn._checkpoint_wrapped_module."
            ),
            "activation checkpointing",
        ),
        (
            lambda name: f"_fsdp_wrapped_module.{name}".replace(
                "_gnn.", "_gnn._fsdp_wrapped_module."
            ),
            "FSDP",
        ),
    ],
)
def test_wrappers_are_removed_wherever_they_are(
    name, change, told, make, upgrade, owned, tmp_path, capsys
):
    assert upgrade(make(name, rename(change)), name) == 0
    assert told in capsys.readouterr().out
    new = loaded(tmp_path)
    check_weights(new["state_dict"], {}, "0.7.0")
    (tmp_path / "new.ckpt").unlink()
    assert upgrade(owned(name).checkpoint, name) == 0
    plain = loaded(tmp_path)
    assert list(plain["state_dict"]) == list(new["state_dict"])
    for key, tensor in plain["state_dict"].items():
        assert torch.equal(tensor, new["state_dict"][key])
    assert new["optimizer_states"][0]["state"].keys() == (
        plain["optimizer_states"][0]["state"].keys()
    )


def test_two_weights_of_one_name(make, upgrade, capsys):
    def twice(data):
        weights = data["state_dict"]
        weights |= {
            f"module.{name}": tensor for name, tensor in weights.items()
        }

    assert upgrade(make(NEW, twice), NEW) == 1
    assert "two weights have one name" in capsys.readouterr().err


def replaced(*new):
    def change(data):
        weights = data["state_dict"]
        name = next(n for n in weights if n.endswith("m2g_embedder.0.weight"))
        tensor = weights.pop(name)
        for each in new:
            weights[name.removesuffix(".weight") + each] = tensor

    return change


def argument(**values):
    return lambda data: data["hyper_parameters"]["args"].state.update(values)


def beside(name):
    return lambda data: data["state_dict"].update(
        {name: next(iter(data["state_dict"].values()))}
    )


@pytest.mark.parametrize("name", [NEW, OLD])
@pytest.mark.parametrize(
    ("change", "found", "remedy"),
    [
        (replaced(), "m2g_embedder.0.weight", "rename"),
        (replaced(".wieght"), "m2g_embedder.0.wieght", "rename"),
        (replaced(".base_layer.weight", ".lora_A.weight"), "lora_A", "Merge"),
        (replaced(".weight_g", ".weight_v"), "weight_g", "parametrization"),
        (
            replaced(".parametrizations.weight.original0"),
            "parametrizations",
            "parametrization",
        ),
        (replaced(".weight_orig", ".weight_mask"), "_mask", "prune.remove"),
        (beside("ema.grid_embedder.0.weight"), "ema.grid", "remove"),
        (beside("val_rmse.total"), "val_rmse.total", "remove"),
        (argument(model="graph_lam_v2"), "graph_lam_v2", "fork"),
        (argument(hidden_dim=8), "shape of", "hyper-parameters"),
        (argument(processor_layers=7), "missing", "hyper-parameters"),
    ],
)
def test_what_neural_lam_cannot_have_is_refused_by_name(
    name, change, found, remedy, make, upgrade, tmp_path, capsys
):
    file = make(name, change)
    assert upgrade(file, name) == 1
    lines = capsys.readouterr().err.splitlines()
    assert found in "".join(lines[1:-1])
    assert remedy in lines[-1]
    assert not (tmp_path / "new.ckpt").exists()


def test_another_order_of_names_moves_no_moments(
    make, upgrade, owned, tmp_path
):
    """As of tensors that were sorted on their way through another format."""

    def by_name(data):
        data["state_dict"] = dict(sorted(data["state_dict"].items()))

    assert upgrade(make(FOLDED, by_name), FOLDED) == 0
    new = loaded(tmp_path)
    (tmp_path / "new.ckpt").unlink()
    assert upgrade(owned(FOLDED).checkpoint, FOLDED) == 0
    plain = loaded(tmp_path)
    assert list(new["state_dict"]) == list(plain["state_dict"])
    for position, kinds in plain["optimizer_states"][0]["state"].items():
        for kind, moment in kinds.items():
            assert torch.equal(
                moment, new["optimizer_states"][0]["state"][position][kind]
            )


@pytest.mark.parametrize("device", ["cuda:3", "mps", "xpu:1"])
@pytest.mark.parametrize("name", [NEW, OLD])
def test_tensors_load_on_any_machine(
    name, device, make, upgrade, tmp_path, capsys
):
    from dataclasses import replace

    def move(data):
        for key, tensor in data["state_dict"].items():
            storage = replace(tensor.storage, device=device)
            data["state_dict"][key] = replace(tensor, storage=storage)

    file = make(name, move)
    assert upgrade(file, name) == 0
    assert f"Tensors from {device} were marked" in capsys.readouterr().out
    assert all(t.is_cpu for t in loaded(tmp_path)["state_dict"].values())
    (tmp_path / "new.ckpt").unlink()
    assert upgrade(file, name, "--keep-device") == 0
    with read_checkpoint(tmp_path / "new.ckpt") as checkpoint:
        weights = checkpoint.data["state_dict"].values()
        assert {tensor.storage.device for tensor in weights} == {device}


def paths(module, cls):
    from pytest_nlam_compat.checkpoints.stand_ins import (
        GlobalRef,
        InertObject,
    )

    made = InertObject(GlobalRef(module, cls), ("a", "b"), is_call=True)
    return argument(load=made)


@pytest.mark.parametrize("name", [NEW, OLD])
@pytest.mark.parametrize(
    ("module", "cls"),
    [
        ("pathlib", "WindowsPath"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "WindowsPath"),
    ],
)
def test_paths_of_other_systems_load_here(
    name, module, cls, make, upgrade, tmp_path, capsys, monkeypatch
):
    from pytest_nlam_compat.checkpoints import pickler

    with monkeypatch.context() as patched:
        # As it was written there.
        patched.setattr(pickler, "portable", lambda named: named)
        file = make(name, paths(module, cls))
    with pytest.raises((ImportError, NotImplementedError, AttributeError)):
        torch.load(file, weights_only=False)
    assert upgrade(file, name) == 0
    assert f"{module}.{cls}" in capsys.readouterr().out
    path = loaded(tmp_path)["hyper_parameters"]["args"].load
    assert path.parts == ("a", "b")


SETS = {
    "average": lambda weights: {
        "callbacks": {"StochasticWeightAveraging": {"average": weights}}
    },
    "averaged model": lambda weights: {
        "callbacks": {
            "EMA": {
                "n_averaged": 3,
                "model": {
                    "n_averaged": next(iter(weights.values())),
                    **{f"module.{name}": t for name, t in weights.items()},
                },
            }
        }
    },
    "current": lambda weights: {"current_model_state": weights},
}


@pytest.mark.parametrize("name", [OLD, FOLDED])
@pytest.mark.parametrize("kind", SETS)
def test_second_sets_of_weights_are_migrated(
    kind, name, make, upgrade, tmp_path, capsys
):
    def add(data):
        data.update(SETS[kind](OrderedDict(data["state_dict"])))

    file = make(name, add)
    assert main(["inspect", str(file), "--json"]) == 0
    [path] = json.loads(capsys.readouterr().out)["weight_sets"]
    assert main(["inspect", str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"further sets of weights: {path}" in shown
    assert upgrade(file, name) == 0
    assert f"A second set of weights was migrated too: {path}." in (
        capsys.readouterr().out
    )
    new = loaded(tmp_path)
    callbacks = new["callbacks"]
    if kind == "average":
        found = callbacks["StochasticWeightAveraging"]["average"]
    elif kind == "current":
        found = new["current_model_state"]
    else:
        averaged = callbacks["EMA"]["model"]
        assert callbacks["EMA"]["n_averaged"] == 3
        assert "n_averaged" in averaged
        found = {
            n.removeprefix("module."): t
            for n, t in averaged.items()
            if n.startswith("module.")
        }
    assert list(found) == list(new["state_dict"])
    for key, tensor in new["state_dict"].items():
        assert torch.equal(tensor, found[key]), key
        assert tensor.dtype == found[key].dtype


def two_groups(state):
    group = state["param_groups"][0]
    halves = (group["params"][::2], group["params"][1::2])
    return {
        **state,
        "param_groups": [{**group, "params": half} for half in halves],
    }


def frozen(state):
    [group] = state["param_groups"]
    kept = group["params"][:10]
    moments = {n: state["state"][n] for n in kept}
    return {"state": moments, "param_groups": [{**group, "params": kept}]}


def momentum(state):
    kinds = {"momentum_buffer": None}
    return {**state, "state": dict.fromkeys(state["state"], kinds)}


def lbfgs(state):
    return {**state, "state": {0: {"func_evals": 1, "old_dirs": []}}}


def by_name(state):
    moments = {f"weight.{n}": kinds for n, kinds in state["state"].items()}
    return {"state": moments, "param_groups": [{"params": list(moments)}]}


OPTIMIZERS = [two_groups, frozen, momentum, lbfgs, by_name]


def with_optimizer(change):
    def apply(data):
        data["optimizer_states"] = [change(data["optimizer_states"][0])]
        data["lr_schedulers"] = [{"last_epoch": 3}]

    return apply


@pytest.mark.parametrize("change", OPTIMIZERS)
def test_an_optimizer_stays_where_weights_only_get_other_names(
    change, make, upgrade, owned, tmp_path
):
    assert upgrade(make(OLD, with_optimizer(change)), OLD) == 0
    [new] = loaded(tmp_path)["optimizer_states"]
    with read_checkpoint(tmp_path / "old.ckpt") as checkpoint:
        [old] = checkpoint.data["optimizer_states"]
        assert list(new["state"]) == list(old["state"])
        assert [g["params"] for g in new["param_groups"]] == [
            g["params"] for g in old["param_groups"]
        ]


@pytest.mark.parametrize("change", OPTIMIZERS)
def test_an_optimizer_of_today_needs_nothing(change, make, capsys):
    assert main(["upgrade", str(make(NEW, with_optimizer(change)))]) == 0
    assert "has the layout of 0.7.0 already" in capsys.readouterr().out


@pytest.mark.parametrize("change", OPTIMIZERS)
def test_an_unknown_optimizer_is_left_out_before_it_is_judged(
    change, make, upgrade, tmp_path, capsys
):
    file = make(FOLDED, with_optimizer(change))
    assert upgrade(file, FOLDED) == 1
    error = capsys.readouterr().err
    assert "--drop-optimizer" in error
    assert "No checkpoint of neural-lam is like" not in error
    assert upgrade(file, FOLDED, "--drop-optimizer") == 0
    assert "learning rate schedulers" in capsys.readouterr().out
    new = loaded(tmp_path)
    assert new["optimizer_states"] == new["lr_schedulers"] == []


@pytest.mark.parametrize("states", [[3], [{}], [{"state": [], "x": 1}]])
def test_an_optimizer_that_is_none_can_be_left_out(
    states, make, upgrade, tmp_path
):
    file = make(FOLDED, lambda data: data.update(optimizer_states=states))
    assert upgrade(file, FOLDED) == 1
    assert upgrade(file, FOLDED, "--drop-optimizer") == 0


def test_of_a_file_of_today_the_optimizer_can_be_left_out(
    owned, upgrade, tmp_path, capsys
):
    assert upgrade(owned(NEW).checkpoint, NEW, "--drop-optimizer") == 0
    assert loaded(tmp_path)["optimizer_states"] == []
    # There is nothing to leave out of the new file.
    capsys.readouterr()
    again = str(tmp_path / "new.ckpt"), "--drop-optimizer"
    assert main(["upgrade", *again]) == 0
    out = capsys.readouterr().out
    assert "has the layout of 0.7.0 already" in out
    assert "starts anew" not in out


def test_it_says_what_it_did_to_a_wrapped_file_of_today(make, capsys):
    file = make(NEW, rename(lambda name: f"_orig_mod.{name}"))
    assert main(["upgrade", str(file), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["is_changed"]) == ([], True)
    assert main(["upgrade", result["output"]]) == 0
    assert "already" in capsys.readouterr().out
