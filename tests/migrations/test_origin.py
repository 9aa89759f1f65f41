import pytest
from listed_releases import RELEASES
from packaging.version import Version
from saved_runs import namespace

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    Drop,
    Migration,
    detect_origin,
    origin,
)
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS

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
KIND = InertObject(GlobalRef("neural_lam.config", "DatastoreKindStr"), ("mdp",))


def config(kind):
    return InertObject(
        GlobalRef("neural_lam.config", "NeuralLAMConfig"), state={"kind": kind}
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


def since(first):
    """How people are told of all releases since one."""
    found = [r for r in RELEASES if Version(r) >= Version(first)]
    if len(found) > 2:
        return f"{found[0]} to {found[-1]}"
    return " or ".join(found)


CLAMPING = {"buffers of output clamping": since("0.4.0")}
CONFIG = {"a config in the hyper-parameters": since("0.3.0")}


def refusal(data, said=None):
    with pytest.raises(CompatError) as caught:
        detect_origin(data, said)
    return caught.value


@pytest.mark.parametrize("release", ARGUMENTS)
def test_each_release_is_recognised(release):
    assert detect_origin(checkpoint(release)).release == release


def test_the_evidence_is_shown_with_the_answer():
    found = detect_origin(checkpoint("0.4.0"))
    shown = {each.seen: each.span for each in found.evidence}
    assert (
        shown.items()
        >= {
            "no weights under forecaster.": "0.1.0 to 0.6.0",
            **CLAMPING,
            "class DatastoreKindStr in the config": "0.3.0 or 0.4.0",
            **CONFIG,
            "the set of args": "0.4.0",
        }.items()
    )


def test_a_config_built_in_python_says_nothing_by_its_plain_kind():
    data = checkpoint("0.4.0")
    data["hyper_parameters"]["config"] = config("mdp")
    assert detect_origin(data).release == "0.4.0"


def test_args_that_no_parser_gave_say_nothing():
    data = checkpoint("0.7.0")
    data["hyper_parameters"]["args"] = namespace(create_gif=1)
    assert detect_origin(data).release == "0.7.0"


def test_weights_alone_may_leave_several_releases():
    error = refusal({"state_dict": checkpoint("0.5.0")["state_dict"]})
    assert error.what.startswith("Several releases of neural-lam may have")
    assert error.facts == {
        "no weights under forecaster.": "0.1.0 to 0.6.0",
        **CLAMPING,
        "left": "0.4.0, 0.5.0, 0.6.0",
        "or": "the predictor of 0.7.0 alone, without the prefix "
        "'forecaster.predictor.'",
    }
    assert error.remedy == (
        "Name the release that wrote it with --from, such as --from 0.6.0. "
        "If it is "
        "the predictor alone, put 'forecaster.predictor.' before each name of "
        "the state_dict, and save it."
    )


def test_of_weights_before_the_clamping_it_is_no_predictor_of_today():
    error = refusal({"state_dict": checkpoint("0.3.0")["state_dict"]})
    assert error.facts == {
        "no weights under forecaster.": "0.1.0 to 0.6.0",
        "no buffers of output clamping": "0.1.0 to 0.3.0",
        "left": "0.1.0, 0.2.0, 0.3.0",
    }
    assert error.remedy == (
        "Name the release that wrote it with --from, such as --from 0.3.0."
    )


def test_args_of_today_without_the_prefix():
    data = checkpoint("0.7.0")
    data["state_dict"] = checkpoint("0.6.0")["state_dict"]
    error = refusal(data)
    assert error.what.startswith("The checkpoint holds contradictory evidence")
    assert (
        error.facts.items()
        >= {
            "no weights under forecaster.": "0.1.0 to 0.6.0",
            **CLAMPING,
            **CONFIG,
            "the set of args": "0.7.0",
            "left": "none",
            "or": "the predictor of 0.7.0 alone, without the prefix "
            "'forecaster.predictor.'",
        }.items()
    )
    assert error.remedy == (
        "Put 'forecaster.predictor.' before each name of the state_dict, and "
        "save it."
    )


SAVE = (
    "Pass a checkpoint that neural-lam's training has written. If you have "
    "weights alone, save them as the entry state_dict of a dict."
)


def test_weights_without_a_state_dict_around_them_are_refused():
    weights = checkpoint("0.7.0")["state_dict"]
    with pytest.raises(CompatError) as caught:
        detect_origin(weights)
    assert str(caught.value) == (
        "The file holds no state_dict.\n"
        "  found: forecaster.predictor.sigmoid_lower_lims, "
        "forecaster.predictor.sigmoid_upper_lims, "
        "forecaster.predictor.softplus_lower_lims, "
        "forecaster.predictor.softplus_upper_lims, "
        "forecaster.predictor.clamp_lower_upper_idx and 3 more\n" + SAVE
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "The file holds no state_dict.\n  found: nothing\n"),
        (
            {"state_dict": None},
            "The state_dict of the file is not a table of weights.\n"
            "  found: something of type NoneType\n",
        ),
        (
            {"state_dict": [1]},
            "The state_dict of the file is not a table of weights.\n"
            "  found: something of type list\n",
        ),
        (
            {"state_dict": {}},
            "The state_dict of the file is empty.\n"
            "  expected: the weights of a model\n",
        ),
        # A record of ours does not make up for it.
        (
            {"nlam_compat": {"layout": "0.7.0"}},
            "The file holds no state_dict.\n  found: nlam_compat\n",
        ),
    ],
)
def test_what_has_no_weights_is_refused(data, message):
    with pytest.raises(CompatError) as caught:
        detect_origin(data)
    assert str(caught.value) == message + SAVE


