"""The table of what each release can be told by."""

import json
import shutil

import pytest
from listed_releases import FIXTURES, RELEASES
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import release_evidence
from pytest_nlam_compat.references.release_evidence import (
    FileChange,
    Marker,
    ReleaseEvidence,
    names_of_releases,
    published,
    read,
    write,
)

PATH = FIXTURES / release_evidence.FILE_NAME
R1, R2, R3 = map(Version, ("0.1.0", "0.2.0", "0.10.0"))


def test_each_release_of_the_registry_has_an_entry_and_no_other():
    assert [str(release) for release in published()] == RELEASES


def test_the_table_is_as_it_would_be_written(tmp_path):
    write(tmp_path / "table", read(PATH))
    assert (tmp_path / "table").read_text() == PATH.read_text()


def test_what_is_written_is_read_again_in_the_order_of_releases(tmp_path):
    change = FileChange(frozenset({"b", "a"}), frozenset({"c"}))
    marker = Marker("0.10.0", "neural_lam.x", "f(y)", False)
    table = {
        R3: ReleaseEvidence(marker, {"args": change}),
        R2: ReleaseEvidence(),
    }
    write(tmp_path / "table", table)
    found = read(tmp_path / "table")
    assert found == table
    assert list(found) == [R2, R3]


def test_names_come_and_go():
    table = {
        R1: ReleaseEvidence(),
        R2: ReleaseEvidence(
            files={"args": FileChange(frozenset("b"), frozenset("a"))}
        ),
        R3: ReleaseEvidence(
            files={"args": FileChange(frozenset("a"), frozenset("b"))}
        ),
    }
    found = names_of_releases(table, "args")
    assert found == {R1: set(), R2: {"b"}, R3: {"a"}}
    assert names_of_releases(table, "classes") == {one: set() for one in table}


def test_what_goes_and_never_came_was_there_from_the_start():
    table = {
        R1: ReleaseEvidence(),
        R2: ReleaseEvidence(files={"args": FileChange(removed=frozenset("a"))}),
    }
    assert names_of_releases(table, "args") == {R1: {"a"}, R2: set()}


def test_how_a_marker_reads():
    there = Marker("0.7.0", "neural_lam.train_model", "build_predictor", True)
    gone = Marker("0.5.0", "neural_lam.config", "DatastoreKindStr", False)
    assert str(there) == "train_model.build_predictor"
    assert str(gone) == "the absence of config.DatastoreKindStr"


@pytest.mark.parametrize(
    "table",
    [
        "",
        "[]",
        "{",
        json.dumps({"0.7.x": {"code": None, "files": {}}}),
        json.dumps({"0.7.0": {"code": None}}),
        json.dumps({"0.7.0": {"code": {"module": "a"}, "files": {}}}),
        json.dumps({"0.7.0": {"code": None, "files": {"other": {}}}}),
        json.dumps({"0.7.0": {"code": None, "files": {"args": {"added": 1}}}}),
        json.dumps({"0.7.0": {"code": None, "files": {"args": {}}}}),
    ],
)
def test_a_table_that_is_none(tmp_path, table):
    path = tmp_path / "table"
    path.write_text(table)
    with pytest.raises(CompatError) as raised:
        read(path)
    assert str(path) in raised.value.what


def test_no_table(tmp_path):
    with pytest.raises(CompatError, match="can't be read"):
        read(tmp_path / "table")


def test_references_without_an_entry_are_an_error_and_never_left_out(tmp_path):
    line = "99.0.0.zip sha256:" + 64 * "0" + "\n"
    text = (FIXTURES / "registry.txt").read_text(encoding="utf-8")
    (tmp_path / "registry.txt").write_text(text + line)
    shutil.copy(PATH, tmp_path)
    with pytest.raises(CompatError) as raised:
        published(tmp_path)
    assert raised.value.facts["releases"] == "99.0.0"
    assert "nlam-compat release" in raised.value.remedy
