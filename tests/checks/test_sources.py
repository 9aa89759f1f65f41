"""Where an installed package has its references from."""

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from nlam_runs import FIXTURES, ONE, SHIPPED, error_lines

UNUSED = "http://127.0.0.1:9/"
LOCAL = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@pytest.fixture(scope="module")
def server():
    """Serve the real archives, and keep a list of what was asked for."""
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    http = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=FIXTURES)
    )
    http.url = f"http://127.0.0.1:{http.server_port}/"
    http.requests = requests
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def installed(project):
    """Have the package as a wheel brings it: hashes and no archives."""
    references = project.package() / "references"
    for name in SHIPPED:
        shutil.copy(FIXTURES / name, references / name)
    project.cache = project.folder / "cache"

    def run(*args, **environment):
        return project.run(
            *ONE,
            *args,
            NLAM_COMPAT_CACHE=str(project.cache),
            **LOCAL,
            **environment,
        )

    project.compat = run
    return project


def test_variable_names_the_server_and_the_cache_spares_it(installed, server):
    asked = len(server.requests)

    first = installed.compat(NLAM_COMPAT_URL=server.url)
    again = installed.compat(
        "--nlam-compat-offline", "--collect-only", NLAM_COMPAT_URL=server.url
    )

    assert (first.ret, again.ret) == (0, 0)
    first.stdout.fnmatch_lines(
        [
            "nlam-compat: 1 reference of 0.7.0, from cache "
            f"{installed.cache}, filled from {server.url}"
        ]
    )
    again.stdout.fnmatch_lines(
        [
            "nlam-compat: 1 reference of 0.7.0, from cache "
            f"{installed.cache}, offline"
        ]
    )
    # Once, and only the release that was selected.
    assert server.requests[asked:] == ["/0.7.0.zip"]


def test_ini_key_comes_before_the_variable(installed, server):
    installed.write("pytest.ini", f"[pytest]\nnlam_compat_url = {server.url}\n")

    result = installed.compat("--collect-only", NLAM_COMPAT_URL=UNUSED)

    assert result.ret == 0
    result.stdout.fnmatch_lines([f"nlam-compat: *, filled from {server.url}"])


def test_option_comes_before_the_ini_key(installed, server):
    installed.write("pytest.ini", f"[pytest]\nnlam_compat_url = {UNUSED}\n")

    result = installed.compat(
        "--collect-only", f"--nlam-compat-url={server.url}"
    )

    assert result.ret == 0
    result.stdout.fnmatch_lines([f"nlam-compat: *, filled from {server.url}"])


def test_option_counts_in_a_checkout_too(project, server):
    result = project.run(
        *ONE,
        "--collect-only",
        f"--nlam-compat-url={server.url}",
        NLAM_COMPAT_CACHE=str(project.folder / "cache"),
        **LOCAL,
    )

    assert result.ret == 0
    result.stdout.fnmatch_lines([f"nlam-compat: *, filled from {server.url}"])


def test_what_was_wrong_in_the_cache_is_told_in_the_header(installed, server):
    installed.compat("--collect-only", NLAM_COMPAT_URL=server.url)
    (archive,) = installed.cache.rglob("0.7.0.zip")
    archive.chmod(0o600)
    archive.write_bytes(b"no archive")

    result = installed.compat("--collect-only", NLAM_COMPAT_URL=server.url)

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "nlam-compat: The archive 0.7.0.zip in the cache was not the "
            "published one (sha256 *); it was downloaded again."
        ]
    )


def test_offline_without_the_archive_says_how_to_get_it(installed):
    result = installed.compat("--nlam-compat-offline")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    what, file, expected, found, remedy = error_lines(result)
    assert what == (
        "ERROR: The archive 0.7.0.zip is not in the cache, and downloads are "
        "disabled."
    )
    assert file.startswith(f"  file: {installed.cache}")
    assert expected.startswith("  expected: sha256 ")
    assert found == "  found: no file"
    assert remedy.startswith("Run `nlam-compat fetch` ")
    assert "leave out --nlam-compat-offline (--offline)" in remedy


def test_server_without_the_archive_is_an_error_with_its_answer(
    installed, server
):
    result = installed.compat(f"--nlam-compat-url={server.url}elsewhere/")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = error_lines(result)
    assert lines[:-1] == [
        "ERROR: The server did not send the archive 0.7.0.zip.",
        f"  url: {server.url}elsewhere/0.7.0.zip",
        "  expected: 200 OK",
        "  found: 404 File not found",
    ]
    assert lines[-1].startswith("Check the URL; ")
