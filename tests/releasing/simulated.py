"""A next release of neural-lam: the installed one as a wheel, with edits."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

MODULE, TRAINING = "models/module.py", "train_model.py"
# One argument more, of the command line and of a constructor.
ONE_ARGUMENT_MORE = (
    (
        MODULE,
        "        train_steps_to_log: list[int] | None = None,\n"
        "        metrics_watch",
        "        train_steps_to_log: list[int] | None = None,\n"
        "        max_grad_norm: float | None = None,\n"
        "        metrics_watch",
    ),
    (
        TRAINING,
        "        train_steps_to_log=args.train_steps_to_log,\n",
        "        train_steps_to_log=args.train_steps_to_log,\n"
        "        max_grad_norm=args.max_grad_norm,\n",
    ),
    (
        TRAINING,
        '    core_group = parser.add_argument_group("Core Configuration")\n',
        '    core_group = parser.add_argument_group("Core Configuration")\n'
        '    core_group.add_argument("--max_grad_norm", type=float)\n',
    ),
)
# A module has another name, and no loader moves old weights there.
RENAMED = (("*", "encoding_grid_mlp", "grid_mlp"),)


def wheel(folder: Path, version: str, edits=()) -> Path:
    """Pack the installed neural-lam as a wheel of another version.

    For edits see `nlam_runs.Project.neural_lam`.
    """
    installed = importlib.metadata.distribution("neural-lam")
    tree = folder / f"wheel-{version}"
    info = f"neural_lam-{version}.dist-info"
    for file in installed.files:
        if "__pycache__" in file.parts or ".." in file.parts:
            continue
        if file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
            continue
        first, *below = file.parts
        name = info if first.endswith(".dist-info") else first
        target = tree.joinpath(name, *below)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.locate(), target)
    metadata = tree / info / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    old = f"\nVersion: {installed.version}\n"
    assert old in text
    text = text.replace(old, f"\nVersion: {version}\n", 1)
    metadata.write_text(text, encoding="utf-8")
    edit(tree / "neural_lam", edits)
    path = folder / f"neural_lam-{version}-py3-none-any.whl"
    members = [*(file for file in sorted(tree.rglob("*")) if file.is_file())]
    names = [file.relative_to(tree).as_posix() for file in members]
    with zipfile.ZipFile(path, "w") as archive:
        for file, name in zip(members, names, strict=True):
            archive.write(file, name)
        record = "".join(f"{name},,\n" for name in [*names, f"{info}/RECORD"])
        archive.writestr(f"{info}/RECORD", record)
    return path


def edit(package: Path, edits) -> None:
    """Change the code of a package; each edit has to change something."""
    for name, old, new in edits:
        files = package.rglob("*.py") if name == "*" else [package / name]
        found = 0
        for file in files:
            text = file.read_text(encoding="utf-8")
            found += text.count(old)
            file.write_text(text.replace(old, new), encoding="utf-8")
        assert found if name == "*" else found == 1, (name, old, found)


def clone(folder: Path) -> Path:
    """Copy what of this project a release reads and writes, and its tests."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("pytest_nlam_compat", "fixtures", "tests", "docs"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    for name in (
        *("CHANGELOG.md", "README.md", "CONTRIBUTING.md"),
        *("pyproject.toml", "noxfile.py", "constraints.txt"),
    ):
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


def only(project: Path, *releases: str, cases: tuple[str, ...]) -> None:
    """Leave a clone some references, and cases that it records."""
    listed = project / "fixtures" / "registry.txt"
    lines = listed.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.startswith(releases)]
    listed.write_text("".join(kept), encoding="utf-8")
    for archive in (project / "fixtures").glob("*.zip"):
        if archive.stem not in releases:
            archive.unlink()
    record_only(project, f"case.name in {cases!r}")


def record_only(project: Path, condition: str) -> None:
    """Have a clone record only some cases of 0.8.0, by an expression."""
    code = (
        "\n\nevery_case = cases_of\n\n\n"
        "def cases_of(release):\n"
        "    return [\n"
        "        case\n"
        "        for case in every_case(release)\n"
        f"        if release < Version('0.8.0') or {condition}\n"
        "    ]\n"
    )
    with (project / "pytest_nlam_compat/recording/cases.py").open("a") as file:
        file.write(code)


def command(*arguments: str) -> list[str]:
    """Return the command that releases; `offline` goes with it."""
    return [sys.executable, "-m", "pytest_nlam_compat", "release", *arguments]


def offline(project: Path) -> dict[str, str]:
    """Environment variables with which the package of a clone is run."""
    return {
        **os.environ,
        "PYTHONPATH": str(project),
        # All that the release requires is here.
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
    }


def content(project: Path) -> dict[str, bytes]:
    """Return what a release may write."""
    files = [*(project / "fixtures").iterdir(), *(project / "docs").rglob("*")]
    files.append(project / "CHANGELOG.md")
    return {
        str(file.relative_to(project)): file.read_bytes()
        for file in files
        if file.is_file()
    }
