import pytest
from packaging.version import Version
from saved_runs import namespace

from pytest_nlam_compat.checkpoints.standins import Global, Instance
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import detect_origin, refuse_newer, stamp
from pytest_nlam_compat.migrations.parameters import CLAMP_BUFFERS

# What each release's own parser gave, as far as it tells releases apart.
COMMON = ["model", "graph", "hidden_dim", "lr"]
V3 = ["config_path", "num_past_forcing_steps", "num_future_forcing_steps"]
V4 = [*V3, "logger", "logger_project"]
V6 = [*V4, "logger_run_name", "create_gif", "wandb_id", "load_single_member"]
ARGUMENTS = {
    "0.1.0": ["dataset"],
    "0.2.0": ["data_config", "wandb_project"],
    "0.3.0": [*V3, "wandb_project"],
    "0.4.0": V4,
    "0.5.0": [*V4, "logger_run_name"],
    "0.6.0": V6,
    "0.7.0": [
        *V6,
        "g2m_gnn_type",
        "num_sanity_val_steps",
        "runs_root",
        "train_steps_to_log",
    ],
}
KIND = Instance(Global("neural_lam.config", "DatastoreKindStr"), ("mdp",))


def config(kind):
    return Instance(
        Global("neural_lam.config", "NeuralLAMConfig"), state={"kind": kind}
    )


def checkpoint(release):
    """What a release writes, as far as the evidence goes."""
    weights = ["grid_embedder.0.weight"]
    if release >= "0.4.0":
        weights = [*CLAMP_BUFFERS, *weights]
    if release >= "0.7.0":
        weights = [f"forecaster.predictor.{name}" for name in weights]
    names = [*COMMON, *ARGUMENTS[release]]
    hyper_parameters = {"args": namespace(**dict.fromkeys(names, 1))}
    if release >= "0.3.0":
        kind = KIND if release < "0.5.0" else "mdp"
        hyper_parameters["config"] = config(kind)
    return {
        "epoch": 1,
        "state_dict": dict.fromkeys(weights),
        "hyper_parameters": hyper_parameters,
    }


@pytest.mark.parametrize("release", ARGUMENTS)
def test_each_release_is_recognised(release):
    origin = detect_origin(checkpoint(release))
    assert origin.release == release
    assert origin.version == Version(release)
    assert origin.stamp is None


def test_the_evidence_is_shown_with_the_answer():
    origin = detect_origin(checkpoint("0.4.0"))
    assert [str(found) for found in origin.evidence] == [
        "no weights under forecaster.: 0.1.0 to 0.6.0",
        "buffers of output clamping: 0.4.0 to 0.7.0",
        "class DatastoreKindStr in the config: 0.3.0 or 0.4.0",
        "a config in the hyper-parameters: 0.3.0 to 0.7.0",
        "the set of args: 0.4.0",
    ]


def test_a_config_built_in_python_says_nothing_by_its_plain_kind():
    data = checkpoint("0.4.0")
    data["hyper_parameters"]["config"] = config("mdp")
    assert detect_origin(data).release == "0.4.0"


def test_args_that_no_parser_gave_say_nothing():
    data = checkpoint("0.7.0")
    data["hyper_parameters"]["args"] = namespace(create_gif=1)
    assert detect_origin(data).release == "0.7.0"


def test_weights_alone_may_leave_several_releases():
    data = {"state_dict": checkpoint("0.5.0")["state_dict"]}
    with pytest.raises(CompatError) as caught:
        detect_origin(data)
    assert str(caught.value) == (
        "Several releases of neural-lam may have written this checkpoint.\n"
        "  no weights under forecaster.: 0.1.0 to 0.6.0\n"
        "  buffers of output clamping: 0.4.0 to 0.7.0\n"
        "  left: 0.4.0, 0.5.0, 0.6.0\n"
        "Say which one wrote it with --from, such as --from 0.6.0."
    )


