"""One line of neural-lam is edited, and the run turns red for that reason.

Each run is on a copy of the installed package, in a process of its own. The
first check that fails shows its verdict in full: which one that is, is chosen
by ``-k`` where it matters.
"""

import pytest
from nlam_runs import CHECKS, ONE, cells, failed, shows_no_traceback

# Each run takes seconds.
pytestmark = pytest.mark.slow

GRAPH_MODEL = "models/step_predictors/graph/base.py"
OUTPUT_MAP = """\
        net_output = self.output_map(
            grid_rep
        )  # (B, num_grid_nodes, d_grid_out)
"""
TRAINING = {"test_loss", "test_resumes"}
ROLLOUT = TRAINING | {"test_native", "test_outputs", "test_outputs_float32"}


def red(project, *edits, args=()):
    """Run the checks on an edited copy, and insist that they fail."""
    project.neural_lam(*edits)
    result = project.run(*ONE, *args)
    assert result.ret == 1
    assert shows_no_traceback(result)
    return result


def block(check, *lines):
    """Return what a failed check is to show, from its title on."""
    return [f"*_ {check}[[]0.7.0-graph_lam[]] _*", *lines]


RENAMED = (
    (GRAPH_MODEL, "self.encoding_grid_mlp =", "self.grid_encoder ="),
    (GRAPH_MODEL, "self.encoding_grid_mlp(\n", "self.grid_encoder(\n"),
)


def test_renamed_submodule_fails_all_that_needs_the_model(project):
    result = red(project, *RENAMED)

    assert failed(result) == CHECKS - {"test_opens"}
    assert cells(result) == {"0.7.0-graph_lam": "NO/FAIL"}
    result.stdout.fnmatch_lines(
        block(
            "test_native",
            "0.7.0-graph_lam: neural-lam's own loader no longer loads it.",
            "  neural-lam 0.7.0: loads it, with the right outputs",
            "  cause: RuntimeError: Error(s) in loading state_dict for "
            'ForecasterModule: Missing key(s) in state_dict: "forecaster.'
            'predictor.grid_encoder.0.weight"*',
            "  raised in: *neural_lam*train_model.py:*, in "
            "load_forecaster_module_from_checkpoint",
        )
    )


def test_renamed_submodule_is_named_as_missing_and_unexpected(project):
    result = red(project, *RENAMED, args=["-kloads"])

    prefix = "forecaster.predictor."
    result.stdout.fnmatch_lines(
        block(
            "test_loads",
            "The migrated checkpoint does not fit the current model.",
            f"  missing: {prefix}grid_encoder.0.bias, "
            f"{prefix}grid_encoder.0.weight, *",
            f"  unexpected: {prefix}encoding_grid_mlp.0.bias, "
            f"{prefix}encoding_grid_mlp.0.weight, *",
            "If the change is intended, add a migration: in neural-lam's own "
            "loader, or one of the repository for this plugin.",
        )
    )
    assert cells(result) == {"0.7.0-graph_lam": "-/FAIL"}


def test_swapped_inputs_give_other_numbers(project):
    states = "                prev_state,\n                prev_prev_state,\n"
    swapped = "                prev_prev_state,\n                prev_state,\n"

    result = red(project, (GRAPH_MODEL, states, swapped))

    assert failed(result) == ROLLOUT
    result.stdout.fnmatch_lines(
        block(
            "test_native",
            "0.7.0-graph_lam: neural-lam's own loader loads it, but with "
            "other outputs and without an error.",
            "  compared: prediction, with tolerance 'float64'",
            "  differs most: variable *, batch item *, step *, node *",
            "People load their checkpoints without this plugin. *",
        )
    )
    assert cells(result) == {"0.7.0-graph_lam": "WRONG/FAIL"}


SCALED = (GRAPH_MODEL, "_delta_mean * self.diff_std", "_delta_mean")


def test_verdict_on_outputs_says_where_they_differ_most(project):
    result = red(project, SCALED, args=["-kbatch or test_outputs"])

    left = project.folder / "temporary" / "test_outputs_0_7_0_graph_lam_0"
    assert failed(result) == {"test_outputs", "test_outputs_float32"}
    result.stdout.fnmatch_lines(
        block(
            "test_outputs",
            "0.7.0-graph_lam: the current code gives other outputs than "
            "neural-lam 0.7.0.",
            "  compared: prediction, with tolerance 'float64'",
            "  differs most: variable *, batch item *, step *, node *",
            "  obtained: *",
            "  expected: *",
            "  allowed: *",
            "  difference: * of the spread of *, * times what is allowed",
            f"  outputs kept in: {left}",
            "If the change is intended, add a migration so that old "
            "checkpoints keep their outputs. If not, undo it.",
        )
    )
    assert cells(result) == {"0.7.0-graph_lam": "-/FAIL"}
    # Golden and obtained lie beside each other.
    found = sorted(each.name for each in left.rglob("*.safetensors"))
    assert found == [
        "golden.safetensors",
        "test_outputs_0_7_0_graph_lam_.obtained.safetensors",
    ]


