"""The current code's own loader: what it must still load."""

import shutil

import pytest
from nlam_runs import (
    FIXTURES,
    ONE,
    cells,
    error_lines,
    failed,
    shows_no_traceback,
)

# Each run takes seconds.
pytestmark = pytest.mark.slow

SOME = (
    "--nlam-compat",
    "--nlam-compat-release=>=0.4",
    "--nlam-compat-case=graph_lam",
)
FORGOTTEN = ("models/module.py", "def on_load_checkpoint(", "def forgotten(")
# What makes the loss of the conversion silent.
LENIENT = (
    "train_model.py",
    "        forecaster=forecaster,\n        datastore=datastore,\n"
    "        weights_only",
    "        forecaster=forecaster,\n        datastore=datastore,\n"
    "        strict=False,\n        weights_only",
)
LOST = "neural-lam's own loader no longer converts checkpoints before 0.7.0"
MODEL = "models/step_predictors/graph/base.py"
RENAMED = (
    (MODEL, "self.encoding_grid_mlp =", "self.grid_update_mlp ="),
    (MODEL, "self.encoding_grid_mlp(\n", "self.grid_update_mlp(\n"),
)
STEPS = """
from pytest_nlam_compat.migrations import Migration, Rename

MIGRATIONS = [
    Migration(
        id="0.8.0-grid-update",
        since="0.8.0",
        reason="Named by what it does (#800).",
        operations=(
            Rename(
                "forecaster.predictor.encoding_grid_mlp",
                "forecaster.predictor.grid_update_mlp",
            ),
        ),
    )
]
"""
# One that applies to each run and changes nothing that a loader needs.
UNRELATED = """
from pytest_nlam_compat.migrations import Migration, SetHyperParameter

MIGRATIONS = [
    Migration(
        id="0.8.0-cycle",
        since="0.8.0",
        reason="Runs have a cycle (#801).",
        operations=(SetHyperParameter("args.cycle", 1),),
    )
]
"""


def with_ini(project, *lines):
    project.write("pytest.ini", "\n".join(["[pytest]", *lines, ""]))


def with_steps(project, steps):
    project.write("steps.py", steps)
    with_ini(project, "nlam_compat_migrations = steps.py")


def ended_with(result, *lines):
    """Insist on lines after the matrix, in order."""
    result.stdout.fnmatch_lines(["*= neural-lam checkpoints =*", *lines])


def test_loader_that_fails_shows_in_the_native_route_alone(project):
    load = "    ckpt = torch.load(ckpt_path, weights_only=False)"
    project.neural_lam(("train_model.py", load, load.replace("False", "True")))

    result = project.run(*ONE)

    assert result.ret == 1
    assert shows_no_traceback(result)
    assert failed(result) == {"test_native", "test_saves"}
    result.stdout.fnmatch_lines(
        [
            "*_ test_native[[]0.7.0-graph_lam[]] _*",
            "0.7.0-graph_lam: neural-lam's own loader no longer loads it.",
            "  neural-lam 0.7.0: loads it, with the right outputs",
            "  cause: UnpicklingError: Weights only load failed. *",
        ]
    )
    assert cells(result)["0.7.0-graph_lam"].startswith("NO/")


@pytest.mark.parametrize(
    ("edits", "shown", "cause"),
    [
        ([FORGOTTEN], "NO", LOST),
        (
            [FORGOTTEN, LENIENT],
            "WRONG",
            f"{LOST}: it loads them with other outputs and without an error",
        ),
    ],
    ids=["error", "silent"],
)
@pytest.mark.parametrize("steps", ["", UNRELATED], ids=["none", "unrelated"])
def test_loader_that_forgot_older_releases(project, edits, shown, cause, steps):
    project.neural_lam(*edits)
    if steps:
        with_steps(project, steps)

    result = project.run(*SOME)

    assert result.ret == 1
    assert shows_no_traceback(result)
    native = {name: text.split("/")[0] for name, text in cells(result).items()}
    # 0.4.0 was never loaded: there is nothing to lose.
    assert native["0.4.0-graph_lam"] != "NO"
    assert native["0.5.0-graph_lam"] == native["0.6.0-graph_lam"] == shown
    assert native["0.7.0-graph_lam"] == "ok"
    assert failed(result) == {"test_native"}
    ended_with(
        result,
        f"FAILED nlam-compat: {cause}, 2 references",
        "  in 0.5.0-graph_lam, 0.6.0-graph_lam",
    )
    assert "nlam-compat suggest" not in result.stdout.str()


