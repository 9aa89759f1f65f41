"""``nlam-compat suggest``, beside what a run of pytest does."""

import argparse
import re

import pytest
from nlam_runs import ONE, command, failed

from pytest_nlam_compat.commands import suggest

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

GRAPH = "models/step_predictors/graph/base.py"
STATES = (
    GRAPH,
    "                prev_state,\n                prev_prev_state,\n",
    "                prev_prev_state,\n                prev_state,\n",
)
RENAMED = ("*", "self.encoding_grid_mlp", "self.grid_encoder")
REVERSED = (
    "utils/graph.py",
    "        m2m_edge_index = m2m_edge_index[0]",
    "        m2m_edge_index = m2m_edge_index[0].flip(0)",
)
FEATURES = (
    "utils/graph.py",
    "        m2m_features = m2m_features[0]",
    "        m2m_features = -2 * m2m_features[0]",
)
STEP = """\
from pytest_nlam_compat.migrations import Migration, Rename

MIGRATIONS = [
    Migration(
        id="0.8.0-rename",
        since="0.8.0",
        reason="Renamed (#1).",
        operations=(
            Rename(
                "forecaster.predictor.encoding_grid_mlp",
                "forecaster.predictor.grid_encoder",
            ),
        ),
    )
]
"""
HOOK = """
def pytest_nlam_compat_migrations():
    from steps import MIGRATIONS

    return MIGRATIONS
"""
ADAPTER = """
def pytest_nlam_compat_adapter(current):
    from pytest_nlam_compat.adapters.forecaster import ForecasterAdapter

    class Other(ForecasterAdapter):
        def cannot_run(self, model):
            return "the adapter of this repository says so"

    return Other(current)
"""
PERMUTED = """\
        PermuteInputBlocks(
            "forecaster.predictor.grid_embedder.0.weight",
            ("prev_state", "prev_prev_state"),
            ("prev_prev_state", "prev_state"),
        ),
"""
SCALED = 'Scale("forecaster.predictor.m2m_embedder.0.weight", -0.5)'
SHIFTED = (
    GRAPH,
    "                prev_prev_state,\n",
    "                2 * prev_prev_state - 1,\n",
)
UNREAD = (
    "tests/migrations holds migrations, but no ini key nlam_compat_migrations "
    "names it."
)
MESSAGE = (
    "gnn_layers.py",
    "        return self.edge_mlp(torch.cat((edge_attr, x_j, x_i), dim=-1))\n"
    "\n    # pylint",
    "        return self.edge_mlp(torch.cat((x_j, x_i, edge_attr), dim=-1))\n"
    "\n    # pylint",
)


@pytest.fixture
def suggested(project):
    """Run it in the project, for one small reference unless told otherwise."""

    def run(*arguments, one=True):
        which = ["--release===0.7.0", "--case=graph_lam"] if one else []
        return command(
            ["suggest", *which, *arguments],
            project.folder,
            project.path,
            {"CUDA_VISIBLE_DEVICES": ""},
        )

    return run


def with_reason(project, name="suggested"):
    """Write the reason that lint asks for."""
    file = project.folder / f"tests/migrations/{name}.py"
    text = file.read_text()
    assert text.count("TODO") == 1
    file.write_text(text.replace("TODO: what", "What"))
    return text


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (STATES, PERMUTED),
        (REVERSED, 'ReverseEdges("m2m_edge_index")'),
        (FEATURES, SCALED),
    ],
)
def test_a_written_step_turns_the_run_green(project, suggested, edit, text):
    project.neural_lam(edit)
    done = suggested("--write")
    assert done.returncode == 0, done.stderr
    # Nothing but progress: neural-lam is silent.
    assert not re.search("INFO|Warning|Edges", done.stderr)
    assert done.stdout.startswith("1 reference\nVerified on 0.7.0-graph_lam")
    assert text in done.stdout
    lines = done.stdout.splitlines()
    start = lines.index("Written to tests/migrations/suggested.py.")
    assert lines[start + 1 :] == [
        "Tell pytest where they are: in pytest.ini, add this line below "
        "[pytest]:",
        "     nlam_compat_migrations = tests/migrations",
        "next:",
        "  $EDITOR tests/migrations/suggested.py",
        "  pytest --nlam-compat",
        "or, instead of tests/migrations/suggested.py:",
        "  nlam-compat suggest --release ==0.7.0 --case graph_lam --upstream",
    ]
    red = project.run(*ONE)
    assert "test_outputs" in failed(red)
    advice = [UNREAD, *lines[start + 1 : start + 3]]
    red.stdout.fnmatch_lines([line.replace("[", "[[]") for line in advice])
    assert suggested().stdout.splitlines()[2:] == ["Nothing fails.", *advice]
    project.write("pytest.ini", f"[pytest]\n{lines[start + 2].strip()}\n")
    result = project.run(*ONE)
    result.stdout.fnmatch_lines(["*It has no reason yet."])
    result.stdout.no_fnmatch_line("*holds migrations, but*")
    assert not failed(result)
    written = with_reason(project)
    assert "import *" not in written
    assert max(map(len, written.splitlines())) <= 80
    assert project.run(*ONE).ret == 0


