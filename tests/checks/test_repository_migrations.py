"""Migrations that a repository brings along: by the ini key and by the hook."""

import re

import pytest
from nlam_runs import CHECKS, ONE, cells, error_lines, failed

MODEL = "models/step_predictors/graph/base.py"
RENAMED = (
    (MODEL, "self.encoding_grid_mlp =", "self.grid_update_mlp ="),
    (MODEL, "self.encoding_grid_mlp(\n", "self.grid_update_mlp(\n"),
)
STEP = """
from pytest_nlam_compat.migrations import Holds, Migration, Rename

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
        when=Holds("encoding_grid_mlp"),
    )
]
"""
INI = "[pytest]\nnlam_compat_migrations = {}\n"
# Of every release, and by either architecture of 0.7.
SOME = ("--nlam-compat", "--nlam-compat-case=graph_*[lm]")


def registries(result):
    """Return how the checks of whole registries came out."""
    pattern = r"^nlam-compat::test_registry\[(\S+)\] (\w+)"
    return dict(re.findall(pattern, result.stdout.str(), re.MULTILINE))


@pytest.mark.slow
def test_a_step_in_a_folder_fixes_what_the_code_has_renamed(project):
    project.neural_lam(*RENAMED)
    red = project.run(*ONE)
    assert failed(red) == CHECKS - {"test_opens"}

    project.write("tests/migrations/grid_update.py", STEP)
    project.write("pytest.ini", INI.format("tests/migrations"))
    green = project.run(*SOME, "-v")
    green.stdout.fnmatch_lines(
        ["nlam-compat: 1 migration of this repository: 0.8.0-grid-update"]
    )
    assert green.ret == 0
    assert registries(green) == {"history": "PASSED", "repository": "PASSED"}
    # No loader fixes it: by the native route it does not load, and need not.
    shown = cells(green)
    assert shown.keys() == {
        "0.7.0-graph_efm",
        *(f"0.{minor}.0-graph_lam" for minor in range(1, 8)),
    }
    # The shares depend on the processor.
    assert re.fullmatch(r"ok/\S+%", shown["0.7.0-graph_efm"])
    assert re.fullmatch(r"no/\S+%", shown["0.7.0-graph_lam"])


def test_a_step_of_the_hook_is_as_good(project):
    project.neural_lam(*RENAMED)
    project.write("steps.py", STEP)
    project.write(
        "conftest.py",
        "def pytest_nlam_compat_migrations():\n"
        "    from steps import MIGRATIONS\n"
        "    return MIGRATIONS\n",
    )
    result = project.run(*ONE)
    assert result.ret == 0


def test_a_step_that_is_only_begun_is_told(project):
    project.write(
        "steps.py",
        STEP.replace("Named by what it does (#800).", "TODO: why?").replace(
            'Holds("encoding_grid_mlp")', 'Holds("no_such_module")'
        ),
    )
    project.write("pytest.ini", INI.format("steps.py"))
    result = project.run(*ONE, "-v")
    assert registries(result) == {"history": "PASSED", "repository": "FAILED"}
    assert failed(result) == set()
    result.stdout.fnmatch_lines(
        [
            "The migrations of this repository (steps.py) are not in order.",
            "  step 0.8.0-grid-update: It has no reason yet.",
            "Fix them. Published migrations never change: add another one "
            "instead.",
            "FAILED nlam-compat: The migrations of this repository (steps.py) "
            "are not in order",
            "  checks: test_registry",
            "    step 0.8.0-grid-update: It has no reason yet.",
            "  Fix them. *",
            "-v shows each check",
        ]
    )


def test_a_step_that_matches_nothing_is_told(project):
    project.write("steps.py", STEP.replace("predictor.enc", "predictor.End"))
    project.write("pytest.ini", INI.format("steps.py"))
    result = project.run(*ONE)
    pattern = "forecaster.predictor.Endoding_grid_mlp"
    result.stdout.fnmatch_lines(
        [
            "*test_loads[[]0.7.0-graph_lam[]]*",
            f"Nothing in the saved run matches '{pattern}'.",
            "  migration: 0.8.0-grid-update",
        ]
    )
    result.stdout.fnmatch_lines(
        [
            "*test_migrations[[]0.7.0-graph_lam[]]*",
            "0.7.0-graph_lam: migrations for it are not in order.",
            "  step 0.8.0-grid-update: Nothing in the saved run matches "
            f"'{pattern}'.",
        ]
    )


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        (
            "gone.py",
            "",
            [
                "ERROR: The migrations of the repository don't exist.",
                "  path: {root}/gone.py",
                "Correct the path: a file *.py or a folder of such files.",
            ],
        ),
        (
            "steps.py",
            "MIGRATIONS = ['0.8.0']",
            [
                "ERROR: MIGRATIONS in {root}/steps.py provides something "
                "other than migrations.",
                "  expected: a list of pytest_nlam_compat.migrations.Migration",
                "  found: str '0.8.0'",
                "List Migration objects there, and nothing else.",
            ],
        ),
        (
            "steps.py",
            "from pytest_nlam_compat.migrations import Renome",
            [
                "ERROR: The migrations of the repository can't be imported.",
                "  importing: {root}/steps.py",
                "  cause: ImportError: cannot import name 'Renome' from "
                "'pytest_nlam_compat.migrations' (*)",
                "  raised in: {root}/steps.py:1",
                "Fix the error above.",
            ],
        ),
        (
            "steps.py",
            STEP + "MIGRATIONS *= 2",
            [
                "ERROR: Two migrations have the id '0.8.0-grid-update'.",
                "  in the repository: Named by what it does (#800).",
                "  and: Named by what it does (#800).",
                "Choose another id for the newer one: published migrations "
                "never change. Remove what neural-lam's history has by now.",
            ],
        ),
        (
            "steps.py",
            STEP.replace("0.8.0-grid-update", "0.7.0-forecaster"),
            [
                "ERROR: Two migrations have the id '0.7.0-forecaster'.",
                "  in neural-lam's history: ARModel was split: *",
                "  and: Named by what it does (#800).",
                "Choose another id for the newer one: *",
            ],
        ),
    ],
    ids=["missing", "no migrations", "broken", "twice", "taken"],
)
def test_what_can_not_be_read_is_a_usage_error(source, text, message, project):
    if text:
        project.write("steps.py", text)
    project.write("pytest.ini", INI.format(source))
    result = project.run(*ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line.format(root=project.folder) for line in message]
    # Our files are named as somebody's import of them.
    found = [line for line in result.errlines if line]
    assert len(found) == len(lines)
    result.stderr.fnmatch_lines(lines, consecutive=True)


