"""A real HTTP server that fails on demand, and an installed package."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_nlam_compat.references import download, store

CODE = store.PACKAGE

Request = BaseHTTPRequestHandler
Answer = Callable[[Request, bytes], None]


def _begin(request: Request, size: int | None) -> None:
    request.send_response(200)
    if size is not None:
        request.send_header("Content-Length", str(size))
    request.end_headers()


class ArchiveServer:
    """Serves `files` on the loopback, and keeps a list of the `requests`.

    `script` holds the answers to the requests to come; with none left it is
    `answer` that answers.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.script: list[Answer] = []
        self.answer: Answer = self.complete
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                answer = outer.script.pop(0) if outer.script else outer.answer
                answer(self, outer.files[self.path.rpartition("/")[2]])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A shutdown first would turn the reset into an orderly end. That a
        # client gives up is no error here.
        self.http.shutdown_request = self.http.close_request
        self.http.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.http.server_port}/fixtures/"

    begin = staticmethod(_begin)

    @staticmethod
    def complete(request: Request, body: bytes) -> None:
        """Send all of it."""
        _begin(request, len(body))
        request.wfile.write(body)

    @staticmethod
    def cut_off(request: Request, body: bytes) -> None:
        """Announce all of it, send half and close the connection."""
        _begin(request, len(body))
        request.wfile.write(body[: len(body) // 2])

    @staticmethod
    def cut_off_unannounced(request: Request, body: bytes) -> None:
        """Send half of an answer whose end is the connection's."""
        _begin(request, None)
        request.wfile.write(body[: len(body) // 2])

    @staticmethod
    def reset(request: Request, body: bytes) -> None:
        """Die half-way: the connection is reset rather than closed."""
        ArchiveServer.cut_off(request, body)
        request.wfile.flush()
        request.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )

    @staticmethod
    def hang_up(request: Request, body: bytes) -> None:
        """Close the connection without a word."""

    @staticmethod
    def status(code: int) -> Answer:
        """Answer with an error."""
        return lambda request, body: request.send_error(code)

    @staticmethod
    def other(wrong: bytes) -> Answer:
        """Send something else."""
        return lambda request, body: ArchiveServer.complete(request, wrong)

    @staticmethod
    def slow(seconds: float) -> Answer:
        """Send all of it after a while."""

        def answer(request: Request, body: bytes) -> None:
            time.sleep(seconds)
            ArchiveServer.complete(request, body)

        return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    """The server, which no proxy stands before."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.01, 0.01))
    archives = ArchiveServer()
    thread = threading.Thread(
        target=archives.http.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield archives
    archives.http.shutdown()
    archives.http.server_close()
    thread.join()


class Installed:
    """The package as a wheel has it, with a registry of its own."""

    def __init__(self, site: Path) -> None:
        self.package = site / "pytest_nlam_compat"
        self.registry = self.package / "references" / "registry.txt"
        self.registry.parent.mkdir(parents=True)
        self.registry.touch()

    def publish(self, name: str, content: bytes) -> str:
        """List an archive and return its hash."""
        sha256 = hashlib.sha256(content).hexdigest()
        with self.registry.open("a") as file:
            file.write(f"{name} sha256:{sha256}\n")
        return sha256

    def environment(self, **variables: str) -> dict[str, str]:
        """Make it importable, and return the environment that imports it."""
        shutil.copytree(
            CODE,
            self.package,
            ignore=shutil.ignore_patterns("__pycache__", "registry.txt"),
            dirs_exist_ok=True,
        )
        site = str(self.package.parent)
        return {**os.environ, "PYTHONPATH": site, **variables}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """The package that `Store.locate` sees in this process."""
    monkeypatch.delenv("NLAM_COMPAT_URL", raising=False)
    monkeypatch.delenv("NLAM_COMPAT_CACHE", raising=False)
    package = Installed(tmp_path / "site")
    monkeypatch.setattr(store, "PACKAGE", package.package)
    return package
