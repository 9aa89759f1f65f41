"""Use the wheel as people do who have no checkout: ``nox -s wheel``.

Argument: the folder with a wheel and a source distribution.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lent_environment import CHECKOUT, make, served, variables

LINK = re.compile(r'\]\(([^)\s]+)|(?:src|href)="([^"]+)"')
DATA = ("native_routes.txt", "registry.txt", "release_evidence.json")


def main() -> None:
    [wheel] = Path(sys.argv[1]).glob("*.whl")
    [source] = Path(sys.argv[1]).glob("*.tar.gz")
    check_contents(wheel, source)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = make(folder / "environment")
        # Whatever it requires is there; what was not declared is too, and is
        # what tests/test_dependencies.py looks for.
        run(python, "-m", "pip", "install", "-q", "--no-index", wheel)
        (folder / "work").mkdir()
        run_all(python, folder / "work")


def check_contents(wheel: Path, source: Path) -> None:
    """Insist on the lists of references, no archives, and links that work."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [n for n in names if n.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    for name in DATA:
        assert f"pytest_nlam_compat/references/{name}" in names, name
    foreign = [n for n in names if not n.startswith("pytest_nlam_compat")]
    assert not foreign, foreign
    with tarfile.open(source) as archive:
        names += archive.getnames()
    assert not [name for name in names if name.endswith(".zip")]
    print(f"{wheel.name}: {wheel.stat().st_size / 1000:,.0f} kB")
    broken = relative_links(text.partition("\n\n")[2])
    assert not broken, f"Dead on a package index: {broken}"
    for field in ("Author", "Programming Language :: Python :: 3.10"):
        assert field in text, field


def relative_links(text: str) -> list[str]:
    """Return the links of a page that work only beside the repository."""
    found = [first or second for first, second in LINK.findall(text)]
    assert found, "The page has no links."
    return [link for link in found if not re.match("https://|#", link)]


def run_all(python: Path, folder: Path) -> None:
    """Download what a check needs, fetch the rest, and check all offline."""
    code = "import pytest_nlam_compat as p; print(p.__file__)"
    place = run(python, "-c", code, cwd=folder)
    assert not Path(place.strip()).is_relative_to(CHECKOUT), place
    nlam_compat = python.with_name("nlam-compat")
    checks = (python, "-m", "pytest", "--nlam-compat")
    with served(CHECKOUT / "fixtures") as url:
        one = ("--nlam-compat-release===0.7.0", "--nlam-compat-case=graph_lam")
        away = {"NLAM_COMPAT_URL": url, "NLAM_COMPAT_CACHE": "first"}
        assert " passed" in run(*checks, *one, cwd=folder, env=away)
        cached = {"NLAM_COMPAT_CACHE": "cache"}
        run(nlam_compat, "fetch", "--url", url, cwd=folder, env=cached)
    again = run(nlam_compat, "fetch", "--offline", cwd=folder, env=cached)
    assert "downloaded" not in again
    # The main job, with nobody to download from.
    offline = (*checks, "--nlam-compat-offline", "-q")
    told = run(*offline, cwd=folder, env=cached)
    assert re.search(r"\b\d{3,} passed", told)
    assert not re.search(r"\b(failed|skipped|error)", told.splitlines()[-1])


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Run a command apart from the variables of this one; show it."""
    print("$", *command, flush=True)
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=variables(**(env or {})),
        stdout=subprocess.PIPE,
        text=True,
    )
    print(done.stdout, flush=True)
    if done.returncode:
        sys.exit(f"It ended with status {done.returncode}.")
    return done.stdout


if __name__ == "__main__":
    main()
