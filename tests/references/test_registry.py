import pytest
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import registry

A, B = "a" * 64, "b" * 64


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "registry.txt"
    path.write_text("# Archives.\n")
    return path


def test_both_spellings_of_a_hash_are_read(listed):
    listed.write_text(
        f"# Archives.\n\n0.10.0.zip sha256:{A}\n  # aside\n0.9.0.zip {B}\n"
    )
    assert registry.read(listed) == {Version("0.9.0"): B, Version("0.10.0"): A}


def test_releases_come_in_the_order_of_versions(listed):
    names = ["0.10.0", "0.9.0", "1.0.0", "1.0.0rc1", "0.9.0.post1"]
    listed.write_text("".join(f"{name}.zip {A}\n" for name in names))
    assert list(map(str, registry.read(listed))) == [
        "0.9.0",
        "0.9.0.post1",
        "0.10.0",
        "1.0.0rc1",
        "1.0.0",
    ]


def test_upper_case_and_crlf_are_read(listed):
    listed.write_bytes(f"0.6.0.zip {A.upper()}\r\n".encode())
    assert registry.read(listed) == {Version("0.6.0"): A}


def test_pooch_reads_the_same(listed):
    import pooch

    listed.write_text(f"# Archives.\n0.5.0.zip {B}\n")
    registry.add(listed, Version("0.6.0"), A)
    pup = pooch.create(path=listed.parent, base_url="http://localhost/")
    pup.load_registry(listed)
    assert pup.registry == {"0.5.0.zip": B, "0.6.0.zip": f"sha256:{A}"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0.6.0.zip", "it has 1 words instead of a name and a hash"),
        (
            f"0.6.0.zip {A} http://localhost/",
            "it has 3 words instead of a name and a hash",
        ),
        (f"0.6.0.tar {A}", "the name 0.6.0.tar does not end in .zip"),
        (f"new.zip {A}", "new is not a version (PEP 440)"),
        (f".zip {A}", " is not a version (PEP 440)"),
        (f"v0.6.0.zip {A}", "v0.6.0.zip must be written as 0.6.0.zip"),
        (f"0.6.0-rc1.zip {A}", "0.6.0-rc1.zip must be written as 0.6.0rc1.zip"),
        (
            f"0.6.0+g1a2b.zip {A}",
            "0.6.0+g1a2b is not a release but a development version",
        ),
        (
            f"0.6.0.dev3.zip {A}",
            "0.6.0.dev3 is not a release but a development version",
        ),
        (f"../0.6.0.zip {A}", "../0.6.0 is not a version (PEP 440)"),
        (
            f"0.6.0.zip md5:{A}",
            f"md5:{A} is not a sha256 of 64 hex digits",
        ),
        ("0.6.0.zip 1a2b", "1a2b is not a sha256 of 64 hex digits"),
        (f"0.5.0.zip {A}", "0.5.0.zip is listed a second time"),
        (f"0.5.zip {A}", "0.5.zip is listed a second time"),
    ],
)
def test_an_invalid_line_is_named(listed, line, reason):
    listed.write_text(f"# Archives.\n0.5.0.zip {B}\n{line}\n")
    with pytest.raises(CompatError) as error:
        registry.read(listed)
    assert error.value.what.startswith(f"Line 3 of {listed} ")
    assert error.value.what.endswith(f": {reason}.")
    assert error.value.facts == {
        "expected": "0.6.0.zip sha256:<64 hex digits>",
        "found": line,
    }
    assert "restore the file from git" in error.value.remedy


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file or directory"),
        (
            b"\xff\n",
            "'utf-8' codec can't decode byte 0xff in position 0: invalid start"
            " byte",
        ),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, content, found):
    path = tmp_path / "registry.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CompatError) as error:
        registry.read(path)
    assert error.value.what.endswith(f"can't be read: {path}.")
    assert str(error.value.facts["found"]) == found
    assert "install pytest-nlam-compat again" in error.value.remedy


@pytest.mark.parametrize("before", ["", "# Archives.\n", "# Archives."])
def test_an_archive_is_added_on_a_line_of_its_own(listed, before):
    listed.write_text(before)
    registry.add(listed, Version("0.6.0"), A)
    registry.add(listed, Version("0.5.0"), B)
    start = "# Archives.\n" if before else ""
    assert listed.read_text() == (
        f"{start}0.6.0.zip sha256:{A}\n0.5.0.zip sha256:{B}\n"
    )


def test_a_release_is_never_added_twice(listed):
    registry.add(listed, Version("0.6.0"), A)
    before = listed.read_text()
    with pytest.raises(CompatError) as error:
        registry.add(listed, Version("0.6.0"), B)
    assert error.value.what == (
        f"0.6.0.zip can't be added to {listed}: it is listed already."
    )
    assert error.value.facts == {
        "listed": f"sha256 {A}",
        "new": f"sha256 {B}",
    }
    assert "delete its archive and its line" in error.value.remedy
    assert listed.read_text() == before


def test_the_hash_of_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert registry.sha256_of(path) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert registry.archive_name(Version("0.6.0")) == "0.6.0.zip"
