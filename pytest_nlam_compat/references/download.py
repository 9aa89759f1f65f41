"""Download one archive into the cache, or say why that failed."""

from __future__ import annotations

import errno
import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.drafts import reserved
from pytest_nlam_compat.references.store import (
    LARGEST_BYTES,
    without_secrets,
)

PAUSES_S = (0.25, 0.5, 1.0)
"""Between the attempts: long enough for a hiccup, too short to annoy."""

TIMEOUT_S = (10, 30)
"""To connect, and between two pieces of the answer."""

SLOWEST_BYTES = 1000
"""Per second, over SLOW_S."""
SLOW_S = 60.0

# So little that a server which drips is noticed before long.
_PIECE_BYTES = 128

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
    import requests

    # An exception that the caller is handling is no cause of a failure here.
    outside = sys.exc_info()[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with reserved(path) as part:
            bar = path.name if progress else None
            _retry(lambda: _attempt(url, part, sha256, bar))
            part.replace(path)
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
        answer = error.response
        assert answer is not None  # only the types allow for that
        what = f"The server did not send the archive {path.name}."
        facts = {
            "expected": "200 OK",
            "found": f"{answer.status_code} {answer.reason}",
        }
        remedy = f"{_OTHER_SERVER} {_FETCH_BEFORE}"
    # An OSError too, so ahead of those of the disk. A ValueError is an answer
    # or an address that the HTTP libraries can't make sense of, or ours of
    # `_bounded`; a TypeError is a proxy without a host.
    except (requests.RequestException, ValueError, TypeError) as error:
        what = f"The archive {path.name} can't be downloaded."
        # It may name a proxy, with its password.
        facts = {"cause": without_secrets(_root_cause(error, outside))}
        remedy = f"{_other_setting(error)}{_OTHER_SERVER} {_FETCH_BEFORE}"
    except OSError as error:
        raise _not_stored(path, error) from None
    facts = {"url": without_secrets(url), **facts}
    raise CompatError(what, facts=facts, remedy=remedy)


def _retry(attempt: Callable[[], None]) -> None:
    """Try again what may succeed the next time."""
    import requests

    for pause in PAUSES_S:
        try:
            return attempt()
        except (requests.RequestException, _WrongHashError) as error:
            if not _may_succeed(error):
                raise
        time.sleep(pause)
    return attempt()


def _attempt(url: str, part: Path, sha256: str, bar_name: str | None) -> None:
    import requests
    from tqdm import tqdm

    digest = hashlib.sha256()
    with requests.get(
        url,
        stream=True,
        timeout=TIMEOUT_S,
        # An archive is compressed by itself.
        headers={"Accept-Encoding": "identity"},
    ) as answer:
        answer.raise_for_status()
        with (
            part.open("wb") as file,
            tqdm(
                desc=bar_name,
                total=int(answer.headers.get("Content-Length", 0)),
                unit="B",
                unit_scale=True,
                leave=False,
                # None: unless stderr is a terminal.
                disable=None if bar_name else True,
            ) as bar,
        ):
            for piece in _bounded(answer.iter_content(_PIECE_BYTES)):
                file.write(piece)
                digest.update(piece)
                bar.update(len(piece))
    if digest.hexdigest() != sha256:
        raise _WrongHashError(digest.hexdigest(), part.stat().st_size)


def _bounded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Refuse what has no end, or takes for ever, with a ValueError."""
    size = size_before = 0
    since = time.monotonic()
    for piece in pieces:
        size += len(piece)
        if size > LARGEST_BYTES:
            raise ValueError(
                f"the server sent more than {LARGEST_BYTES >> 20} MiB, and no "
                "archive is so large"
            )
        seconds = time.monotonic() - since
        if seconds > SLOW_S:
            if size - size_before < seconds * SLOWEST_BYTES:
                raise ValueError(
                    f"the server sent less than {SLOWEST_BYTES} bytes a second"
                    f" for {seconds:.0f} s"
                )
            since += seconds
            size_before = size
        yield piece


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
        assert error.response is not None
        status = error.response.status_code
        return status >= 500 or status == requests.codes.too_many_requests
    # No answer at all, and each attempt costs the whole timeout.
    if isinstance(error, requests.ConnectTimeout) or _other_setting(error):
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


def _root_cause(error: BaseException, outside: BaseException | None) -> str:
    """Return the message of the error that the HTTP libraries have wrapped."""
    cause: BaseException | None = error
    while cause is not None and cause is not outside:
        error, cause = cause, cause.__cause__ or cause.__context__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _not_stored(path: Path, error: OSError) -> CompatError:
    what = f"The archive {path.name} can't be stored in the cache."
    expected = "a writable folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = f"There is no room for the archive {path.name}."
        expected = "some free disk space"
    return CompatError(
        what,
        facts={
            "cache": path.parent.parent,
            "expected": expected,
            "found": error.strerror or error,
        },
        remedy="Fix the cause, or choose another folder with NLAM_COMPAT_CACHE"
        " (`nlam-compat fetch --cache`).",
    )
