"""Servers that fail, disks that fail, and what is left in the cache."""

import errno
import hashlib
import io
import os
import socket

import pooch
import pytest
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import download
from pytest_nlam_compat.references.store import Store

R6 = Version("0.6.0")
ARCHIVE = bytes(range(256)) * 400
SHA = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SERVER = (
    "NLAM_COMPAT_URL or --nlam-compat-url (`nlam-compat fetch --url`)"
)
FETCH_BEFORE = "run `nlam-compat fetch` while there is one"
OTHER_CACHE = "NLAM_COMPAT_CACHE (`nlam-compat fetch --cache`)"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def archives(installed, server, cache):
    installed.publish("0.6.0.zip", ARCHIVE)
    server.files["0.6.0.zip"] = ARCHIVE
    return Store.locate(url=server.url, cache=cache)


def files_in(cache):
    """Return what the cache holds, but for locks."""
    every = (path for path in cache.rglob("*") if path.is_file())
    return [path.name for path in every if path.suffix != ".lock"]


def failure(archives):
    with pytest.raises(CompatError) as error:
        archives.archive(R6)
    return error.value


def assert_not_downloaded(error, url, cause):
    assert error.what == "The archive 0.6.0.zip can't be downloaded."
    assert error.facts == {"url": url, "cause": cause}
    assert OTHER_SERVER in error.remedy
    assert FETCH_BEFORE in error.remedy


@pytest.mark.parametrize(
    "hiccup", ["cut_off", "cut_off_unannounced", "reset", "hang_up"]
)
def test_a_broken_connection_is_tried_again(archives, server, cache, hiccup):
    server.script = [getattr(server, hiccup)] * 2
    assert archives.archive(R6).read_bytes() == ARCHIVE
    assert server.requests == ["/fixtures/0.6.0.zip"] * 3
    assert files_in(cache) == ["0.6.0.zip"]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_overloaded_server_is_tried_again(archives, server, cache, code):
    server.script = [server.status(code)] * 3
    assert archives.archive(R6).read_bytes() == ARCHIVE
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("code", "found", "requests"),
    [
        (404, "404 Not Found", 1),
        (403, "403 Forbidden", 1),
        (503, "503 Service Unavailable", 4),
    ],
)
def test_a_server_without_the_archive(
    archives, server, cache, code, found, requests
):
    server.answer = server.status(code)
    error = failure(archives)
    assert "did not send the archive 0.6.0.zip" in error.what
    assert error.facts == {
        "url": f"{server.url}0.6.0.zip",
        "expected": "200 OK",
        "found": found,
    }
    assert OTHER_SERVER in error.remedy
    assert FETCH_BEFORE in error.remedy
    assert len(server.requests) == requests
    assert files_in(cache) == []


def test_another_file_is_discarded(archives, server, cache):
    server.answer = server.other(b"<html>Log in</html>")
    wrong = hashlib.sha256(b"<html>Log in</html>").hexdigest()
    error = failure(archives)
    assert "not the published archive 0.6.0.zip" in error.what
    assert error.facts == {
        "url": f"{server.url}0.6.0.zip",
        "expected": f"sha256 {SHA}",
        "found": f"sha256 {wrong}, 19 bytes",
    }
    assert "A proxy or a login page" in error.remedy
    assert OTHER_SERVER in error.remedy
    assert len(server.requests) == 4
    assert files_in(cache) == []


def test_a_damaged_archive_stays_until_it_can_be_replaced(
    archives, server, cache
):
    path = cache / SHA[:16] / "0.6.0.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    server.answer = server.status(404)
    assert failure(archives).facts["found"] == "404 Not Found"
    assert path.read_bytes() == b"damaged"
    server.answer = server.complete
    assert archives.archive(R6).read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (
            "cut_off",
            "IncompleteRead(51200 bytes read, 51200 more expected)",
        ),
        ("reset", os.strerror(errno.ECONNRESET)),
        ("hang_up", "Remote end closed connection without response"),
    ],
)
def test_a_connection_that_always_breaks(
    archives, server, cache, answer, cause
):
    server.answer = getattr(server, answer)
    assert_not_downloaded(failure(archives), f"{server.url}0.6.0.zip", cause)
    assert len(server.requests) == 4
    assert files_in(cache) == []