@pytest.mark.parametrize(
    ("edit", "case"),
    [
        (STATES, "graph_lam"),
        (MESSAGE, "graph_lam-prop*"),
        (SHIFTED, "graph_lam"),
    ],
)
def test_code_for_the_loader_turns_the_run_green(
    project, suggested, edit, case
):
    copy = project.neural_lam(edit)
    one = ("--release===0.7.0", f"--case={case}")
    done = suggested("--upstream", *one, one=False)
    assert done.returncode == 0, done.stderr
    code = done.stdout[done.stdout.index("# neural_lam/models/module.py") :]
    code = code[: code.index("next:")]
    function, _, class_ = code.partition("class ForecasterModule")
    [saving] = re.findall("    def on_save_checkpoint.*?\n\n", class_, re.S)
    [loading] = re.findall("        if checkpoint.get.*", class_, re.S)
    module = copy / "models" / "module.py"
    text = module.read_text()
    for before, added in (
        ("class ForecasterModule", function),
        ("    def on_load_checkpoint", saving),
        ("        if not self.restore_opt:\n            opt =", loading),
    ):
        assert text.count(before) == 1
        text = text.replace(before, added + before)
    module.write_text(text)
    options = [f"--nlam-compat-{option.removeprefix('--')}" for option in one]
    assert project.run("--nlam-compat", *options).ret == 0


def test_numbers_of_columns_are_written_only_if_asked_for(project, suggested):
    # The first two state variables change places.
    torn = "prev_state[..., [1, 0, 2, 3]],\n                prev_prev_state,\n"
    project.neural_lam((GRAPH, STATES[1].lstrip(), torn))
    done = suggested("--write")
    assert done.returncode == 1
    assert "write it with --width-specific" in " ".join(done.stdout.split())
    assert "Written" not in done.stdout
    assert not (project.folder / "tests/migrations").exists()
    done = suggested("--write", "--width-specific")
    assert "Written to tests/migrations/suggested.py." in done.stdout


def test_a_default_that_no_step_can_undo(project, suggested):
    default = '        aggr: str = "sum",\n    ) -> None:\n        """\n'
    changed = default.replace("sum", "mean")
    project.neural_lam(("gnn_layers.py", default, changed))
    done = suggested("--write", one=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[1].startswith("No migration can fix this: SumAggregation was")
    assert "Pin InteractionNet(aggr='sum')" in done.stdout
    # At once: one of all references was tried.
    assert len(done.stderr.splitlines()) == 1


def test_the_steps_there_are_come_first(project, suggested):
    project.neural_lam(STATES, RENAMED)
    project.write(
        "pytest.ini", "[pytest]\nnlam_compat_migrations = tests/migrations\n"
    )
    project.write("tests/migrations/renamed.py", STEP)
    done = suggested("--write")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "1 reference",
        "1 migration of this repository applied",
    ]
    assert PERMUTED in done.stdout
    assert "Rename(" not in done.stdout
    assert "Written to tests/migrations/suggested.py." in lines
    with_reason(project)
    assert project.run(*ONE).ret == 0
    # And there is nothing left to suggest.
    again = suggested("--write").stdout.splitlines()
    assert again[1:] == [
        "2 migrations of this repository applied",
        "Nothing fails.",
    ]
    # Their code for neural-lam's own loader is there all the same.
    code = suggested("--upstream").stdout
    assert "# neural_lam/models/module.py" in code
    assert "forecaster.predictor.grid_encoder" in code
    assert "next:" not in code


def test_steps_of_the_hook_come_first(project, suggested):
    project.neural_lam(RENAMED)
    project.write("steps.py", STEP)
    project.write("conftest.py", HOOK)
    done = suggested()
    assert done.stdout.splitlines() == [
        "1 reference",
        "1 migration of this repository applied",
        "Nothing fails.",
    ]
    assert done.returncode == 0


def test_the_adapter_of_the_repository_is_asked(project, suggested):
    project.write("conftest.py", ADAPTER)
    done = suggested()
    assert done.returncode == 1
    assert done.stdout == ""
    first, *_, void, last = done.stderr.splitlines()
    assert first == "No reference is selected."
    assert void == (
        "  0.7.0-graph_lam is void: the adapter of this repository says so"
    )
    assert last == "Correct the options; without them, all are selected."


def test_options_of_the_ini_file_hold(project, suggested):
    project.write(
        "pytest.ini", "[pytest]\naddopts = --nlam-compat-device=cuda\n"
    )
    done = suggested()
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "CUDA is not available."
    # What is given comes after them.
    assert suggested("--device=cpu").stdout.splitlines() == [
        "1 reference",
        "Nothing fails.",
    ]


def test_an_error_names_the_options_of_the_command(suggested):
    done = suggested("--release=latest", one=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "--release is not a version specifier.",
        "  expected: a version specifier (PEP 440), such as '>=0.5' or "
        "'==0.6.0'",
        "  found: latest",
        "Correct it, or leave it out for all releases.",
    ]


def test_a_conftest_that_raises(project, suggested):
    project.write("conftest.py", "raise ValueError('broken')\n")
    done = suggested()
    assert done.returncode == 1
    assert "ValueError: broken" in done.stderr
    assert done.stderr.splitlines()[-3:] == [
        "pytest can't be configured here.",
        "  status: 4",
        "Run `pytest --nlam-compat`, and fix the error it shows.",
    ]


def test_each_option_is_one_of_pytest():
    parser = argparse.ArgumentParser()
    suggest.add_arguments(parser)
    given = [
        "--release=>=0.5",
        "--case=hi*",
        "--device=auto",
        "--url=https://example.org",
        "--offline",
    ]
    assert suggest._options(parser.parse_args(given)) == [
        f"--nlam-compat-{option.removeprefix('--')}" for option in given
    ]
    assert suggest._options(parser.parse_args([])) == []
