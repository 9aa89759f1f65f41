"""Archives that are not what was published: one clear error each."""

import json
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.release_archive import (
    INDEX,
    SCHEMA,
    ReleaseArchive,
    write_archive,
)

HEAD = {"release": "0.6.0", "void": {"hi_lam": "it can't run"}}
CASES = {
    "b": {"case.json": b'{"samples": 2}\n', "graph/1/x.pt": b"\x00" * 300},
    "a": {"case.json": b"{}\n", "checkpoint.ckpt": bytes(range(256)) * 4},
}
RESTORE = (
    "Restore it: from git in a checkout, with `nlam-compat fetch` elsewhere."
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "0.6.0.zip"


@pytest.fixture
def written(path):
    write_archive(path, HEAD, CASES)
    return path


def zipped(path, members, index):
    """Write an archive by hand, so that it may be a wrong one."""
    with zipfile.ZipFile(path, "w") as file:
        if index is not None:
            file.writestr(INDEX, index)
        for name, content in members.items():
            file.writestr(name, content)


def index_of(members, **more):
    return json.dumps(
        {"schema": SCHEMA, "members": members, "release": "0.6.0", **more}
    )


def error_of(path):
    with pytest.raises(CompatError) as raised:
        ReleaseArchive(path)
    return str(raised.value)


def test_members_that_are_missing_or_too_many(path):
    zipped(path, {"a/x": b"", "a/z": b""}, index_of(["a/w", "a/x", "a/y"]))
    assert error_of(path) == (
        "The archive 0.6.0.zip doesn't hold what its index lists.\n"
        f"  file: {path}\n"
        "  missing: a/w, a/y\n"
        "  extra: a/z\n"
        f"{RESTORE}"
    )


@pytest.mark.parametrize(
    ("members", "listed", "told"),
    [
        ({"a/x": b""}, ["a/x", "a/y"], "  missing: a/y\n  extra: nothing\n"),
        ({"a/x": b""}, [], "  missing: nothing\n  extra: a/x\n"),
    ],
)
def test_either_is_enough(path, members, listed, told):
    zipped(path, members, index_of(listed))
    assert told in error_of(path)


@pytest.mark.parametrize(
    ("index", "schema"),
    [('{"schema": 2}', "2"), ("{}", "None"), ("[1]", "None")],
)
def test_another_schema(path, index, schema):
    zipped(path, {}, index)
    message = error_of(path)
    assert f"  expected: schema 1\n  found: {schema}\n" in message
    assert "`pip install -U pytest-nlam-compat`" in message


def unreadable(path, cause):
    return (
        "The archive 0.6.0.zip can't be read.\n"
        f"  file: {path}\n"
        f"  cause: {cause}\n"
        f"{RESTORE}"
    )


def test_no_archive_at_all(path):
    cause = f"[Errno 2] No such file or directory: '{path}'"
    assert error_of(path) == unreadable(path, cause)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert error_of(path) == unreadable(path, "File is not a zip file")


def test_no_index(path):
    zipped(path, {"a/x": b""}, None)
    cause = "\"There is no item named 'release.json' in the archive\""
    assert error_of(path) == unreadable(path, cause)


def test_an_index_that_is_not_json(path):
    zipped(path, {}, "{")
    assert error_of(path).startswith(
        "The archive 0.6.0.zip can't be read.\n"
        f"  file: {path}\n"
        "  cause: Expecting property name enclosed in double quotes"
    )


def test_a_truncated_archive(written):
    content = written.read_bytes()
    written.write_bytes(content[: len(content) // 2])
    assert error_of(written) == unreadable(written, "File is not a zip file")


def offset_of(path, name):
    """Where the content of a member begins."""
    with zipfile.ZipFile(path) as file:
        entry = file.getinfo(name)
    return entry.header_offset + 30 + len(name)


def test_a_damaged_member(written):
    content = bytearray(written.read_bytes())
    content[offset_of(written, "a/case.json") + 3] ^= 1
    written.write_bytes(content)
    damaged = ReleaseArchive(written)
    with pytest.raises(CompatError) as raised:
        damaged.read("a", "case.json")
    assert str(raised.value) == (
        "The archive 0.6.0.zip is damaged.\n"
        f"  file: {written}\n"
        "  member: a/case.json\n"
        "  cause: Bad CRC-32 for file 'a/case.json'\n"
        f"{RESTORE}"
    )
    # The others are whole.
    assert damaged.read("b", "case.json") == CASES["b"]["case.json"]
    damaged.close()


def test_a_member_that_is_not_a_deflate_stream(written):
    content = bytearray(written.read_bytes())
    content[offset_of(written, "a/checkpoint.ckpt")] = 0xFF
    written.write_bytes(content)
    damaged = ReleaseArchive(written)
    with pytest.raises(CompatError, match=r"0\.6\.0\.zip is damaged") as raised:
        damaged.read("a", "checkpoint.ckpt")
    assert raised.value.facts["cause"].args[0].startswith("Error -3")
    damaged.close()


@pytest.mark.parametrize(
    ("field", "value", "cause"),
    [
        (
            8,
            1,
            "File 'a/case.json' is encrypted, password required for extract",
        ),
        (10, 77, "That compression method is not supported"),
    ],
)
def test_a_member_of_another_kind(written, field, value, cause):
    content = bytearray(written.read_bytes())
    # Its entry in the directory of the zip.
    entry = content.rindex(b"a/case.json") - 46
    content[entry + field] = value
    written.write_bytes(content)
    damaged = ReleaseArchive(written)
    with pytest.raises(CompatError) as raised:
        damaged.read("a", "case.json")
    damaged.close()
    assert raised.value.what == "The archive 0.6.0.zip is damaged."
    assert str(raised.value.facts["cause"]).startswith(cause)


def test_a_member_that_begins_at_the_end(written):
    content = bytearray(written.read_bytes())
    with zipfile.ZipFile(written) as file:
        offset = file.getinfo("a/checkpoint.ckpt").header_offset
    # As the directory of the zip has it, before the name.
    entry = content.rindex(b"a/checkpoint.ckpt")
    assert content[entry - 4 : entry] == offset.to_bytes(4, "little")
    content[entry - 4 : entry] = (len(content) - 9).to_bytes(4, "little")
    written.write_bytes(content)
    damaged = ReleaseArchive(written)
    with pytest.raises(CompatError, match=r"0\.6\.0\.zip is damaged"):
        damaged.read("a", "checkpoint.ckpt")
    damaged.close()


def test_a_member_that_was_never_there(written):
    archive = ReleaseArchive(written)
    with pytest.raises(CompatError) as raised:
        archive.read("a", "b.json")
    archive.close()
    assert raised.value.facts["member"] == "a/b.json"


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_damage_is_reported_or_harmless(tmp_path_factory, data):
    path = whole(tmp_path_factory)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
    damaged = path.with_name("damaged.zip")
    damaged.write_bytes(content)
    with suppress(CompatError):  # the one kind of error that there is
        archive = ReleaseArchive(damaged)
        assert archive.cases == ["a", "b"]
        for case, members in CASES.items():
            for name, expected in members.items():
                with suppress(CompatError):
                    assert archive.read(case, name) == expected
        archive.close()


def whole(factory):
    path = factory.getbasetemp() / "whole.zip"
    if not path.exists():
        write_archive(path, HEAD, CASES)
    return path
