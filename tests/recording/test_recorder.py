"""Recording real cases with the installed release."""

import io
import json

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.torch_settings import reproducible
from pytest_nlam_compat.recording.cases import CASES
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import (
    ReleaseArchive,
    write_archive,
)

pytestmark = pytest.mark.neural_lam
BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def record(current_adapter, tmp_path_factory):
    from pytest_nlam_compat.recording.recorder import record
    from pytest_nlam_compat.recording.release_recorder import quietly

    def recording(name):
        folder = tmp_path_factory.mktemp(name)
        with quietly(), reproducible():
            return record(BY_NAME[name], current_adapter, folder)

    return recording


@pytest.fixture(scope="module")
def members(record):
    return record("graph_lam-clamp")


@pytest.fixture(scope="module")
def reference(members, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "0.7.0.zip"
    write_archive(path, {"release": "0.7.0", "void": {}}, {"case": members})
    return Reference(ReleaseArchive(path), "case")


def test_members_are_those_of_a_published_case(members, recorded):
    listed = recorded("0.7.0").index["members"]
    start = "graph_lam-clamp/"
    assert set(members) == {
        name.removeprefix(start) for name in listed if name.startswith(start)
    }


def test_its_content_has_the_form_of_a_published_case(reference, reference_of):
    published = reference_of("0.7.0-graph_lam-clamp")
    assert reference.description.keys() == published.description.keys()
    assert reference.state_dict.keys() == published.state_dict.keys()
    form, expected = (
        {
            name: (tuple(tensor.shape), tensor.dtype)
            for name, tensor in each.tensors.items()
            if not name.startswith("trace/columns")
        }
        for each in (reference, published)
    )
    assert form == expected
    assert reference.trace.calls == published.trace.calls
    assert reference.trace.shapes == published.trace.shapes


def test_recorded_again_it_is_the_same(members, record):
    assert record("graph_lam-clamp") == members


def test_nothing_in_it_depends_on_the_global_seed(members, record):
    torch.manual_seed(12345)
    again = record("graph_lam-clamp")
    assert again["state_dict.safetensors"] == members["state_dict.safetensors"]


def test_the_checkpoint_is_one_of_a_trainer(members):
    # Our own of a moment ago.
    saved = torch.load(
        io.BytesIO(members["checkpoint.ckpt"]), weights_only=False
    )
    assert saved["global_step"] == 2
    assert saved["epoch"] == 2
    args = saved["hyper_parameters"]["args"]
    assert (args.model, args.graph, args.hidden_dim) == (
        "graph_lam",
        "1level",
        4,
    )
    assert args.config_path == "config.yaml"
    clamping = saved["hyper_parameters"]["config"].training.output_clamping
    assert clamping.upper == {"t2m": 320.0, "r2m": 1.0}


def test_the_configuration_is_what_a_user_would_write(members):
    assert members["config.yaml"].decode() == (
        "datastore:\n"
        "  kind: mdp\n"
        "  config_path: stored.yaml\n"
        "training:\n"
        "  output_clamping:\n"
        "    upper:\n"
        "      t2m: 320.0\n"
        "      r2m: 1.0\n"
        "    lower:\n"
        "      r2m: 0.0\n"
        "      q2m: 0.0\n"
    )


def test_no_folder_of_this_machine_is_in_it(members, tmp_path_factory):
    folder = str(tmp_path_factory.getbasetemp()).encode()
    assert {name for name, text in members.items() if folder in text} == set()


def test_it_has_passed_the_gate(reference):
    description = reference.description
    strength = description["strength"]
    figures = [*strength["parameters"].values(), *strength["columns"].values()]
    assert min(figures) >= strength["required"]
    assert strength["required"] >= 20 * description["noise32"]


def test_what_was_trained_differs_from_what_was_built(reference, members):
    """Two steps were taken: the moments are of two gradients."""
    saved = torch.load(
        io.BytesIO(members["checkpoint.ckpt"]), weights_only=False
    )
    (optimizer,) = saved["optimizer_states"]
    assert {s["step"].item() for s in optimizer["state"].values()} == {2.0}
    names = reference.description["resume"]
    assert len(names) == len(optimizer["state"])
    for name, state in zip(names, optimizer["state"].values(), strict=True):
        assert state["exp_avg"].shape == reference.state_dict[name].shape
        assert state["exp_avg"].abs().max() > 0


def test_the_published_golden_comes_out_of_a_new_recording(
    reference, current_adapter, tmp_path
):
    """A model of its own, loaded and run by the way of the checks."""
    from pytest_nlam_compat.numerics.comparison import compare
    from pytest_nlam_compat.numerics.tolerances import FLOAT64, allowed
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    subject = ReferenceUnderTest(
        reference, current_adapter, tmp_path, torch.device("cpu")
    )
    golden = reference.group("golden64")["prediction"]
    for module in (
        subject.migrated_model(torch.float64),
        subject.native_model(torch.float64),
    ):
        found = subject.outputs(module, torch.float64)["prediction"]
        limit = allowed(FLOAT64, golden)
        assert compare(found, golden, limit, output="prediction").share <= 1


@pytest.mark.parametrize("name", ["graph_efm-multiscale"])
def test_noise_is_recorded_where_there_is_some(
    current_adapter, tmp_path, name, monkeypatch
):
    """Without the gate, which takes a hundred rollouts."""
    from pytest_nlam_compat.recording import recorder, strength
    from pytest_nlam_compat.recording.release_recorder import quietly

    monkeypatch.setattr(
        strength, "measure", lambda *_: strength.Strength({}, {}, 0.0)
    )
    with quietly(), reproducible():
        members = recorder.record(BY_NAME[name], current_adapter, tmp_path)
    path = tmp_path / "0.7.0.zip"
    write_archive(path, {"release": "0.7.0", "void": {}}, {name: members})
    reference = Reference(ReleaseArchive(path), name)
    assert len(reference.noise("rollout")) == 3
    assert len(reference.noise("loss")) == 3
    assert reference.description["predictor"]["name"] == "GraphEFMMultiScale"
    assert set(reference.description["outputs"]) == {
        "posterior_mean",
        "posterior_std",
        "prediction",
    }


def blind(monkeypatch, scale):
    """Let weights be so small that nothing shows."""
    from pytest_nlam_compat.recording import runs

    def weaken(module, generator):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(scale)

    monkeypatch.setattr(runs, "strengthen", weaken)


def test_a_model_that_hides_changes_is_refused(record, monkeypatch):
    from pytest_nlam_compat.recording import recorder

    blind(monkeypatch, 1e-3)
    monkeypatch.setattr(recorder, "_DRAWS", 2)
    with pytest.raises(CompatError) as raised:
        record("graph_lam")
    what, *facts, remedy = str(raised.value).split("\n")
    assert what.startswith("The case graph_lam is too weak to be a reference")
    ((name, share),) = (fact.strip().split(": ") for fact in facts)
    assert name.startswith("forecaster.predictor.")
    assert share.endswith(" of the required effect")
    assert float(share.split()[0]) < 1
    assert "recording/cases.py" in remedy


def test_a_weak_draw_is_drawn_anew(
    current_adapter, tmp_path, monkeypatch, members
):
    from pytest_nlam_compat.recording import recorder, strength
    from pytest_nlam_compat.recording.release_recorder import quietly

    asked = []

    def measure(module, run, noise32, generator, suspects):
        asked.append(list(suspects))
        weak = {"a.weight[:, 3]": 0.25} if len(asked) == 1 else {}
        if len(asked) == 2:
            weak = {"b.bias": 0.5}
        return strength.Strength({"c": 2.0}, weak, 1.0)

    monkeypatch.setattr(strength, "measure", measure)
    with quietly(), reproducible():
        again = recorder.record(
            BY_NAME["graph_lam-clamp"], current_adapter, tmp_path
        )
    # What was weak is looked at first, as a whole parameter.
    assert asked == [[], ["a.weight"], ["a.weight", "b.bias"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    assert again["state_dict.safetensors"] != members["state_dict.safetensors"]
    strength_of = json.loads(again["case.json"])["strength"]
    assert strength_of == {
        "columns": {},
        "parameters": {"c": 2.0},
        "required": 1.0,
    }
