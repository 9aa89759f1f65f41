"""Download one archive into the cache, or say why that failed."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.registry import sha256_of
from pytest_nlam_compat.references.store import (
    LARGEST_BYTES,
    without_secrets,
)

if TYPE_CHECKING:
    import requests

PAUSES_S = (0.25, 0.5, 1.0)
"""Between the attempts: long enough for a hiccup, too short to annoy."""

TIMEOUT_S = (10, 30)
"""To connect, and between two pieces of the answer."""

SLOWEST_BYTES = 1000
"""Per second, over SLOW_S."""
SLOW_S = 60.0

# So little that a server which drips is noticed before long.
_CHUNK_BYTES = 128

_OTHER_SERVER = (
    "Check the URL; set another one with NLAM_COMPAT_URL or --nlam-compat-url"
    " (`nlam-compat fetch --url`)."
)
_FETCH_BEFORE = (
    "To work without a network, run `nlam-compat fetch` while there is one,"
    " then use --nlam-compat-offline."
)


class _WrongHashError(Exception):
    """The downloaded file is not the published one."""

    def __init__(self, found: str, size: int) -> None:
        super().__init__(found)
        self.found = found
        self.size = size


def download(url: str, path: Path, sha256: str, *, progress: bool) -> None:
    """Download an archive; it appears complete and checked, or not at all.

    A file at the path is replaced. After a broken connection, an overloaded
    server or wrong content, try again a few times. `progress` shows a bar if
    stderr is a terminal.

    Raises
    ------
    CompatError
        If the server doesn't answer, doesn't have the archive or sends another
        file, or if the archive can't be stored.
    """
    import pooch
    import requests

    # An exception that the caller is handling is no cause of a failure here.
    outside = sys.exc_info()[1]
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                fname=path.name,
                path=path.parent,
                downloader=_RetryingDownloader(sha256, path.name, progress),
            )
        return
    except _WrongHashError as error:
        what = (
            "The server sent a file that is not the published archive"
            f" {path.name}."
        )
        facts = {
            "expected": f"sha256 {sha256}",
            "found": f"sha256 {error.found}, {error.size} bytes",
        }
        remedy = (
            "The file was discarded. A proxy or a login page may have answered"
            f" instead of the server. {_OTHER_SERVER}"
        )
    except requests.HTTPError as error:
        what = f"The server did not send the archive {path.name}."
        answer = _answer(error)
        facts = {
            "expected": "200 OK",
            "found": f"{answer.status_code} {answer.reason}",
        }
        remedy = f"{_OTHER_SERVER} {_FETCH_BEFORE}"
    # An OSError too, so ahead of those of the disk. A ValueError is an answer
    # or an address that the HTTP libraries can't make sense of, or of the file;
    # a TypeError is a proxy without a host.
    except (requests.RequestException, ValueError, TypeError) as error:
        what = f"The archive {path.name} can't be downloaded."
        # It may name a proxy, with its password.
        facts = {"cause": without_secrets(_root_cause(error, outside))}
        remedy = f"{_other_setting(error)}{_OTHER_SERVER} {_FETCH_BEFORE}"
    except OSError as error:
        raise _not_stored(path, error) from None
    facts = {"url": without_secrets(url), **facts}
    raise CompatError(what, facts=facts, remedy=remedy)


class _BoundedFile(io.FileIO):
    """Refuses what has no end, or takes for ever, with a ValueError."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "wb")
        self._size = self._size_before = 0
        self._since = time.monotonic()

    def write(self, data: Any) -> int:
        """Write one piece of the answer."""
        self._size += len(data)
        if self._size > LARGEST_BYTES:
            raise ValueError(
                f"the server sent more than {LARGEST_BYTES >> 20} MiB, and no "
                "archive is so large"
            )
        seconds = time.monotonic() - self._since
        if seconds > SLOW_S:
            if self._size - self._size_before < seconds * SLOWEST_BYTES:
                raise ValueError(
                    f"the server sent less than {SLOWEST_BYTES} bytes a second"
                    f" for {seconds:.0f} s"
                )
            self._since += seconds
            self._size_before = self._size
        return super().write(data)


