"""What a run shows before and after the checks, in one process and in two."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from listed_releases import NEWEST
from nlam_runs import (
    CHECKOUT,
    CHECKS,
    ONE,
    Project,
    cells,
    failed,
    matrix,
    shows_no_traceback,
)

# Of 0.6.0 hi_lam is void.
CHOICE = (
    "--nlam-compat",
    "--nlam-compat-release=>=0.6",
    "--nlam-compat-case=*_lam",
)
METADATA = "Metadata-Version: 2.1\nName: neural-lam\nVersion: 0.6.1\n"
REFERENCES = ["0.6.0-graph_lam", "0.7.0-graph_lam", "0.7.0-hi_lam"]


@pytest.fixture(scope="module")
def green(tmp_path_factory):
    """Run the checks on three references and a void one."""
    project = Project(tmp_path_factory.mktemp("green"))
    result = project.run(*CHOICE, "-v", "--junitxml=junit.xml")
    result.junit = project.folder / "junit.xml"
    return result


@pytest.fixture(scope="module")
def properties(green):
    """Return what JUnit has of each check: {id: {name: value}}."""
    return {
        case.get("name"): {
            each.get("name"): each.get("value")
            for each in case.iter("property")
        }
        for case in ElementTree.parse(green.junit).iter("testcase")
    }


def test_each_check_has_an_id_of_check_release_and_case(green):
    shown = {
        line.split()[0]: line.split()[1]
        for line in green.outlines
        if line.startswith("nlam-compat::")
    }
    for check in CHECKS:
        newest = [r for r in REFERENCES if r.startswith(NEWEST)]
        for reference in newest if check == "test_saves" else REFERENCES:
            assert shown[f"nlam-compat::{check}[{reference}]"] == "PASSED"
    assert green.parseoutcomes() == {"passed": len(shown)}


def test_header_names_code_device_references_and_their_source(green):
    green.stdout.fnmatch_lines(
        [
            "nlam-compat: neural-lam 0.7.0 (detected by "
            "train_model.build_predictor) at *neural_lam",
            "nlam-compat: torch * on cpu",
            "nlam-compat: 3 references of 0.6.0, 0.7.0, from fixtures/ of the "
            f"checkout {CHECKOUT}",
            "nlam-compat: 1 void case, see the end",
        ]
    )


def test_run_ends_with_the_matrix_its_legend_and_what_is_void(green):
    shown = cells(green)
    assert shown.pop("0.6.0-hi_lam") == "void"
    assert sorted(shown) == [
        *("0.6.0-graph_lam", "0.7.0-graph_lam", "0.7.0-hi_lam")
    ]
    assert all(re.fullmatch(r"ok/\S+%", text) for text in shown.values())
    green.stdout.fnmatch_lines(
        [
            "native/migrated: ok, no = does not load or run, - = was not run, "
            "wrong =",
            "other outputs and no error; in capitals if it fails; %: *",
            "void: 0.6.0-hi_lam: neural-lam 0.6 can't run hierarchical "
            "models: *",
        ]
    )


def test_numbers_for_junit_come_without_a_warning(green):
    assert "PytestWarning" not in green.stdout.str()


def test_junit_has_the_outcome_of_the_native_route(properties):
    for reference in REFERENCES:
        found = properties[f"test_native[{reference}]"]
        assert found["nlam_native"] == "equal"
        assert float(found["nlam_native_difference"]) < 1e-12


@pytest.mark.parametrize(
    "check", ["test_outputs", "test_outputs_float32", "test_batch", "test_loss"]
)
def test_junit_has_the_share_of_each_tolerance(properties, check):
    for reference in REFERENCES:
        share = float(properties[f"{check}[{reference}]"]["nlam_share"])
        assert 0 <= share <= 1


def test_junit_has_the_difference_of_the_outputs(properties):
    for reference in REFERENCES:
        found = properties[f"test_outputs[{reference}]"]
        # What issue 2 asks for; the tolerance is a thousand times wider.
        assert float(found["nlam_difference"]) < 1e-12


def test_a_failure_is_summed_up_in_its_first_line_in_ci_too(project):
    project.neural_lam(
        ("*", "nn.LayerNorm(blueprint[-1])", "nn.LayerNorm(4, eps=1e-6)")
    )
    result = project.run(
        *ONE, "-k", "test_outputs[", "--junitxml=j.xml", CI="1"
    )
    what = (
        "Failed: 0.7.0-graph_lam: the current code gives other outputs than "
        "neural-lam 0.7.0."
    )
    line = f"FAILED nlam-compat::test_outputs[0.7.0-graph_lam] - {what}"
    assert line in result.outlines
    failure = ElementTree.parse(project.folder / "j.xml").find(".//failure")
    assert failure.get("message") == what
    assert "differs most: variable" in failure.text


def test_what_is_left_out_of_garbage_collection_comes_back(project):
    project.write(
        "conftest.py",
        "import gc\n"
        "def pytest_configure(config):\n"
        "    config.add_cleanup(\n"
        "        lambda: print('frozen:', gc.get_freeze_count())\n"
        "    )\n"
        "def pytest_collection_finish():\n"
        "    print('frozen then:', gc.get_freeze_count() > 100_000)\n",
    )
    result = project.run(*ONE, "--collect-only", "-q", "-s")
    assert "frozen then: True" in result.outlines
    assert result.outlines[-1] == "frozen: 0"


@pytest.mark.slow
def test_two_processes_show_the_same_matrix_as_one(project):
    project.neural_lam(
        (
            "models/step_predictors/graph/hierarchical.py",
            "return mesh_rep_levels[0] ",
            "return 2 * mesh_rep_levels[0] ",
        )
    )
    alone = project.run(*CHOICE)
    spread = project.run(*CHOICE, "-n2")

    assert (alone.ret, spread.ret) == (1, 1)
    assert shows_no_traceback(spread)
    assert spread.parseoutcomes() == alone.parseoutcomes()
    assert failed(spread) == failed(alone) > {"test_native", "test_outputs"}
    assert matrix(spread) == matrix(alone)
    assert cells(spread)["0.6.0-hi_lam"] == "void"
    assert cells(spread)["0.7.0-hi_lam"] == "WRONG/FAIL"
    spread.stdout.fnmatch_lines(["nlam-compat: 3 references of 0.6.0, 0.7.0*"])


def older(project, *edits):
    """Take away what tells it from 0.6.0, with the metadata of a checkout."""
    project.neural_lam(("*", "build_predictor", "build_from_arguments"), *edits)
    metadata = "edited/neural_lam-0.6.1.dist-info"
    project.write(f"{metadata}/METADATA", METADATA)
    project.write(f"{metadata}/RECORD", "neural_lam/__init__.py,,\n")


def test_references_newer_than_the_current_code_are_named(project):
    stored = 'ckpt["hyper_parameters"]["args"]'
    older(project, ("train_model.py", stored, "ckpt[None]"))

    result = project.run(
        "--nlam-compat",
        "--nlam-compat-case=graph_lam",
        "--nlam-compat-release=>=0.6",
        "--collect-only",
    )

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "nlam-compat: neural-lam * (detected by *, installed as 0.6.1)*",
            "nlam-compat: left out, newer than the current code: 0.7.0",
        ]
    )
    assert "0.7.0-graph_lam" not in result.stdout.str()


M2G_TYPE = 'm2g_gnn_type=getattr(args, "m2g_gnn_type", "InteractionNet"),'


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        # As main from #507 to #688: another network, silently.
        ("--m2g_gnn_type", "WRONG/-"),
        # Before #507 it had no such option, and can't know.
        ("--other_type", None),
    ],
)
def test_newer_references_are_judged_by_a_loader_that_loads_them(
    project, option, expected
):
    older(
        project,
        ("train_model.py", M2G_TYPE, ""),
        ("train_model.py", '"--m2g_gnn_type"', f'"{option}"'),
    )

    result = project.run(
        "--nlam-compat",
        "--nlam-compat-case=graph_lam-[ep]*",
        "--nlam-compat-release=>=0.7",
    )

    assert failed(result) == ({"test_native"} if expected else set())
    assert cells(result)["0.7.0-graph_lam-ensemble"] == "ok/-"
    assert cells(result).get("0.7.0-graph_lam-propagation") == expected


@pytest.mark.parametrize(
    ("choice", "coloured"), [("yes", True), ("no", False), ("auto", False)]
)
def test_colours_are_those_of_pytest_and_only_where_they_are_on(
    project, choice, coloured
):
    project.neural_lam(
        ("gnn_layers.py", "return aggr, inputs", "return aggr * 0.5, inputs")
    )
    result = project.run(*ONE, "-k", "outputs[", f"--color={choice}", "-q")
    text = result.stdout.str()
    assert ("\x1b[31m-/FAIL\x1b[0m" in text) is coloured
    assert ("\x1b[31m\x1b[1mFAILED nlam-compat: the input " in text) is coloured
    assert ("\x1b[" in text) is coloured
