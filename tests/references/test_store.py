"""Which archives belong to which copy of the package, and archives in place."""

import hashlib
import subprocess
import sys

import pooch
import pytest
from packaging.version import Version

from pytest_nlam_compat import __version__
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import store
from pytest_nlam_compat.references.store import Store

R5, R6 = Version("0.5.0"), Version("0.6.0")
DEFAULT_URL = (
    f"https://github.com/mllam/pytest-nlam-compat/raw/v{__version__}/fixtures/"
)


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """Two archives and their registry."""
    path = tmp_path / "checkout" / "fixtures"
    path.mkdir(parents=True)
    (path / "0.5.0.zip").write_bytes(b"five")
    (path / "0.6.0.zip").write_bytes(b"six")
    (path / "registry.txt").write_text(
        f"0.6.0.zip {sha(b'six')}\n0.5.0.zip {sha(b'five')}\n"
    )
    return path


@pytest.fixture
def checkout(folder, monkeypatch):
    package = folder.parent / "pytest_nlam_compat"
    monkeypatch.setattr(store, "PACKAGE", package)
    return folder


def test_a_checkout_uses_its_archives_in_place(checkout):
    archives = Store.locate()
    assert archives.releases == [R5, R6]
    assert archives.archive(R6) == checkout / "0.6.0.zip"
    assert archives.obtain(R6).how == "in place"
    assert archives.description == (
        f"fixtures/ of the checkout {checkout.parent}"
    )
    assert archives.notices == []


def test_this_package_is_in_a_checkout():
    root = store.PACKAGE.parent
    assert Store.locate().description == f"fixtures/ of the checkout {root}"


def test_a_checkout_can_be_told_to_download(checkout, tmp_path):
    cache = tmp_path / "cache"
    archives = Store.locate(cache=cache)
    assert archives.description == f"cache {cache}, filled from {DEFAULT_URL}"
    assert archives.releases == [R5, R6]


def test_an_archive_in_place_is_hashed_once(checkout):
    archives = Store.locate()
    first = archives.archive(R6)
    first.write_bytes(b"changed")
    assert archives.archive(R6) == first


def test_a_changed_archive_in_place_is_refused_and_left_alone(checkout):
    path = checkout / "0.6.0.zip"
    path.write_bytes(b"changed")
    with pytest.raises(CompatError) as error:
        Store.locate().archive(R6)
    assert str(error.value) == (
        "The archive 0.6.0.zip is not the one in the registry.\n"
        f"  file: {path}\n"
        f"  expected: sha256 {sha(b'six')}\n"
        f"  found: sha256 {sha(b'changed')}\n"
        "Restore it from git: a reference never changes."
    )
    assert path.read_bytes() == b"changed"


def test_an_archive_that_vanishes_is_reported(checkout):
    archives = Store.locate()
    (checkout / "0.6.0.zip").unlink()
    with pytest.raises(CompatError, match="  found: no file\n"):
        archives.archive(R6)


def test_a_listed_archive_must_be_there(checkout):
    (checkout / "0.5.0.zip").unlink()
    with pytest.raises(CompatError) as error:
        Store.locate()
    assert error.value.facts == {
        "registry": checkout / "registry.txt",
        "missing": "0.5.0.zip",
    }
    assert "Restore them from git." in error.value.remedy


def test_an_archive_that_is_there_must_be_listed(checkout):
    (checkout / "0.7.0.zip").touch()
    (checkout / "draft.zip").touch()
    with pytest.raises(CompatError) as error:
        Store.locate()
    assert error.value.facts == {
        "registry": checkout / "registry.txt",
        "not listed": "0.7.0.zip, draft.zip",
    }
    assert "Add a line for each to the registry" in error.value.remedy


def test_a_folder_in_place_of_an_archive_is_reported(checkout):
    path = checkout / "0.6.0.zip"
    path.unlink()
    path.mkdir()
    with pytest.raises(CompatError) as error:
        Store.locate().archive(R6)
    assert error.value.what == "The archive 0.6.0.zip can't be read."
    assert error.value.facts == {"file": path, "cause": "Is a directory"}


def test_a_release_without_an_archive_is_refused(checkout):
    with pytest.raises(CompatError) as error:
        Store.locate().archive(Version("0.7.0"))
    assert str(error.value) == (
        "There is no reference archive of neural-lam 0.7.0.\n"
        "  releases: 0.5.0, 0.6.0\n"
        f"  registry: {checkout / 'registry.txt'}\n"
        "Choose one of these releases."
    )


def test_another_spelling_of_a_release_finds_its_archive(checkout):
    path = Store.locate().archive(Version("0.6"))
    assert path == checkout / "0.6.0.zip"


def test_an_installation_without_a_registry_is_damaged(installed):
    installed.registry.unlink()
    with pytest.raises(CompatError) as error:
        Store.locate()
    assert str(installed.registry) in error.value.what
    assert error.value.facts["found"] == "No such file or directory"
    assert "install pytest-nlam-compat again" in error.value.remedy


def test_the_fixtures_of_another_package_are_not_ours(installed):
    beside = installed.package.parent / "fixtures"
    beside.mkdir()
    (beside / "registry.txt").write_text("theirs\n")
    installed.publish("0.6.0.zip", b"six")
    assert Store.locate().releases == [R6]


def test_an_installed_package_downloads_into_the_users_cache(installed):
    cache = pooch.os_cache("pytest-nlam-compat")
    assert Store.locate().description == (
        f"cache {cache}, filled from {DEFAULT_URL}"
    )
    assert Store.locate(offline=True).description == f"cache {cache}, offline"


def test_importing_the_store_imports_nothing_that_downloads():
    code = (
        "import sys, pytest_nlam_compat.references.store\n"
        "heavy = {'pooch', 'requests', 'filelock', 'numpy', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