def test_epsilon_of_the_layer_norm_shows(project):
    norm = "nn.LayerNorm(blueprint[-1])"
    other = "nn.LayerNorm(blueprint[-1], eps=1e-6)"

    result = red(project, ("utils/networks.py", norm, other))

    assert failed(result) == ROLLOUT


def test_order_of_the_window_shows_in_the_batch_alone(project):
    order = '("forcing_feature", "window")'
    other = '("window", "forcing_feature")'

    result = red(project, ("weather_dataset.py", order, other))

    assert failed(result) == {"test_batch"}
    result.stdout.fnmatch_lines(
        block(
            "test_batch",
            "0.7.0-graph_lam: the current code makes another batch from "
            "the same series.",
            "  compared: forcing, with tolerance 'batch'",
            "  differs most: variable * (window *), batch item *, step *, "
            "node *",
            "Check the order and the length of the forcing window, *",
        )
    )
    assert cells(result) == {"0.7.0-graph_lam": "ok/FAIL"}


def test_weights_of_the_loss_show_in_training_alone(project):
    weights = "diff_std / torch.sqrt(feature_weights_t)"
    other = "1.01 * diff_std / torch.sqrt(feature_weights_t)"

    result = red(project, ("models/module.py", weights, other))

    assert failed(result) == TRAINING
    result.stdout.fnmatch_lines(
        block(
            "test_loss",
            "0.7.0-graph_lam: the training loss on the recorded batch "
            "has changed.",
            "  obtained: *",
            "  expected: *",
            "  allowed: *",
            "If test_outputs passes, the loss function itself has changed: *",
        )
    )


def test_autocast_shows_in_float32_alone(project):
    cast = (
        '        with torch.autocast("cpu", torch.bfloat16):\n'
        "            net_output = self.output_map(grid_rep)\n"
    )

    result = red(project, (GRAPH_MODEL, OUTPUT_MAP, cast))

    assert failed(result) == {"test_loss", "test_outputs_float32"}
    result.stdout.fnmatch_lines(
        block(
            "test_outputs_float32",
            "*the current code gives other outputs than neural-lam 0.7.0.",
            "  compared: prediction, with tolerance 'float32*'",
        )
    )


def test_layer_in_half_precision_shows(project):
    half = (
        "        net_output = self.output_map(grid_rep.half().to(grid_rep))\n"
    )

    result = red(project, (GRAPH_MODEL, OUTPUT_MAP, half))

    assert failed(result) == ROLLOUT


def test_outputs_in_a_lesser_precision_are_not_judged_by_its_tolerance(
    project,
):
    rollout = "prediction = torch.stack(prediction_list, dim=1)"

    result = red(
        project,
        (
            "models/forecasters/autoregressive.py",
            rollout,
            f"{rollout}.float()",
        ),
        args=["-koutputs"],
    )

    result.stdout.fnmatch_lines(
        block(
            "test_outputs",
            "0.7.0-graph_lam: the current code does not return the outputs *",
            "  not float64 like model and inputs: prediction (float32)",
        )
    )


def test_output_that_is_no_longer_given_is_missing(project):
    result = red(
        project,
        (GRAPH_MODEL, "return new_state, pred_std\n", "return new_state, None"),
        args=["--nlam-compat-case=graph_lam-std"],
    )

    result.stdout.fnmatch_lines(
        [
            "  cause: 0.7.0-graph_lam-std: the current code does not return *",
            "  missing: pred_std",
        ]
    )


def test_forward_that_raises_shows_cause_and_line(project):
    first = "        batch_size = prev_state.shape[0]\n"
    raising = f'        raise RuntimeError("not today")\n{first}'

    result = red(project, (GRAPH_MODEL, first, raising))

    assert failed(result) == ROLLOUT | {"test_evaluates", "test_saves"}
    result.stdout.fnmatch_lines(
        block(
            "test_native",
            "0.7.0-graph_lam: neural-lam's own loader no longer loads it.",
            "  cause: RuntimeError: not today",
            f"  raised in: {project.folder}*base.py:*, in forward",
            "People load their checkpoints without this plugin. *",
        )
    )
    result.stdout.fnmatch_lines(
        block("test_loss", "The training step of the current code failed.")
    )
