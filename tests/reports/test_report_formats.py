"""Where reports may go, what is written there, and what is read again."""

import json
import os
import subprocess
import sys

import jsonschema
import pytest
from made_results import CAUSE, check, red, reference, results

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports import report_formats
from pytest_nlam_compat.reports.report_formats import (
    SCHEMA,
    check_targets,
    read_results,
    write_report,
)

VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def test_schema_is_one_and_describes_what_is_written(tmp_path):
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    for found in (results(), red(), results(current={}, references=[])):
        VALIDATOR.validate(found)
        file = tmp_path / "results.json"
        write_report(found, file)
        assert read_results(file) == found


@pytest.mark.parametrize("name", ["a.html", "a.md", "a.json", "A.HTML"])
def test_report_replaces_an_older_one(tmp_path, name):
    file = tmp_path / name
    file.write_text("older")
    write_report(results(), file)
    assert "hi_lam" in file.read_text(encoding="utf-8").replace("&#95;", "_")
    assert [*tmp_path.iterdir()] == [file]


def test_report_that_fails_keeps_the_older_one(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    file.write_text("older")
    broken = results(seconds=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        write_report(broken, file)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CompatError, match="can't be written"):
        write_report(results(), file)
    assert file.read_text() == "older"
    assert [*tmp_path.iterdir()] == [file]


def refused(*paths):
    with pytest.raises(CompatError) as caught:
        check_targets([*paths])
    return str(caught.value)


def test_impossible_reports_are_refused_at_the_start(tmp_path):
    assert "no report with the suffix '.txt'" in refused(tmp_path / "a.txt")
    assert "no report with the suffix ''" in refused(tmp_path / "report")
    text = refused(tmp_path / "gone" / "a.json")
    assert "The report a.json has no folder." in text
    assert f"folder: {tmp_path / 'gone'}" in text
    (tmp_path / "b.md").mkdir()
    assert "The report b.md is a folder." in refused(tmp_path / "b.md")


def test_html_needs_the_extra_and_others_do_not(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['jinja2'] = None\n"
        "from pathlib import Path\n"
        "from pytest_nlam_compat.reports.report_formats import *\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "check_targets([folder / 'a.json', folder / 'a.md'])\n"
        "check_targets([folder / 'a.html'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-3:]
    assert last[0].endswith("Packages that reports need are missing.")
    assert last[1:] == [
        "  missing: jinja2",
        "Install them: `pip install 'pytest-nlam-compat[report]'`.",
    ]


DAMAGES = {
    "gone": lambda found: found.pop("causes"),
    "added": lambda found: found.update(extra=1),
    "kind": lambda found: found.update(seconds="3"),
    "outcome": lambda found: found["references"][0]["checks"][0].update(
        outcome="fine"
    ),
    "map": lambda found: found["references"][0]["checks"][0]["map"].update(
        golden=[1.0]
    ),
    "grid": lambda found: found["references"][0]["checks"][0]["map"].update(
        grid=[0, 6]
    ),
    "release": lambda found: found["references"][0].update(release="seven"),
    "cause": lambda found: found.update(causes=[{**CAUSE, "failures": "1"}]),
    "shard": lambda found: found.update(shards=["1 of 4"]),
    "current": lambda found: found["current"].pop("content"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_results_are_refused(tmp_path, damage):
    found = results()
    DAMAGES[damage](found)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(found))
    with pytest.raises(CompatError, match=r"results\.json is damaged"):
        read_results(file)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '{"format": "other"}', '{"x": NaN}', "1"],
)
def test_what_is_no_results_file_is_refused(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(CompatError) as caught:
        read_results(file)
    assert "--nlam-compat-report=results.json" in caught.value.remedy


def test_results_of_a_newer_version_say_so(tmp_path):
    file = tmp_path / "results.json"
    file.write_text(json.dumps({**results(), "version": 2}))
    with pytest.raises(CompatError) as caught:
        read_results(file)
    assert caught.value.facts == {"expected": "version 1", "found": "2"}


def test_numbers_that_are_not_finite_are_null(tmp_path):
    bad = check(outcome="failed", shares={"float64": None})
    bad["map"] |= {"obtained": None, "difference": [None] * 6}
    bad["map"]["growth"] = [None, 0.1]
    file = tmp_path / "results.json"
    write_report(results(reference("0.7.0-hi_lam", bad)), file)
    write_report(read_results(file), tmp_path / "a.html")
    assert "not finite" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_schema_is_a_file_of_the_package():
    assert SCHEMA.is_file()
    assert VALIDATOR.schema["$id"].endswith(
        f"/pytest_nlam_compat/reports/{SCHEMA.name}"
    )
    assert report_formats.SUFFIXES == (".html", ".json", ".md")