def test_nobody_listens(installed, server, cache):
    installed.publish("0.6.0.zip", ARCHIVE)
    # A port that is taken, by somebody who doesn't listen.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://me:secret@127.0.0.1:{port}"
    archives = Store.locate(url=url, cache=cache)
    # The error that a caller is busy with is not the cause.
    try:
        raise KeyError("unrelated")
    except KeyError:
        error = failure(archives)
    assert_not_downloaded(
        error,
        f"http://***@127.0.0.1:{port}/0.6.0.zip",
        os.strerror(errno.ECONNREFUSED),
    )
    assert "secret" not in str(error)


def test_a_server_that_falls_silent(archives, server, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", (10, 0.1))
    server.answer = server.slow(0.3)
    assert_not_downloaded(
        failure(archives), f"{server.url}0.6.0.zip", "timed out"
    )
    assert len(server.requests) == 4


def test_an_impossible_host_is_an_error(installed, server, cache):
    installed.publish("0.6.0.zip", ARCHIVE)
    url = f"http://{'a' * 70}.invalid"
    archives = Store.locate(url=url, cache=cache)
    error = failure(archives)
    assert error.facts["cause"]
    assert_not_downloaded(error, f"{url}/0.6.0.zip", error.facts["cause"])


def test_a_cache_that_is_a_file(archives, server, cache):
    cache.write_text("a file")
    error = failure(archives)
    assert error.what == "The archive 0.6.0.zip can't be stored in the cache."
    assert error.facts == {
        "cache": cache,
        "expected": "a writable folder",
        "found": "Not a directory",
    }
    assert OTHER_CACHE in error.remedy
    assert server.requests == []
    assert cache.read_text() == "a file"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(archives, server, cache, monkeypatch, number):
    class Full(io.FileIO):
        def write(self, data):
            super().write(data[:1000])
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pooch.downloaders.open", Full, raising=False)
    error = failure(archives)
    assert error.what == "There is no room for the archive 0.6.0.zip."
    assert error.facts == {
        "cache": cache,
        "expected": "some free disk space",
        "found": os.strerror(number),
    }
    assert OTHER_CACHE in error.remedy
    assert files_in(cache) == []


def test_pooch_is_silent_here_and_as_before_elsewhere(archives, capfd):
    level = pooch.get_logger().level
    archives.archive(R6)
    assert capfd.readouterr() == ("", "")
    assert pooch.get_logger().level == level


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("answer", ["complete", "cut_off_unannounced"])
def test_progress_is_shown_on_a_terminal_and_cleared(
    archives, server, monkeypatch, answer
):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(download, "PAUSES_S", ())
    server.answer = getattr(server, answer)
    try:
        archives.obtain(R6, progress=True)
    except CompatError:
        assert answer == "cut_off_unannounced"
    _, *shown, last, end = terminal.getvalue().split("\r")
    assert shown
    assert all(each.startswith("0.6.0.zip: ") for each in shown)
    assert (last.strip(), end) == ("", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_needs_a_terminal_and_a_request(
    archives, monkeypatch, terminal
):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    archives.obtain(R6, progress=not terminal)
    assert stream.getvalue() == ""


def test_a_certificate_that_is_not_accepted(installed, server, cache):
    installed.publish("0.6.0.zip", ARCHIVE)
    # It answers without one.
    url = server.url.replace("http://", "https://")
    error = failure(Store.locate(url=url, cache=cache))
    assert_not_downloaded(error, f"{url}0.6.0.zip", error.facts["cause"])
    assert "Set REQUESTS_CA_BUNDLE" in error.remedy


def test_a_proxy_that_does_not_answer(installed, server, cache, monkeypatch):
    installed.publish("0.6.0.zip", ARCHIVE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    error = failure(Store.locate(url=server.url, cache=cache))
    assert_not_downloaded(error, f"{server.url}0.6.0.zip", error.facts["cause"])
    assert "HTTPS_PROXY" in error.remedy
    assert "REQUESTS_CA_BUNDLE" not in error.remedy
    assert server.requests == []