def test_a_hook_that_raises_is_a_usage_error(project):
    path = project.write(
        "conftest.py",
        "def pytest_nlam_compat_migrations():\n    return 1 / 0\n",
    )
    result = project.run(*ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    found = error_lines(result)
    assert found[:3] == [
        "ERROR: The hook pytest_nlam_compat_migrations failed.",
        "  cause: ZeroDivisionError: division by zero",
        f"  raised in: {path}:2, in pytest_nlam_compat_migrations",
    ]


def test_a_hook_that_gives_something_else_is_a_usage_error(project):
    project.write(
        "conftest.py", "def pytest_nlam_compat_migrations():\n    return [1]\n"
    )
    result = project.run(*ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert error_lines(result) == [
        "ERROR: The hook pytest_nlam_compat_migrations provides something "
        "other than migrations.",
        "  expected: a list of pytest_nlam_compat.migrations.Migration",
        "  found: int 1",
        "List Migration objects there, and nothing else.",
    ]


UPSTREAM = """
from collections import namedtuple

Migration = namedtuple(
    "Migration", "target_version description apply hard_break"
)


def renaming(old, new):
    def apply(state_dict):
        return {
            new + name[len(old):] if name.startswith(old) else name: tensor
            for name, tensor in state_dict.items()
        }
    return apply


def prefixed(state_dict):
    return {
        name if name.startswith("forecaster.") else
        f"forecaster.predictor.{name}": tensor
        for name, tensor in state_dict.items()
    }


MIGRATIONS = [
    Migration(1, "prefix", prefixed, False),
    Migration(NUMBER, "rename", renaming(
        "forecaster.predictor.OLD", "forecaster.predictor.NEW"
    ), False),
]
CURRENT_CHECKPOINT_VERSION = max(m.target_version for m in MIGRATIONS)


def apply_migrations(state_dict, from_version):
    for migration in MIGRATIONS:
        if migration.target_version > from_version:
            state_dict = migration.apply(state_dict)
    return state_dict, CURRENT_CHECKPOINT_VERSION
"""
LOADER = (
    "models/module.py",
    '        loaded_state_dict = checkpoint["state_dict"]\n',
    "        from neural_lam import migrations\n"
    '        checkpoint["state_dict"], _ = migrations.apply_migrations(\n'
    '            checkpoint["state_dict"],\n'
    '            checkpoint.get("neural_lam_checkpoint_version", 0),\n'
    "        )\n"
    '        loaded_state_dict = checkpoint["state_dict"]\n',
)


def with_registry(project, **text):
    """Give neural-lam a registry in the form of #701, used by its loader."""
    copy = project.neural_lam(*RENAMED, LOADER)
    registry = UPSTREAM
    for name, value in text.items():
        registry = registry.replace(name.upper(), str(value))
    (copy / "migrations.py").write_text(registry)


@pytest.mark.slow
def test_neural_lams_own_registry_fixes_either_route(project):
    with_registry(
        project, number=2, old="encoding_grid_mlp.", new="grid_update_mlp."
    )
    result = project.run(*SOME, "-v", "--nlam-compat-release=>=0.5")
    assert result.ret == 0
    assert registries(result) == {
        "history": "PASSED",
        "neural_lam.migrations": "PASSED",
    }
    shown = cells(result)
    assert all(shown[f"0.{n}.0-graph_lam"].startswith("ok/") for n in (5, 6, 7))


def test_two_of_its_steps_with_one_number_are_told(project):
    with_registry(
        project, number=1, old="encoding_grid_mlp.", new="grid_update_mlp."
    )
    result = project.run(*ONE, "-v")
    assert registries(result) == {
        "history": "PASSED",
        "neural_lam.migrations": "FAILED",
    }
    result.stdout.fnmatch_lines(
        [
            "The migrations of neural_lam.migrations are not in order.",
            "  step 1 (prefix): Another step has the same number.",
            "  step 1 (rename): Another step has the same number.",
        ]
    )


def test_half_a_segment_in_its_steps_is_told(project):
    with_registry(
        project, number=2, old="encoding_grid_mlp", new="grid_update_mlp"
    )
    result = project.run(*ONE)
    result.stdout.fnmatch_lines(
        [
            "*test_migrations[[]0.7.0-graph_lam[]]*",
            "0.7.0-graph_lam: migrations for it are not in order.",
            "  step 2 (rename): It renames "
            "'forecaster.predictor.encoding_grid_mlp_extra' along with "
            "'forecaster.predictor.encoding_grid_mlp': match whole segments.",
        ]
    )
    assert failed(result) == set()
