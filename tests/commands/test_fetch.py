import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_nlam_compat.cli import main
from pytest_nlam_compat.references import store

ARCHIVES = {
    "0.5.0.zip": b"5" * 1_234_567,
    "0.6.0.zip": b"6" * 400,
    "0.10.0rc1.zip": b"7" * 99_960,
}


@pytest.fixture
def fixtures(tmp_path):
    """A folder like that of the checkout, with three archives."""
    folder = tmp_path / "checkout" / "fixtures"
    folder.mkdir(parents=True)
    with (folder / "registry.txt").open("w") as registry:
        for name, content in ARCHIVES.items():
            (folder / name).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            registry.write(f"{name} sha256:{sha256}\n")
    return folder


@pytest.fixture
def url(fixtures, monkeypatch):
    """Its address on a real server."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Handler, directory=fixtures)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, fixtures, monkeypatch):
    """An empty cache of a package that was installed."""
    package = tmp_path / "site" / "pytest_nlam_compat"
    (package / "references").mkdir(parents=True)
    (package / "references" / "registry.txt").write_bytes(
        (fixtures / "registry.txt").read_bytes()
    )
    monkeypatch.setattr(store, "PACKAGE", package)
    monkeypatch.setenv("NLAM_COMPAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NLAM_COMPAT_URL", raising=False)
    return tmp_path / "cache"


def test_all_archives_are_fetched_and_found_again(url, cache, capsys):
    assert main(["fetch", "--url", url]) == 0
    assert capsys.readouterr() == (
        "0.5.0        1,234.6 kB  downloaded\n"
        "0.6.0            0.4 kB  downloaded\n"
        "0.10.0rc1      100.0 kB  downloaded\n"
        f"3 archives: cache {cache}, filled from {url}\n",
        "",
    )
    assert main(["fetch", "--offline"]) == 0
    assert capsys.readouterr() == (
        "0.5.0        1,234.6 kB  already there\n"
        "0.6.0            0.4 kB  already there\n"
        "0.10.0rc1      100.0 kB  already there\n"
        f"3 archives: cache {cache}, offline\n",
        "",
    )


def test_some_releases_into_another_cache(url, cache, tmp_path, capsys):
    other = tmp_path / "other"
    arguments = ["--url", url, "--cache", str(other), "--release", "==0.6.0"]
    assert main(["fetch", *arguments]) == 0
    assert capsys.readouterr().out == (
        "0.6.0        0.4 kB  downloaded\n"
        f"1 archive: cache {other}, filled from {url}\n"
    )
    assert not cache.exists()


@pytest.mark.parametrize(
    ("specifier", "fetched"),
    [
        (">=0.6", ["0.6.0", "0.10.0rc1"]),
        ("<0.10,!=0.5.*", ["0.6.0"]),
        ("~=0.5", ["0.5.0", "0.6.0", "0.10.0rc1"]),
    ],
)
def test_a_specifier_selects(url, cache, capsys, specifier, fetched):
    assert main(["fetch", "--url", url, "--release", specifier]) == 0
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert [line.split()[0] for line in lines] == fetched


def test_in_a_checkout_there_is_nothing_to_do(fixtures, monkeypatch, capsys):
    package = fixtures.parent / "pytest_nlam_compat"
    monkeypatch.setattr(store, "PACKAGE", package)
    assert main(["fetch"]) == 0
    assert capsys.readouterr().out == (
        "0.5.0        1,234.6 kB  in place\n"
        "0.6.0            0.4 kB  in place\n"
        "0.10.0rc1      100.0 kB  in place\n"
        f"3 archives: fixtures/ of the checkout {fixtures.parent}\n"
    )


def test_a_damaged_archive_is_reported(url, cache, capsys):
    sha256 = hashlib.sha256(ARCHIVES["0.6.0.zip"]).hexdigest()
    damaged = cache / sha256[:16] / "0.6.0.zip"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    found = hashlib.sha256(b"damaged").hexdigest()
    assert main(["fetch", "--url", url, "--release", "==0.6.0"]) == 0
    assert capsys.readouterr() == (
        "0.6.0        0.4 kB  downloaded\n"
        f"1 archive: cache {cache}, filled from {url}\n",
        "The archive 0.6.0.zip in the cache was not the published one"
        f" (sha256 {found}); it was downloaded again.\n",
    )


def test_what_was_fetched_before_an_error_is_shown(
    url, cache, fixtures, capsys
):
    (fixtures / "0.6.0.zip").unlink()
    assert main(["fetch", "--url", url]) == 1
    out, err = capsys.readouterr()
    assert out == "0.5.0        1,234.6 kB  downloaded\n"
    assert err.splitlines()[:4] == [
        "The server did not send the archive 0.6.0.zip.",
        f"  url: {url}0.6.0.zip",
        "  expected: 200 OK",
        "  found: 404 File not found",
    ]


def test_a_specifier_that_is_not_one(cache, capsys):
    assert main(["fetch", "--release", "0.6.0"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "--release" in err.splitlines()[0]
    assert "  expected: a version specifier (PEP 440), such as '>=0.5'" in err
    assert "  found: 0.6.0\n" in err


def test_a_specifier_that_selects_nothing(cache, capsys):
    assert main(["fetch", "--release", ">2"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "There is no reference archive to fetch.\n"
        "  --release: >2\n"
        "  releases: 0.5.0, 0.6.0, 0.10.0rc1\n"
    )


def test_an_empty_registry_is_no_success(cache, capsys):
    (store.PACKAGE / "references" / "registry.txt").write_text("# None.\n")
    assert main(["fetch"]) == 1
    assert capsys.readouterr().err.splitlines()[:3] == [
        "There is no reference archive to fetch.",
        "  --release: all",
        "  releases: none",
    ]