def test_pieces_that_do_not_go_together_are_an_error():
    data = checkpoint("0.7.0")
    data["hyper_parameters"] = checkpoint("0.2.0")["hyper_parameters"]
    error = refusal(data)
    assert error.what.startswith("The checkpoint holds contradictory evidence")
    assert (
        error.facts.items()
        >= {
            "weights under forecaster.": since("0.7.0"),
            **CLAMPING,
            "args and no config": "0.1.0 or 0.2.0",
            "the set of args": "0.2.0",
            "left": "none",
        }.items()
    )
    assert error.remedy == "Pass the checkpoint as neural-lam has written it."


@pytest.mark.parametrize("said", ["0.2.0", "0.6.0", "0.7.0"])
def test_no_release_that_a_user_names_makes_them_go_together(said):
    data = checkpoint("0.7.0")
    data["hyper_parameters"] = checkpoint("0.2.0")["hyper_parameters"]
    with pytest.raises(CompatError, match=f"{said} did not write this"):
        detect_origin(data, said)


def test_an_install_between_two_releases():
    """It has the arguments of one, and the weights of the next."""
    data = checkpoint("0.7.0")
    data["hyper_parameters"] = checkpoint("0.6.0")["hyper_parameters"]
    with pytest.raises(CompatError, match=r"such as --from 0\.7\.0"):
        detect_origin(data)
    assert detect_origin(data, "0.7.0").release == "0.7.0"
    with pytest.raises(CompatError, match="did not write"):
        detect_origin(data, "0.6.0")


