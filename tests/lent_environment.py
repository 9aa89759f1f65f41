"""An environment that has neural-lam, and nothing of this checkout.

The Python that runs this has neural-lam and torch, some GB, and lends them.
"""

import functools
import os
import re
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
_NOT_LENT = re.compile("pytest.nlam.compat|sitecustomize")
_NOT_INHERITED = ("NLAM_COMPAT", "PYTEST", "PYTHON", "GITHUB", "VIRTUAL_ENV")


def make(folder: Path) -> Path:
    """Make the environment; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    # Older Pythons bring an old one, which would hide what is lent.
    outdated = [python, "-m", "pip", "uninstall", "-qy", "setuptools"]
    subprocess.run(outdated, check=True)
    lent = folder / "lent"
    lent.mkdir()
    for place in map(Path, sys.path):
        for entry in place.iterdir() if place.name == "site-packages" else ():
            link = lent / entry.name
            # A link to the checkout would be one of them.
            foreign = not _NOT_LENT.search(entry.name)
            if foreign and entry.suffix != ".pth" and not link.exists():
                link.symlink_to(entry)
    [packages] = folder.glob("[Ll]ib/**/site-packages")
    (packages / "lent.pth").write_text(f"{lent}\n")
    return python


def variables(**more: str) -> dict[str, str]:
    """Return variables for a process that sees nothing of this one."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_INHERITED)
    }
    return {**kept, "NO_PROXY": "127.0.0.1", **more}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface; yield its URL."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