class _RetryingDownloader:
    """A downloader for pooch that retries what may succeed the next time.

    pooch's own retries would also ask again for what a server doesn't have, and
    begin with a pause of a second.
    """

    def __init__(self, sha256: str, name: str, progress: bool) -> None:
        self._sha256 = sha256
        self._name = name
        self._progress = progress

    def __call__(self, url: str, output_file: str, _: object) -> None:
        """Download to a file that pooch has made and will move or delete."""
        import requests

        # pooch makes it readable for its owner only, also in a shared cache.
        # Made anew it gets the mode that the umask leaves.
        Path(output_file).unlink()
        Path(output_file).touch(0o644, exist_ok=False)
        for pause in PAUSES_S:
            try:
                return self._attempt(url, output_file)
            except (requests.RequestException, _WrongHashError) as error:
                if not _may_succeed(error):
                    raise
            time.sleep(pause)
        return self._attempt(url, output_file)

    def _attempt(self, url: str, output_file: str) -> None:
        import pooch
        import requests
        from tqdm import tqdm

        with tqdm(
            desc=self._name,
            total=1,  # until pooch knows it; without one a bar is not true
            unit="B",
            unit_scale=True,
            leave=False,
            # None: unless stderr is a terminal.
            disable=None if self._progress else True,
        ) as bar:
            fetch = pooch.HTTPDownloader(
                progressbar=bar,
                chunk_size=_CHUNK_BYTES,
                timeout=TIMEOUT_S,
                # An archive is compressed by itself.
                headers={"Accept-Encoding": "identity"},
            )
            try:
                with _BoundedFile(output_file) as file:
                    fetch(url, file, None)
            except requests.HTTPError as error:
                # Left open it would be a ResourceWarning in another test.
                _answer(error).close()
                raise
        found = sha256_of(Path(output_file))
        if found != self._sha256:
            raise _WrongHashError(found, os.path.getsize(output_file))


def _other_setting(error: Exception) -> str:
    """Return what to set for a certificate or a proxy that does not work."""
    import requests

    # A ProxyError, too, may be about the certificate of the proxy.
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "Set REQUESTS_CA_BUNDLE to the file of certificates of your "
            "network, if a proxy opens its connections. "
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return (
            "Check the address of the proxy in HTTPS_PROXY and HTTP_PROXY, or "
            "name the server in NO_PROXY. "
        )
    return ""


def _may_succeed(error: Exception) -> bool:
    """Tell whether another attempt may succeed."""
    import requests

    if isinstance(error, requests.HTTPError):
        status = _answer(error).status_code
        return status >= 500 or status == requests.codes.too_many_requests
    # No answer at all, and each attempt costs the whole timeout.
    if isinstance(error, requests.ConnectTimeout):
        return False
    if _other_setting(error):
        return False
    return isinstance(
        error,
        (
            _WrongHashError,  # also an answer that was cut off
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ),
    )


def _answer(error: requests.HTTPError) -> requests.Response:
    # Only the types allow for an HTTPError without a response.
    assert error.response is not None
    return error.response


def _root_cause(error: BaseException, outside: BaseException | None) -> str:
    """Return the message of the error that the HTTP libraries have wrapped."""
    cause: BaseException | None = error
    while cause is not None and cause is not outside:
        error, cause = cause, cause.__cause__ or cause.__context__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _not_stored(path: Path, error: OSError) -> CompatError:
    # pooch says "permission denied" in words of its own, without a number.
    number = error.errno or errno.EACCES
    what = f"The archive {path.name} can't be stored in the cache."
    expected = "a writable folder"
    if number in (errno.ENOSPC, errno.EDQUOT):
        what = f"There is no room for the archive {path.name}."
        expected = "some free disk space"
    return CompatError(
        what,
        facts={
            "cache": path.parent.parent,
            "expected": expected,
            "found": os.strerror(number),
        },
        remedy="Fix the cause, or choose another folder with NLAM_COMPAT_CACHE"
        " (`nlam-compat fetch --cache`).",
    )


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from reporting downloads on stderr during pytest."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