def test_of_releases_that_nothing_lies_between_the_oldest_counts(monkeypatch):
    """A release to come whose files have what those of the newest have."""
    newest = RELEASES[-1]
    monkeypatch.setattr(origin, "RELEASES", (*RELEASES, "99.0.0"))
    data = {"state_dict": checkpoint("0.7.0")["state_dict"]}
    if newest == "0.7.0":
        found = detect_origin(data)
        assert found.release == newest
        assert found.evidence[-1].releases == (newest, "99.0.0")
    step = Migration("x", "99.0.0", "Something moved.", (Drop("x"),))
    monkeypatch.setattr(origin, "HISTORY", (*origin.HISTORY, step))
    assert refusal(data).facts["left"].endswith(f"{newest}, 99.0.0")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("args", "flag"),
        ("hyper_parameters", "flag"),
        ("classes", "a.B"),
        ("weights", "forecaster.predictor.new.#.bias"),
    ],
)
def test_names_that_a_release_adds_tell_its_files(monkeypatch, kind, key):
    before, telling = RELEASES[-1], {**origin._TELLING}
    known = {**telling[kind]}
    known[Version("99.0.0")] = known[Version(before)] | {key}
    telling[kind] = known
    monkeypatch.setattr(origin, "RELEASES", (*RELEASES, "99.0.0"))
    monkeypatch.setattr(origin, "_TELLING", telling)
    step = Migration("x", "99.0.0", "Something moved.", (Drop("x"),))
    monkeypatch.setattr(origin, "HISTORY", (*origin.HISTORY, step))
    data = checkpoint("0.7.0")
    args = dict(data["hyper_parameters"]["args"].attributes)
    if kind in ("hyper_parameters", "classes"):
        # Those of Graph-EFM have no arguments.
        data["hyper_parameters"]["args"] = None
        assert detect_origin(data).release == "0.7.0"
    if kind == "args":
        args |= dict.fromkeys(known[Version("99.0.0")], 1)
        data["hyper_parameters"]["args"] = namespace(**args)
    elif kind == "weights":
        data["hyper_parameters"] = {}
        # Other models of the new release have no such weight either.
        assert refusal(data).facts["left"].endswith("99.0.0")
        data["state_dict"]["forecaster.predictor.new.7.bias"] = None
    elif kind == "hyper_parameters":
        data["hyper_parameters"] |= dict.fromkeys(known[Version("99.0.0")], 1)
    else:
        data["hyper_parameters"]["x"] = InertObject(GlobalRef("a", "B"))
    assert detect_origin(data).release == "99.0.0"


def test_a_release_that_the_evidence_excludes():
    data = {"state_dict": checkpoint("0.5.0")["state_dict"]}
    assert detect_origin(data, "0.5.0").release == "0.5.0"
    error = refusal(data, "0.3.0")
    assert error.what == "neural-lam 0.3.0 did not write this checkpoint."
    assert error.facts == {
        "--from": "0.3.0",
        "no weights under forecaster.": "0.1.0 to 0.6.0",
        **CLAMPING,
    }
    assert error.remedy.startswith("Leave --from out, or name a release")


# As the parser of prob_model_lam gave it.
BRANCH = {
    **{"dataset": "meps_example", "latent_dim": None, "prior_dist": "diagonal"},
    **{"vertical_propnets": 0, "kl_beta": 1.0, "crps_weight": 0.0},
}


@pytest.mark.parametrize(
    "args",
    [
        {"model": "graph_fm"},
        {"model": "graph_lam", "vertical_propnets": 0},
        {"model": "hi_lam", "kl_beta": 1.0},
        {"model": "of_a_fork"},
    ],
)
def test_one_thing_that_no_release_has_is_enough(args):
    data = checkpoint("0.2.0")
    data["hyper_parameters"] = {
        "args": namespace(dataset="meps_example", **args)
    }
    with pytest.raises(CompatError, match="prob_model_lam"):
        detect_origin(data)


@pytest.mark.parametrize("said", [None, "0.1.0", "0.2.0", "0.4.0"])
@pytest.mark.parametrize(
    ("more", "name"),
    [({}, "prob_model_lam"), ({"eval_leads": None}, "prob_model_global")],
)
@pytest.mark.parametrize("model", ["graphcast", "graph_efm", "graph_lam"])
def test_a_research_branch_is_named(model, more, name, said):
    data = checkpoint("0.2.0")
    args = namespace(model=model, **BRANCH, **more)
    data["hyper_parameters"] = {"args": args}
    with pytest.raises(CompatError) as caught:
        detect_origin(data, said)
    assert caught.value.what.startswith(
        f"The checkpoint was written by the research branch {name} of"
    )
    assert caught.value.facts["args.model"] == model
    assert "--from" not in str(caught.value)
