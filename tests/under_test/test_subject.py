"""Both routes of real references, in front of the real neural-lam 0.7."""

import pytest
import torch
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import Migration, Scale
from pytest_nlam_compat.numerics.comparison import compare
from pytest_nlam_compat.numerics.tolerances import (
    BATCH,
    FLOAT32,
    FLOAT64,
    LOSS,
    allowed,
)

pytestmark = [
    pytest.mark.neural_lam,
    # From 0.7 on neural-lam says of each older graph that it is one.
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
]
CPU = torch.device("cpu")
F32, F64 = torch.float32, torch.float64
# Nothing to migrate; a layout of before; a pickled class and a shift; noise.
NEWEST = "0.7.0-graph_lam"
PREFIXED = "0.6.0-graph_lam-std"
SHIFTED = "0.4.0-graph_lam-square"
SAMPLED = "0.7.0-graph_efm-multiscale"


@pytest.fixture(scope="module")
def make(reference_of, current_adapter, tmp_path_factory):
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    def make(name, migrations=(), adapter=current_adapter):
        folder = tmp_path_factory.mktemp(name)
        return ReferenceUnderTest(
            reference_of(name), adapter, folder, CPU, migrations
        )

    return make


@pytest.fixture(scope="module")
def subject_of(make):
    subjects = {}

    def shared(name):
        if name not in subjects:
            subjects[name] = make(name)
        return subjects[name]

    return shared


def share(reference, outputs, row):
    """The largest share of a tolerance that outputs use."""
    golden64 = reference.group("golden64")
    golden = reference.group("golden64" if row is FLOAT64 else "golden32")
    return max(
        compare(
            output,
            golden[name],
            allowed(row, golden64[name], reference.description["noise32"]),
            output=name,
        ).share
        for name, output in outputs.items()
    )


@pytest.mark.parametrize("name", [NEWEST, PREFIXED, SHIFTED, SAMPLED])
def test_the_migrated_route_gives_the_golden(subject_of, name):
    subject = subject_of(name)
    for dtype, row in ((F64, FLOAT64), (F32, FLOAT32)):
        module = subject.migrated_model(dtype)
        assert {p.dtype for p in module.parameters()} == {dtype}
        outputs = subject.outputs(module, dtype)
        assert set(outputs) == set(subject.reference.description["outputs"])
        assert {tensor.dtype for tensor in outputs.values()} == {dtype}
        assert share(subject.reference, outputs, row) <= 1


@pytest.mark.parametrize("name", [NEWEST, PREFIXED, SAMPLED])
def test_so_does_the_native_route_where_nothing_else_changed(subject_of, name):
    subject = subject_of(name)
    module = subject.native_model(F64)
    outputs = subject.outputs(module, F64)
    assert share(subject.reference, outputs, FLOAT64) <= 1


def test_models_are_made_once(subject_of):
    subject = subject_of(NEWEST)
    assert subject.migrated_model(F64) is subject.migrated_model(F64)
    assert subject.migrated_model(F64) is not subject.migrated_model(F32)
    assert subject.migrated_model(F64) is not subject.native_model(F64)


def test_outputs_are_the_same_again(subject_of):
    """Noise is replayed from its beginning; nothing else is left behind."""
    for name in (NEWEST, SAMPLED):
        subject = subject_of(name)
        module = subject.migrated_model(F64)
        first, again = (subject.outputs(module, F64) for _ in range(2))
        assert all(torch.equal(first[key], again[key]) for key in first)


def test_the_native_route_of_0_4_fails_with_its_cause(subject_of):
    with pytest.raises(CompatError) as raised:
        subject_of(SHIFTED).native_model(F64)
    what, cause, place, remedy = str(raised.value).split("\n")
    assert what == "Loading it with the current code's loader failed."
    assert cause.startswith(
        "  cause: AttributeError: Can't get attribute 'DatastoreKindStr' on "
    )
    # The line of neural-lam, and not of torch below it.
    assert "train_model.py:" in place
    assert place.endswith(", in load_forecaster_module_from_checkpoint")
    assert remedy == (
        "If the change is intended, add a migration for it. If not, fix the "
        "error above."
    )


def test_a_configuration_that_people_have_to_rewrite_is_read_as_data(make):
    subject = make(NEWEST)
    config = subject.checkpoint.with_name("config.yaml")
    config.write_text("datastore:\n  kind: gone\n  config_path: a\n")
    with pytest.raises(ValueError, match="kind gone is not implemented"):
        subject.adapter.config(config)
    assert subject.native_model(F64) is not None


def test_the_raw_file_is_what_was_recorded(subject_of, recorded):
    content = recorded("0.7.0").read("graph_lam", "checkpoint.ckpt")
    subject = subject_of(NEWEST)
    subject.native_model(F64)
    assert subject.checkpoint.read_bytes() == content


def test_the_recorded_run_is_cast_before_it_is_migrated(subject_of):
    run = subject_of(SHIFTED).float64
    weights = run.state_dict.values()
    assert {tensor.dtype for tensor in weights} == {F64}
    assert run.graph["g2m_features"].dtype is F64
    assert run.graph["g2m_edge_index"].dtype is torch.int64
    assert run.graph_format == "legacy"
    assert run.grid_shape == (10, 10)


