"""What the cache holds, who may read it, and who fills it."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock
import pytest
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import store as store_module
from pytest_nlam_compat.references.release_archive import write_archive
from pytest_nlam_compat.references.store import Store

R6 = Version("0.6.0")
ARCHIVE = bytes(range(256)) * 400
SHA = hashlib.sha256(ARCHIVE).hexdigest()
DAMAGED_SHA = hashlib.sha256(b"damaged").hexdigest()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def path(cache):
    """Where the archive belongs."""
    return cache / SHA[:16] / "0.6.0.zip"


@pytest.fixture
def locate(installed, server, cache):
    """Open the store anew, as each process does."""
    installed.publish("0.6.0.zip", ARCHIVE)
    server.files["0.6.0.zip"] = ARCHIVE

    def locate(**arguments):
        return Store.locate(url=server.url, cache=cache, **arguments)

    return locate


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_an_archive_is_downloaded_once(locate, server, path, cache):
    first = locate()
    assert server.requests == []
    assert first.obtain(R6).how == "downloaded"
    assert first.archive(R6) == path
    assert path.read_bytes() == ARCHIVE
    assert locate().obtain(R6).how == "already there"
    assert locate(offline=True).obtain(R6).how == "already there"
    assert server.requests == ["/fixtures/0.6.0.zip"]
    assert first.notices == []
    assert first.description == f"cache {cache}, filled from {server.url}"


@pytest.mark.parametrize(
    ("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)]
)
def test_the_umask_decides_who_may_read(locate, path, umask, mask, mode):
    umask(mask)
    locate().archive(R6)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("variable", ["NLAM_COMPAT_CACHE", None])
def test_the_cache_of_the_environment(
    locate, installed, server, monkeypatch, tmp_path, cache, variable
):
    monkeypatch.setenv("NLAM_COMPAT_CACHE", str(tmp_path / "shared"))
    expected = tmp_path / "shared" if variable else cache
    argument = None if variable else cache
    archive = Store.locate(url=server.url, cache=argument).archive(R6)
    assert archive == expected / SHA[:16] / "0.6.0.zip"


def test_the_server_of_the_environment(locate, server, cache, monkeypatch):
    monkeypatch.setenv("NLAM_COMPAT_URL", server.url)
    assert Store.locate(cache=cache).obtain(R6).how == "downloaded"
    other = "https://example.org/mirror"
    assert Store.locate(url=other, cache=cache).description == (
        f"cache {cache}, filled from {other}/"
    )


@pytest.mark.parametrize("end", ["", "/"])
def test_a_url_may_end_in_a_slash(installed, server, cache, end):
    installed.publish("0.6.0.zip", ARCHIVE)
    server.files["0.6.0.zip"] = ARCHIVE
    Store.locate(url=server.url.rstrip("/") + end, cache=cache).archive(R6)
    assert server.requests == ["/fixtures/0.6.0.zip"]


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "/srv/fixtures", "http:///x", "http://[", ""]
)
def test_a_url_must_be_http(installed, url):
    with pytest.raises(CompatError) as error:
        Store.locate(url=url)
    assert "URL" in error.value.what
    assert error.value.facts == {
        "expected": "http://... or https://..., a folder",
        "found": url,
        "from": "an argument",
    }
    assert store_module.DEFAULT_URL in error.value.remedy


def test_a_url_from_the_environment_is_checked_too(installed, monkeypatch):
    monkeypatch.setenv("NLAM_COMPAT_URL", "example.org")
    with pytest.raises(CompatError, match=r"  from: \$NLAM_COMPAT_URL\n"):
        Store.locate()


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://me:secret@host/", "me:secret@host/x", "http://me:secret@"),
        *("http://me:secret@host:99999/", "http://host/x?token=secret"),
        *("http://host/x#secret", "http://me:se/secret@host[/", "//:secret@h"),
    ],
)
def test_what_is_refused_is_printed_without_secrets(installed, url):
    with pytest.raises(CompatError) as error:
        Store.locate(url=url)
    assert "secret" not in str(error.value)
    assert "***" in error.value.facts["found"]


def test_an_archive_that_is_replaced_once_it_was_hashed(
    installed, server, cache, tmp_path
):
    good, bad = tmp_path / "good", tmp_path / "bad"
    for path, case in ((good, "a"), (bad, "b")):
        index = {"release": "0.6.0", "void": {}}
        write_archive(path, index, {case: {"case.json": b"{}"}})
    server.files["0.6.0.zip"] = good.read_bytes()
    installed.publish("0.6.0.zip", good.read_bytes())
    archives = Store.locate(url=server.url, cache=cache)
    bad.replace(archives.obtain(R6).path)
    assert archives.open(R6).cases == ["a"]


def test_a_password_is_kept_out_of_reports(installed, cache):
    url = "https://me:secret@example.org:8443/fixtures/"
    archives = Store.locate(url=url, cache=cache)
    assert archives.description == (
        f"cache {cache}, filled from https://***@example.org:8443/fixtures/"
    )


def test_a_damaged_archive_is_replaced_with_a_notice(locate, server, path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    archives = locate()
    assert archives.archive(R6).read_bytes() == ARCHIVE
    assert archives.notices == [
        "The archive 0.6.0.zip in the cache was not the published one"
        f" (sha256 {DAMAGED_SHA}); it was downloaded again."
    ]


@pytest.mark.parametrize(
    ("content", "what", "found"),
    [
        (None, "is not in the cache", "no file"),
        (
            b"damaged",
            "in the cache is not the published one",
            f"sha256 {DAMAGED_SHA}",
        ),
    ],
)
def test_offline_nothing_is_downloaded(
    locate, server, path, content, what, found
):
    if content is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    with pytest.raises(CompatError) as error:
        locate(offline=True).archive(R6)
    assert f"The archive 0.6.0.zip {what}" in error.value.what
    assert error.value.facts == {
        "file": path,
        "expected": f"sha256 {SHA}",
        "found": found,
    }
    assert "`nlam-compat fetch`" in error.value.remedy
    assert "--nlam-compat-offline (--offline)" in error.value.remedy
    assert server.requests == []


def test_six_processes_download_once(installed, server, cache, tmp_path):
    installed.publish("0.6.0.zip", ARCHIVE)
    server.files["0.6.0.zip"] = ARCHIVE
    # Long enough for all six to come and find that there is no archive yet.
    server.answer = server.slow(1.0)
    environment = installed.environment(
        NLAM_COMPAT_URL=server.url, NLAM_COMPAT_CACHE=str(cache)
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest_nlam_compat", "fetch"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, outputs
    assert server.requests == ["/fixtures/0.6.0.zip"]
    lines = sorted(out.splitlines()[0] for out, _ in outputs)
    assert lines == (
        ["0.6.0      102.4 kB  already there"] * 5
        + ["0.6.0      102.4 kB  downloaded"]
    )


def test_a_lock_that_cannot_be_made_stops_nobody(locate, server, path):
    Path(f"{path}.lock").mkdir(parents=True)
    assert locate().obtain(R6).how == "downloaded"


def test_a_process_that_hangs_stops_nobody(locate, path, monkeypatch):
    monkeypatch.setattr(store_module, "LOCK_WAIT_S", 0.1)
    path.parent.mkdir(parents=True)
    with filelock.FileLock(f"{path}.lock"):
        assert locate().obtain(R6).how == "downloaded"


@pytest.fixture
def common(umask):
    """A folder that everybody can enter, which pytest's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    # A user who isn't root needs the right to write to delete, too.
    for each in (folder / "cache", folder / "cache" / SHA[:16]):
        each.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def fetch_read_only(installed, server, common):
    """Run `nlam-compat fetch` as one who may not write to the cache."""
    installed.publish("0.6.0.zip", ARCHIVE)
    environment = installed.environment(
        NLAM_COMPAT_URL=server.url, PYTHONPATH=str(common / "site")
    )
    shutil.copytree(installed.package.parent, common / "site")
    server.files["0.6.0.zip"] = ARCHIVE
    code = (
        "import os, sys\n"
        "from pytest_nlam_compat.cli import main\n"
        # First elsewhere and as root, who may write anywhere: what others may
        # not even read is imported then.
        "assert main(['fetch', '--cache', 'elsewhere']) == 0\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "sys.exit(main(['fetch', '--cache', 'cache']))\n"
    )

    def fetch(content):
        archive = common / "cache" / SHA[:16] / "0.6.0.zip"
        archive.parent.mkdir(parents=True)
        if content is not None:
            archive.write_bytes(content)
        archive.parent.chmod(0o555)
        archive.parent.parent.chmod(0o555)
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=common,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert server.requests == ["/fixtures/0.6.0.zip"]
        elsewhere = f"cache {common / 'elsewhere'}, filled from {server.url}"
        before = f"0.6.0      102.4 kB  downloaded\n1 archive: {elsewhere}\n"
        assert result.stdout.startswith(before)
        stdout = result.stdout.removeprefix(before)
        return result.returncode, stdout, result.stderr

    return fetch


def test_a_cached_archive_needs_no_write_permission(
    fetch_read_only, server, common
):
    assert fetch_read_only(ARCHIVE) == (
        0,
        "0.6.0      102.4 kB  already there\n"
        f"1 archive: cache {common / 'cache'}, filled from {server.url}\n",
        "",
    )


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_read_only_cache_is_reported(fetch_read_only, common, content):
    code, stdout, stderr = fetch_read_only(content)
    assert (code, stdout) == (1, "")
    assert stderr.startswith(
        "The archive 0.6.0.zip can't be stored in the cache.\n"
        f"  cache: {common / 'cache'}\n"
        "  expected: a writable folder\n"
        "  found: Permission denied\n"
    )
    assert "NLAM_COMPAT_CACHE (`nlam-compat fetch --cache`)" in stderr
