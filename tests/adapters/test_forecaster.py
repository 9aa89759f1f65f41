"""Building, loading and running with the real neural-lam 0.7."""

import pytest
import torch

from pytest_nlam_compat.adapters.binding import ApiChangedError
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.torch_settings import building, default_dtype

pytestmark = pytest.mark.neural_lam

# One of each class, and whatever its constructor is told.
CASES = [
    "graph_lam",
    "graph_lam-multiscale",
    "graph_lam-std-clamp",
    "graph_lam-window21",
    "graph_lam-propagation",
    "hi_lam-propagation",
    "hi_lam_parallel",
]


class Ready:
    """What is needed to build the model of a real reference."""

    def __init__(self, reference, adapter, folder):
        from pytest_nlam_compat.adapters.adapter import Predictor
        from pytest_nlam_compat.adapters.datastore import StoredDatastore

        self.reference = reference
        self.adapter = adapter
        self.path = reference.write(folder)
        self.datastore = StoredDatastore(reference.dataset, folder, "f4")
        saved = torch.load(self.path, weights_only=False)  # a frozen one
        self.hyper_parameters = saved["hyper_parameters"]
        self.checkpoint = {
            "state_dict": saved["state_dict"],
            "optimizer_states": [],
        }
        stored = reference.description["predictor"]
        self.predictor = Predictor(**stored) if stored else None

    def build(self):
        return self.adapter.build(
            self.hyper_parameters, self.datastore, self.predictor
        )

    def outputs(self, module):
        init, target, forcing, _ = self.reference.batch(torch.float32)
        return self.adapter.outputs(module, init, forcing, target)


@pytest.fixture
def ready(reference_of, current_adapter, tmp_path):
    return lambda case: Ready(
        reference_of(f"0.7.0-{case}"), current_adapter, tmp_path
    )


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("case", CASES)
def test_a_model_is_built_alike_before_there_was_build_predictor(
    ready, case, monkeypatch
):
    """Between #208 and #688 predictors were built inline."""
    from neural_lam import train_model

    ready = ready(case)
    found = []
    for _ in range(2):
        module = ready.build()
        ready.adapter.load_strictly(module, dict(ready.checkpoint))
        found.append((module, ready.outputs(module)))
        monkeypatch.delattr(train_model, "build_predictor", raising=False)
    (built, expected), (inline, outputs) = found
    assert repr(inline) == repr(built)
    assert same(outputs, expected)


def test_clamping_reaches_the_inline_predictor(ready, monkeypatch):
    from neural_lam import train_model

    monkeypatch.delattr(train_model, "build_predictor")
    step = ready("graph_lam-clamp").build().forecaster.predictor
    assert step._output_clamping_upper == {"t2m": 320.0, "r2m": 1.0}
    assert step._output_clamping_lower == {"r2m": 0.0, "q2m": 0.0}


def test_the_settings_of_the_run_reach_the_module(ready):
    # Without args, which 0.7 puts before all else.
    ready = ready("graph_efm-multiscale")
    assert ready.hyper_parameters["args"] is None
    ready.hyper_parameters = {**ready.hyper_parameters, "lr": 0.125}
    assert ready.build().hparams["lr"] == 0.125


def test_a_run_of_0_6_has_args_and_config_only(ready):
    ready = ready("graph_lam")
    ready.hyper_parameters = {
        name: ready.hyper_parameters[name] for name in ("args", "config")
    }
    assert ready.build().hparams["args"] is ready.hyper_parameters["args"]


def test_a_class_that_args_cannot_name(ready):
    ready = ready("graph_efm-multiscale")
    module = ready.build()
    step = ready.adapter.step_predictor(module)
    assert type(step).__name__ == "GraphEFMMultiScale"
    ready.adapter.load_strictly(module, ready.checkpoint)
    assert same(module.state_dict(), ready.reference.state_dict)


@pytest.mark.parametrize("case", ["graph_lam", "graph_efm"])
def test_the_native_loader(ready, case):
    ready = ready(case)
    config = ready.adapter.config(ready.path.with_name("config.yaml"))
    module = ready.adapter.load_native(
        ready.path,
        config,
        ready.reference.description["model"],
        ready.datastore,
        ready.predictor,
    )
    assert same(module.state_dict(), ready.reference.state_dict)


def test_the_step_predictor_is_what_traces_name(ready):
    ready = ready("graph_lam")
    step = ready.adapter.step_predictor(ready.build())
    recorded = {call.module for call in ready.reference.trace.calls}
    assert recorded <= {name for name, _ in step.named_modules()}


def test_a_rollout_has_the_documented_shapes(ready):
    ready = ready("graph_lam-std-clamp")
    init, target, forcing, _ = ready.reference.batch(torch.float32)
    with torch.no_grad():
        prediction, std = ready.adapter.unroll(
            ready.build(), init, forcing, target
        )
    assert prediction.shape == std.shape == target.shape


def test_without_output_std_there_is_none(ready):
    ready = ready("graph_lam")
    init, target, forcing, _ = ready.reference.batch(torch.float32)
    with torch.no_grad():
        _, std = ready.adapter.unroll(ready.build(), init, forcing, target)
    assert std is None
    assert set(ready.outputs(ready.build())) == {"prediction"}