def test_steps_are_those_of_the_releases_between(subject_of):
    assert subject_of(NEWEST).steps == []
    assert subject_of(NEWEST).migrated.state_dict.keys() == (
        subject_of(NEWEST).float64.state_dict.keys()
    )
    ids = [step.id for step in subject_of(SHIFTED).steps]
    releases = [Version(step.since) for step in subject_of(SHIFTED).steps]
    assert releases == sorted(releases)
    assert len(set(ids)) == len(ids)
    assert {Version("0.5.0"), Version("0.6.0"), Version("0.7.0")} <= set(
        releases
    )


def test_the_shift_is_what_makes_the_old_graph_right(subject_of):
    subject = subject_of(SHIFTED)
    before = subject.float64.graph["g2m_edge_index"][0]
    after = subject.migrated.graph["g2m_edge_index"][0]
    (shift,) = set((before - after).tolist())
    mesh = sum(len(level) for level in subject.float64.graph["mesh_features"])
    assert shift == int(before.min()) - mesh > 0


def test_hyper_parameters_are_of_the_current_code(subject_of):
    from argparse import Namespace

    from neural_lam.config import NeuralLAMConfig

    for name in (NEWEST, SHIFTED):
        found = subject_of(name).hyper_parameters
        assert type(found["args"]) is Namespace
        assert type(found["config"]) is NeuralLAMConfig
        assert found["config"].datastore.kind == "mdp"


def test_a_step_of_the_repository_under_test_comes_last(make):
    """As one that a contributor registers, with a change of the code."""
    name = "forecaster.predictor.output_map.2.bias"
    halved = Migration(
        id="halved-output",
        since="0.7.0",
        reason="For a test.",
        operations=(Scale(name, 0.5),),
    )
    subject = make(PREFIXED, [halved])
    assert subject.steps[-1] is halved
    # 0.6 had no prefix: the step found the layout of 0.7.
    recorded = subject.float64.state_dict["output_map.2.bias"]
    assert torch.equal(subject.migrated.state_dict[name], 0.5 * recorded)
    outputs = subject.outputs(subject.migrated_model(F64), F64)
    assert share(subject.reference, outputs, FLOAT64) > 1000


@pytest.mark.parametrize("name", [NEWEST, PREFIXED, SHIFTED, SAMPLED])
def test_the_loss_is_the_recorded_one(subject_of, name):
    subject = subject_of(name)
    loss = subject.loss(torch.float64)
    expected = subject.reference.group("golden64")["loss"]
    assert loss.shape == (1,)
    assert loss.dtype is F64
    assert not loss.requires_grad
    found = compare(loss, expected, allowed(LOSS, expected), output="loss")
    assert found.share <= 1


@pytest.mark.parametrize("name", [NEWEST, PREFIXED, SHIFTED, SAMPLED])
def test_the_batch_is_the_recorded_one(subject_of, name):
    subject = subject_of(name)
    batch, recorded = subject.batch(), subject.reference.group("batch")
    assert set(batch) == set(recorded)
    assert torch.equal(batch["target_times"], recorded["target_times"])
    for part, expected in recorded.items():
        assert batch[part].dtype is expected.dtype
        limit = allowed(BATCH, expected)
        assert compare(batch[part], expected, limit, output=part).share <= 1


def test_a_model_that_args_do_not_describe(subject_of):
    assert subject_of(NEWEST).predictor is None
    predictor = subject_of(SAMPLED).predictor
    assert predictor.name == "GraphEFMMultiScale"
    assert predictor.arguments["latent_dim"] == 3


def test_a_model_that_draws_less_is_told(subject_of, monkeypatch):
    subject = subject_of(SAMPLED)
    module = subject.migrated_model(F64)
    drawn = subject.reference.noise("rollout")
    monkeypatch.setattr(
        type(subject.reference), "noise", lambda self, run: [*drawn, drawn[0]]
    )
    with pytest.raises(CompatError) as raised:
        subject.outputs(module, F64)
    # Not wrapped once more: it says what is to be done already.
    assert raised.value.what == (
        "The model draws less noise than its release did."
    )


def test_switches_of_torch_are_put_back(subject_of):
    subject = subject_of(NEWEST)
    subject.outputs(subject.migrated_model(F64), F64)
    subject.loss(torch.float64)
    assert torch.get_default_dtype() is F32
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_build_that_fails(make, current_adapter, monkeypatch):
    from neural_lam import train_model

    def build_predictor(*args):
        raise ValueError("hidden_dim has\n  to be larger")

    monkeypatch.setattr(train_model, "build_predictor", build_predictor)
    with pytest.raises(CompatError) as raised:
        make(NEWEST).migrated_model(F32)
    assert raised.value.what == "Building the model of the current code failed."
    assert raised.value.facts["cause"] == (
        "ValueError: hidden_dim has to be larger"
    )
