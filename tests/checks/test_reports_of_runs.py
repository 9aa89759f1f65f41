"""Reports of real runs: in one process and in four, whole and stopped."""

import json
import re
import xml.etree.ElementTree as ElementTree

import jsonschema
import pytest
from nlam_runs import FIXTURES, ONE, Project, shows_no_traceback

from pytest_nlam_compat.reports.merging import merge
from pytest_nlam_compat.reports.report_formats import SCHEMA

# Two references, one of them of a hierarchical model.
CHOICE = ("--nlam-compat-release===0.7.0", "--nlam-compat-case=*i_lam")
BOTH = ("--nlam-compat-release===0.7.0", "--nlam-compat-case=*_lam")
BREAK = (
    "models/step_predictors/graph/hierarchical.py",
    "return mesh_rep_levels[0] ",
    "return 1.01 * mesh_rep_levels[0] ",
)
TIMES = {"seconds", "started"}


def results(project, name="r.json"):
    """Read a results file, which has to fit the published schema."""
    found = json.loads((project.folder / name).read_text(encoding="utf-8"))
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return found


def without_times(value):
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in TIMES}
        return {k: without_times(v) for k, v in kept.items()}
    return [*map(without_times, value)] if isinstance(value, list) else value


def checks(found):
    return {
        check["id"]: check
        for each in found["references"]
        for check in each["checks"]
    }


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Check a broken clone, with every report there is."""
    project = Project(tmp_path_factory.mktemp("broken"))
    project.neural_lam(BREAK)
    project.result = project.run(
        *BOTH,
        *(f"--nlam-compat-report=r.{kind}" for kind in ("html", "json", "md")),
        "--junitxml=r.xml",
        "--report-log=r.log",
        GITHUB_ACTIONS="true",
        GITHUB_WORKSPACE=str(project.folder),
        GITHUB_STEP_SUMMARY=str(project.folder / "summary.md"),
    )
    return project


@pytest.mark.slow
def test_report_alone_switches_the_checks_on(broken):
    found = results(broken)
    assert broken.result.ret == found["exit_status"] == 1
    assert found["incomplete"] == ""
    assert [each["id"] for each in found["references"]] == [
        *("0.7.0-graph_lam", "0.7.0-hi_lam")
    ]
    outcomes = {i: c["outcome"] for i, c in checks(found).items()}
    assert outcomes["nlam-compat::test_outputs[0.7.0-hi_lam]"] == "failed"
    assert outcomes["nlam-compat::test_outputs[0.7.0-graph_lam]"] == "passed"
    counts = broken.result.parseoutcomes()
    others = [check["outcome"] for check in found["other_checks"]]
    for outcome in ("passed", "failed"):
        shown = [*outcomes.values(), *others].count(outcome)
        assert shown == counts[outcome]


@pytest.mark.slow
def test_diagnosis_map_and_provenance_are_those_of_the_break(broken):
    found = results(broken)
    (cause,) = found["causes"]
    assert cause["source"].startswith("neural_lam/models/step_predictors/")
    assert cause["references"] == ["0.7.0-hi_lam"]
    worst = checks(found)["nlam-compat::test_outputs[0.7.0-hi_lam]"]
    assert worst["cause"] == cause["key"]
    error_map = worst["map"]
    nx, ny = error_map["grid"]
    assert len(error_map["golden"]) == nx * ny
    node = error_map["node"]
    assert error_map["golden"][node] == pytest.approx(
        error_map["expected"], rel=1e-5
    )
    assert error_map["difference"][node] == pytest.approx(
        error_map["obtained"] - error_map["expected"], rel=1e-3
    )
    # The worst step has the largest error of all.
    growth = error_map["growth"]
    assert growth[error_map["step"]] == max(growth)
    share = max(growth) / error_map["allowed"]
    assert worst["shares"]["float64"] == pytest.approx(share, rel=1e-3)
    silent = checks(found)["nlam-compat::test_native[0.7.0-hi_lam]"]
    assert silent["native"]["outcome"] == "differs"
    assert silent["map"]["growth"] == growth
    assert found["current"]["path"] == str(
        broken.folder / "edited" / "neural_lam"
    )
    assert found["settings"]["device"] == "cpu"
    assert found["references"][0]["recorded"]["neural-lam"] == "0.7.0"


@pytest.mark.slow
def test_junit_and_report_log_carry_the_same_numbers(broken):
    expected = {
        check["id"].rpartition("::")[2]: check["shares"]
        for check in checks(results(broken)).values()
        if check["shares"]
    }
    junit = {
        case.get("name"): {
            each.get("name")[11:-1]: float(each.get("value"))
            for each in case.iter("property")
            if each.get("name").startswith("nlam_share[")
        }
        for case in ElementTree.parse(broken.folder / "r.xml").iter("testcase")
    }
    assert {name: shares for name, shares in junit.items() if shares} == (
        expected
    )
    logged = {}
    log = (broken.folder / "r.log").read_text(encoding="utf-8")
    for line in map(json.loads, log.splitlines()):
        if line.get("when") == "call":
            name = line["nodeid"].rpartition("::")[2]
            found = dict(line["user_properties"])
            logged[name] = {
                label[11:-1]: value
                for label, value in found.items()
                if label.startswith("nlam_share[")
            }
    assert {name: s for name, s in logged.items() if s} == expected


@pytest.mark.slow
def test_github_shows_the_line_of_the_clone_and_the_summary(broken):
    lines = [r for r in broken.result.outlines if r.startswith("::error ")]
    (cause,) = results(broken)["causes"]
    file, _, line = cause["source"].partition(":")
    assert len(lines) == 1
    assert lines[0].startswith(
        f"::error file=edited/{file},line={line},title=nlam-compat::"
    )
    assert (broken.folder / "edited" / file).is_file()
    summary = (broken.folder / "summary.md").read_text(encoding="utf-8")
    assert summary == (broken.folder / "r.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("spread", ["-n4", "-n2 --dist=loadfile"])
def test_several_processes_give_the_same_results_as_one(broken, spread):
    result = broken.run(
        *BOTH, "--nlam-compat-report=spread.json", *spread.split()
    )
    assert result.ret == 1
    alone, spread = results(broken), results(broken, "spread.json")
    assert without_times(spread) == without_times(alone)


@pytest.mark.slow
def test_shards_give_together_what_one_run_gives(project):
    choice = (*BOTH, "-kloads or registry")
    project.run(*choice, "--nlam-compat-report=r.json")
    for shard in (1, 2):
        project.run(
            *choice,
            f"--nlam-compat-shard={shard}/2",
            f"--nlam-compat-report={shard}.json",
        )
    parts = {n: results(project, f"{n}.json") for n in ("1", "2")}
    merged, alone = merge(parts), results(project)
    assert merged["shards"] == ["1/2", "2/2"]
    merged["shards"] = []
    assert without_times(merged) == without_times(alone)


@pytest.mark.slow
def test_run_that_stops_early_is_not_whole(project):
    project.neural_lam(BREAK)
    result = project.run(
        *CHOICE, "--nlam-compat-report=r.json", "-x", "-ktest_native or loads"
    )
    found = results(project)
    assert result.ret == 1
    assert found["incomplete"] == (
        "1 of 2 checks were not run.\nstopping after 1 failures"
    )
    assert [c["outcome"] for c in checks(found).values()] == [
        *("failed", "not run")
    ]
    assert found["selected"]["-k"] == "test_native or loads"


@pytest.mark.parametrize(
    "flags", [(), pytest.param(("-n1",), marks=pytest.mark.slow)]
)
def test_interrupted_run_says_so(project, flags):
    project.write(
        "stopping.py",
        "def pytest_runtest_logreport(report):\n"
        "    if 'test_loads' in report.nodeid and report.when == 'call':\n"
        "        raise KeyboardInterrupt\n",
    )
    project.path.append(project.folder)
    options = ("--nlam-compat-report=r.json", "-kloads or loss", "-pstopping")
    result = project.run(*ONE, *options, *flags)
    found = results(project)
    assert result.ret == found["exit_status"] == 2
    assert found["incomplete"].startswith("The run was interrupted.\n1 of 2 ")
    outcomes = [check["outcome"] for check in checks(found).values()]
    assert outcomes == ["passed", "not run"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--nlam-compat-release=seven"], "is not a version specifier"),
        (["--nlam-compat-case=nothing"], "No reference is selected."),
        (["--nlam-compat-shard=5/4"], "--nlam-compat-shard is not a shard"),
        ([*ONE, "-p", "no:regressions"], "plugins of pytest that are off"),
    ],
)
def test_run_that_can_not_begin_is_reported(project, options, reason):
    names = [f"r.{kind}" for kind in ("html", "json", "md")]
    project.write("r.json", "older")
    result = project.run(
        *(f"--nlam-compat-report={name}" for name in names),
        *options,
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(project.folder / "summary.md"),
    )
    found = results(project)
    assert result.ret == found["exit_status"] == 4
    assert shows_no_traceback(result)
    assert found["incomplete"].startswith("The run could not begin.\n")
    assert reason in found["incomplete"]
    assert any(
        line.startswith("::error title=nlam-compat::The run could not begin.")
        for line in result.outlines
    )
    for name in (*names, "summary.md"):
        assert reason in (project.folder / name).read_text(encoding="utf-8")


def test_report_of_a_run_that_did_not_begin_clears_no_folder(project):
    kept = project.write("temporary/kept.txt", "of a user")
    result = project.run("--nlam-compat-report=r.json", "--nlam-compat-case=-")
    assert result.ret == 4
    assert kept.read_text() == "of a user"


def test_code_that_can_not_be_imported_is_reported(project):
    project.write("edited/neural_lam/__init__.py", "1 / 0\n")
    project.path.insert(0, project.folder / "edited")
    result = project.run("--nlam-compat-report=r.json")
    found = results(project)
    assert result.ret == 4
    assert "ZeroDivisionError" in found["incomplete"]
    assert (found["current"], found["references"]) == ({}, [])


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ("r.txt", "There is no report with the suffix '.txt'."),
        ("gone/r.json", "The report r.json has no folder."),
    ],
)
def test_impossible_report_is_an_error_at_the_start(project, report, reason):
    result = project.run(f"--nlam-compat-report={report}")
    assert result.ret == 4
    assert f"ERROR: {reason}" in result.errlines
    assert shows_no_traceback(result)


def test_report_never_lies_beside_references(project):
    report = FIXTURES / "r.json"
    options = (f"--nlam-compat-report={report}", "--nlam-compat-report=r.json")
    result = project.run(*ONE, *options)
    assert result.ret == 4
    assert "--nlam-compat-report would write where the references are" in (
        result.stderr.str()
    )
    # The other one is written, and says why.
    assert "which are frozen" in results(project)["incomplete"]


def test_report_that_can_not_be_written_at_the_end_fails_the_run(project):
    project.write(
        "removing.py",
        "import pathlib\n"
        "def pytest_runtest_logfinish():\n"
        "    folder = pathlib.Path('reports')\n"
        "    if folder.is_dir():\n"
        "        folder.rmdir()\n",
    )
    (project.folder / "reports").mkdir()
    project.path.append(project.folder)
    result = project.run(
        *ONE,
        "--nlam-compat-report=reports/r.json",
        "--nlam-compat-report=r.md",
        "-ktest_opens",
        "-premoving",
    )
    assert result.ret == 1
    assert "nlam-compat: r.json can't be written." in result.outlines
    assert "1 reference passed" in (project.folder / "r.md").read_text(
        encoding="utf-8"
    )
    assert shows_no_traceback(result)


def test_no_check_is_no_success(project):
    result = project.run(*ONE, "--nlam-compat-report=r.json", "-knothing")
    found = results(project)
    assert result.ret == 5
    assert found["incomplete"] == "No check was selected."


@pytest.mark.slow
def test_temporary_folders_are_in_no_report(broken):
    text = (broken.folder / "r.json").read_text(encoding="utf-8")
    assert not re.search(r"/temporary/|outputs kept in", text)