def test_built_in_float64_statics_are_not_rounded(ready):
    """Standardising before widening would cost 7e-9 to 8e-8."""
    from pytest_nlam_compat.adapters.datastore import StoredDatastore

    ready = ready("graph_lam")
    arrays = ready.reference.dataset.arrays
    ready.datastore = StoredDatastore(
        ready.reference.dataset, ready.path.parent, "f8"
    )
    with building(torch.float64):
        step = ready.build().forecaster.predictor
    static, mean, std = (
        torch.from_numpy(arrays[f"static{kind}"]).double()
        for kind in ("", "_mean", "_std")
    )
    assert step.grid_static_features.dtype is torch.float64
    assert torch.equal(step.grid_static_features, (static - mean) / std)


def test_the_loss_is_that_of_the_training_step(ready):
    ready = ready("graph_lam-weights")
    module = ready.build().double()
    checkpoint = dict(ready.checkpoint)
    ready.adapter.load_strictly(module, checkpoint)
    with default_dtype(torch.float64):
        loss = ready.adapter.training_loss(module, ready.reference.batch())
    expected = ready.reference.group("golden64")["loss"]
    assert loss.shape == ()
    assert loss.requires_grad
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_is_standardised_after_its_transfer(ready):
    ready = ready("graph_lam")
    args = ready.hyper_parameters["args"]
    batch = ready.adapter.batch(ready.build(), ready.datastore, args, [1], 3)
    for found, recorded in zip(batch, ready.reference.batch(), strict=True):
        assert torch.equal(found.to(recorded.dtype), recorded[1:2])


@pytest.mark.parametrize("signature", ["batch", "batch, batch_idx", "b, i"])
@pytest.mark.parametrize("returned", ["loss", "{'loss': loss, 'step': 1}"])
def test_a_training_step_as_lightning_takes_it(ready, signature, returned):
    """To Lightning all of these are the same, and so they are here."""
    ready = ready("graph_lam")
    batch = ready.reference.batch(torch.float32)
    module = ready.build()
    expected = ready.adapter.training_loss(module, batch)
    step = module.training_step
    names = {"step": step}
    first = signature.partition(",")[0]
    exec(
        f"def training_step({signature}):\n"
        f"    loss = step({first})\n"
        f"    return {returned}\n",
        names,
    )
    module.training_step = names["training_step"]
    assert torch.equal(ready.adapter.training_loss(module, batch), expected)


def test_a_data_module_that_needs_more_is_one_error(ready, monkeypatch):
    from neural_lam import train_model

    class Needy(train_model.WeatherDataModule):
        def __init__(self, datastore, topology):
            pass

    monkeypatch.setattr(train_model, "WeatherDataModule", Needy)
    ready = ready("graph_lam")
    args = ready.hyper_parameters["args"]
    with pytest.raises(ApiChangedError) as raised:
        ready.adapter.data_module(ready.datastore, args, 3)
    assert raised.value.facts["found"].endswith("Needy(datastore, topology)")
    assert "def data_module(self, datastore, args" in raised.value.remedy


def test_a_batch_goes_through_all_hooks_of_its_transfer(ready):
    ready = ready("graph_lam")
    module = ready.build()
    standardise = module.on_after_batch_transfer
    module.on_before_batch_transfer = standardise
    module.on_after_batch_transfer = lambda batch, index: batch
    args = ready.hyper_parameters["args"]
    batch = ready.adapter.batch(module, ready.datastore, args, [1], 3)
    for found, recorded in zip(batch, ready.reference.batch(), strict=True):
        assert torch.equal(found.to(recorded.dtype), recorded[1:2])


def test_a_run_that_does_not_fit(ready):
    ready = ready("graph_lam")
    weights = dict(ready.checkpoint["state_dict"])
    prefix = "forecaster.predictor."
    weights[f"{prefix}grid_embed.0.bias"] = weights.pop(
        f"{prefix}grid_embedder.0.bias"
    )
    narrow = weights[f"{prefix}grid_embedder.0.weight"][:, :-1]
    weights[f"{prefix}grid_embedder.0.weight"] = narrow
    with pytest.raises(CompatError) as raised:
        ready.adapter.load_strictly(
            ready.build(), {"state_dict": weights, "optimizer_states": []}
        )
    assert str(raised.value) == (
        "The migrated checkpoint does not fit the current model.\n"
        f"  missing: {prefix}grid_embedder.0.bias\n"
        f"  unexpected: {prefix}grid_embed.0.bias\n"
        f"  shape differs: {prefix}grid_embedder.0.weight (4, 16) instead "
        "of (4, 17)\n"
        "If the change is intended, add a migration: in neural-lam's own "
        "loader, or one of the repository for this plugin."
    )


def test_of_many_names_the_first_are_told(ready):
    ready = ready("graph_lam")
    names = sorted(ready.checkpoint["state_dict"])
    with pytest.raises(CompatError) as raised:
        ready.adapter.load_strictly(
            ready.build(), {"state_dict": {}, "optimizer_states": []}
        )
    shown = ", ".join(names[:8])
    assert raised.value.facts == {
        "missing": f"{shown} and {len(names) - 8} more"
    }


def test_the_current_code_s_own_loader_may_fix_it(ready, monkeypatch):
    """Its ``on_load_checkpoint`` comes last, before the strict load."""
    ready = ready("graph_lam")
    module = ready.build()
    bare = {
        name.removeprefix("forecaster.predictor."): tensor
        for name, tensor in ready.checkpoint["state_dict"].items()
    }
    # 0.7 adds the prefix of the checkpoints of 0.6.
    ready.adapter.load_strictly(
        module, {"state_dict": bare, "optimizer_states": []}
    )
    assert same(module.state_dict(), ready.reference.state_dict)


def test_0_7_can_run_everything(current_adapter):
    for model in ("graph_lam", "hi_lam", "hi_lam_parallel"):
        assert current_adapter.cannot_run(model) is None
