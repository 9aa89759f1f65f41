"""The archive of a release: what is written is read, and nothing else."""

import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.release_archive import (
    INDEX,
    ReleaseArchive,
    to_json,
    write_archive,
)

HEAD = {"release": "0.6.0", "void": {"hi_lam": "it can't run"}}
CASES = {
    "b": {"case.json": b'{"samples": 2}\n', "graph/1/x.pt": b"\x00" * 300},
    "a": {"case.json": b"{}\n", "checkpoint.ckpt": bytes(range(256)) * 4},
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "0.6.0.zip"


@pytest.fixture
def archive(path):
    write_archive(path, HEAD, CASES)
    opened = ReleaseArchive(path)
    yield opened
    opened.close()


def test_what_is_written_is_read(archive, path):
    assert archive.path == path
    assert archive.release == Version("0.6.0")
    assert archive.cases == ["a", "b"]
    assert archive.void == {"hi_lam": "it can't run"}
    for case, members in CASES.items():
        for name, content in members.items():
            assert archive.read(case, name) == content


def test_the_index_lists_everything(archive):
    assert archive.index == {
        **HEAD,
        "schema": 1,
        "cases": ["a", "b"],
        "members": [
            "a/case.json",
            "a/checkpoint.ckpt",
            "b/case.json",
            "b/graph/1/x.pt",
        ],
    }


def test_returned_lists_may_be_changed(archive):
    archive.cases.clear()
    archive.void.clear()
    assert archive.cases == ["a", "b"]
    assert archive.void == {"hi_lam": "it can't run"}


def test_members_are_extracted_by_the_start_of_their_names(archive, tmp_path):
    into = tmp_path / "made" / "here"
    archive.extract("b", "graph/", into)
    found = [p for p in into.rglob("*") if p.is_file()]
    assert found == [into / "graph" / "1" / "x.pt"]
    assert found[0].read_bytes() == CASES["b"]["graph/1/x.pt"]
    archive.extract("a", "c", into)
    assert {p.name for p in into.iterdir()} == {
        "case.json",
        "checkpoint.ckpt",
        "graph",
    }


def test_equal_content_gives_equal_bytes(archive, path, tmp_path):
    """Whatever order, time or kind of mapping it comes in."""
    again = tmp_path / "again.zip"
    reordered = {
        case: dict(reversed(CASES[case].items())) for case in reversed(CASES)
    }
    write_archive(again, dict(reversed(HEAD.items())), reordered)
    assert again.read_bytes() == path.read_bytes()


def test_members_are_alike_on_every_system(archive, path):
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
    assert entries[0].filename == INDEX
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.create_system for entry in entries} == {3}
    assert {entry.external_attr for entry in entries} == {0o644 << 16}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_DEFLATED}


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.dictionaries(
            st.text("xyz.", min_size=1, max_size=3), st.binary(max_size=99)
        ),
        max_size=3,
    )
)
def test_any_content_is_kept(tmp_path_factory, cases):
    path = tmp_path_factory.mktemp("any") / "1.0.zip"
    write_archive(path, {"release": "1.0", "void": {}}, cases)
    archive = ReleaseArchive(path)
    read = {
        case: {name: archive.read(case, name) for name in members}
        for case, members in cases.items()
    }
    archive.close()
    assert read == cases
    assert archive.cases == sorted(cases)


def test_json_has_one_layout():
    assert to_json({"b": "é", "a": [1]}) == (
        '{\n "a": [\n  1\n ],\n "b": "é"\n}\n'.encode()
    )


def test_nothing_is_overwritten(path):
    path.write_bytes(b"published")
    with pytest.raises(CompatError) as raised:
        write_archive(path, HEAD, CASES)
    assert str(raised.value) == (
        f"{path} exists. References are frozen and never overwritten.\n"
        "Delete it and its line in registry.txt by hand if it was never "
        "published."
    )
    assert path.read_bytes() == b"published"