def test_what_a_repository_converts_by_this_plugin_alone_is_told(project):
    project.neural_lam(*RENAMED)
    with_steps(project, STEPS)

    result = project.run(*SOME)

    assert result.ret == 0
    assert [text.split("/")[0] for text in cells(result).values()] == [
        *["no"] * 4
    ]
    ended_with(
        result,
        "NEURAL-LAM ITSELF CAN'T LOAD 3 checkpoints",
        "  neural-lam 0.7.0 loads: 0.5.0-graph_lam, 0.6.0-graph_lam, "
        "0.7.0-graph_lam",
        "  They pass by migrations that only this plugin knows: "
        "0.8.0-grid-update",
        "*convert these files in*",
        "*nlam-compat suggest --upstream prints the code*",
        "*nlam_compat_given_up*",
        "  Until then, this converts a file, or refuses it and says why:",
        "    nlam-compat upgrade OLD.ckpt --migrations steps.py",
    )


def test_step_does_not_excuse_a_loader_that_fails_on_its_own(project):
    load = "    ckpt = torch.load(ckpt_path, weights_only=False)"
    weights_only = ("train_model.py", load, load.replace("False", "True"))
    project.neural_lam(*RENAMED, weights_only)
    with_steps(project, STEPS)
    result = project.run(*ONE)
    assert failed(result) == {"test_native", "test_saves"}


def test_what_is_given_up_passes_and_is_shown_with_its_reason(project):
    project.neural_lam(FORGOTTEN)
    with_ini(
        project,
        "nlam_compat_given_up =",
        "    0.5.0-*: nobody has any (#900)",
        "    0.[67].0-graph_lam: to be retrained (#901)",
    )
    result = project.run(*SOME)
    assert result.ret == 0
    ended_with(
        result,
        "given up: 1 checkpoint by 0.5.0-[*]: nobody has any (#900)",
        "  in 0.5.0-graph_lam",
        "given up: 1 checkpoint by 0.[[]67].0-graph_lam: to be retrained*",
        "  in 0.6.0-graph_lam",
        "given up, but loaded: 1 checkpoint by 0.[[]67].0-graph_lam: *",
        "  in 0.7.0-graph_lam",
    )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0.5.0-graph_lam", "has an entry without a reason"),
        ("0.5.0-graph_lam:", "has an entry without a reason"),
        ("0.5.0-graph_lan: typed", "names no reference"),
    ],
)
def test_what_can_not_be_given_up_is_a_usage_error(project, line, what):
    with_ini(project, "nlam_compat_given_up =", f"    {line}")
    result = project.run(*ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    first, *_, found, _ = error_lines(result)
    assert first == f"ERROR: The ini key nlam_compat_given_up {what}."
    assert found == f"  found: {line}"


def test_what_the_loader_learns_is_told(project):
    # A class that the configurations of 0.4.0 name, and 0.5.0 removed.
    config = project.neural_lam() / "config.py"
    text = config.read_text()
    config.write_text(f"{text}\n\nclass DatastoreKindStr(str):\n    pass\n")

    result = project.run(*SOME)

    assert result.ret == 0
    assert cells(result)["0.4.0-graph_lam"].startswith("ok/")
    ended_with(
        result,
        "gained: neural-lam's own loader loads 1 checkpoint",
        "  that of neural-lam 0.7.0 does not: 0.4.0-graph_lam",
    )


def test_list_of_native_routes_that_is_missing_is_a_usage_error(project):
    references = project.package() / "references"
    for name in ("registry.txt", "release_evidence.json"):
        shutil.copy(FIXTURES / name, references)
    result = project.run(*ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    missing = references / "native_routes.txt"
    assert result.errlines[0] == (
        f"ERROR: The list of native routes can't be read: {missing}."
    )