def test_pieces_that_do_not_go_together_are_an_error():
    data = checkpoint("0.7.0")
    data["hyper_parameters"] = checkpoint("0.2.0")["hyper_parameters"]
    with pytest.raises(CompatError) as caught:
        detect_origin(data)
    assert str(caught.value) == (
        "The checkpoint contradicts itself on the release that wrote it.\n"
        "  weights under forecaster.: 0.7.0\n"
        "  buffers of output clamping: 0.4.0 to 0.7.0\n"
        "  args and no config: 0.1.0 or 0.2.0\n"
        "  the set of args: 0.2.0\n"
        "  left: none\n"
        "Say which one wrote it with --from, such as --from 0.7.0."
    )


def test_a_stamp_of_neural_lam_is_read():
    data = checkpoint("0.7.0") | {"neural_lam_checkpoint_version": 2}
    origin = detect_origin(data)
    assert origin.stamp == 2
    assert str(origin.evidence[0]) == "neural_lam_checkpoint_version 2: 0.7.0"
    refuse_newer(origin, 2)
    refuse_newer(origin, 3)


@pytest.mark.parametrize(("newest", "shown"), [(1, "1"), (None, "none")])
def test_a_stamp_that_is_newer_than_the_code_is_refused(newest, shown):
    data = checkpoint("0.7.0") | {"neural_lam_checkpoint_version": 2}
    with pytest.raises(CompatError) as caught:
        refuse_newer(detect_origin(data), newest)
    assert str(caught.value) == (
        "The checkpoint was written by a newer neural-lam.\n"
        "  neural_lam_checkpoint_version: 2\n"
        f"  newest that the installed neural-lam knows: {shown}\n"
        "Upgrade neural-lam."
    )


def test_a_file_without_a_stamp_is_newer_than_nothing():
    refuse_newer(detect_origin(checkpoint("0.7.0")), None)


def test_a_migrated_file_is_recognised_by_our_stamp():
    data = checkpoint("0.7.0")
    data["hyper_parameters"] = checkpoint("0.3.0")["hyper_parameters"]
    data |= stamp(Version("0.7.0"), ("a", "b"))
    assert data["nlam_compat"] == {"layout": "0.7.0", "migrations": ["a", "b"]}
    origin = detect_origin(data)
    assert origin.release == "0.7.0"
    assert [str(e) for e in origin.evidence] == [
        "migrated to 0.7.0 before: 0.7.0"
    ]


def test_a_file_that_a_newer_version_of_ours_has_migrated_is_refused():
    data = checkpoint("0.7.0") | stamp(Version("9.0.0"), ())
    with pytest.raises(CompatError) as caught:
        detect_origin(data)
    assert str(caught.value) == (
        "The checkpoint was migrated by a newer pytest-nlam-compat.\n"
        "  layout: 9.0.0\n"
        "  newest known: 0.7.0\n"
        "Upgrade pytest-nlam-compat."
    )


def stamped_by(version):
    return {"nlam_compat": {"stamp": {"neural_lam": {"version": version}}}}


@pytest.mark.parametrize("version", ["0.7.1", "0.8.0rc1", "1.0"])
def test_a_file_that_a_newer_release_has_stamped_is_refused(version):
    with pytest.raises(CompatError) as caught:
        detect_origin(checkpoint("0.7.0") | stamped_by(version))
    assert str(caught.value) == (
        "The checkpoint was written by a neural-lam that this "
        "pytest-nlam-compat does not know.\n"
        f"  stamped by: {version}\n"
        "  newest known: 0.7.0\n"
        "Upgrade pytest-nlam-compat."
    )


@pytest.mark.parametrize("version", ["0.7.1.dev3+gabc", "0.8.0+local", "?"])
def test_the_version_of_a_development_install_says_nothing(version):
    origin = detect_origin(checkpoint("0.7.0") | stamped_by(version))
    assert origin.release == "0.7.0"
    assert "stamped" not in str(origin.evidence)


@pytest.mark.parametrize("found", ["2", 2.5, [1]])
def test_a_stamp_that_is_no_number_is_refused(found):
    data = checkpoint("0.7.0") | {"neural_lam_checkpoint_version": found}
    with pytest.raises(CompatError) as caught:
        refuse_newer(detect_origin(data), 3)
    assert str(caught.value) == (
        "The stamp of the checkpoint is no number.\n"
        f"  neural_lam_checkpoint_version: {found!r}\n"
        "Give the file as neural-lam has written it."
    )
