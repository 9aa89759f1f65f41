"""Servers that fail, disks that fail, and what is left in the cache."""

import errno
import gzip
import hashlib
import io
import os
import socket
import time

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
    class Full(download._BoundedFile):
        def write(self, data):
            super().write(data[:1000])
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(download, "_BoundedFile", Full)
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


def test_an_answer_without_end(archives, server, cache, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_BYTES", 1 << 20)

    def endless(request, body):
        server.begin(request, None)
        while True:
            request.wfile.write(body)

    server.answer = endless
    cause = "the server sent more than 1 MiB, and no archive is so large"
    assert_not_downloaded(failure(archives), f"{server.url}0.6.0.zip", cause)
    assert len(server.requests) == 1
    assert files_in(cache) == []


def test_an_answer_that_grows_when_it_is_unpacked(
    archives, server, cache, monkeypatch
):
    monkeypatch.setattr(download, "LARGEST_BYTES", 1 << 20)
    bomb = gzip.compress(bytes(1 << 25))

    def answer(request, body):
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Content-Length", str(len(bomb)))
        request.end_headers()
        request.wfile.write(bomb)

    server.answer = answer
    cause = "the server sent more than 1 MiB, and no archive is so large"
    assert_not_downloaded(failure(archives), f"{server.url}0.6.0.zip", cause)
    assert files_in(cache) == []


def test_a_server_that_drips(archives, server, cache, monkeypatch):
    monkeypatch.setattr(download, "SLOW_S", 0.2)

    def drip(request, body):
        server.begin(request, len(body))
        for byte in body:
            request.wfile.write(bytes([byte]))
            time.sleep(0.002)

    server.answer = drip
    error = failure(archives)
    assert "less than 1000 bytes a second" in error.facts["cause"]
    assert len(server.requests) == 1
    assert files_in(cache) == []


def test_what_a_killed_download_left_is_removed(archives, cache):
    folder = cache / SHA[:16]
    folder.mkdir(parents=True)
    (folder / "tmp1a2b3c").write_bytes(b"half")
    archives.archive(R6)
    assert files_in(cache) == ["0.6.0.zip"]


@pytest.mark.parametrize(
    "proxy",
    ["http://me:secret@[", "me:secret@127.0.0.1:99999", "x://a:secret@"],
)
def test_the_password_of_a_proxy_is_not_printed(
    installed, cache, monkeypatch, proxy
):
    installed.publish("0.6.0.zip", ARCHIVE)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setattr(download, "PAUSES_S", ())
    archives = Store.locate(url="http://192.0.2.1/fixtures", cache=cache)
    assert "secret" not in str(failure(archives))
