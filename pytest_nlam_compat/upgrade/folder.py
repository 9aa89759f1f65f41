"""Upgrading all checkpoints below a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.copying import Progress
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.sniff import open_regular
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.output import UPGRADED, Output
from pytest_nlam_compat.upgrade.request import Outcome, Request
from pytest_nlam_compat.upgrade.upgrade import upgrade


@dataclass(frozen=True)
class Rows:
    """What came of each file, for the closing table.

    Attributes
    ----------
    folder : Path
    results : dict of Path to (Outcome or CompatError)
        By file.
    """

    folder: Path
    results: dict[Path, Outcome | CompatError]

    def show(self, as_json: bool) -> int:
        """Print the table; return 1 if a file was refused."""
        if as_json:
            import json

            print(json.dumps(self._plain(), indent=1))
        else:
            print(self._text())
        refused = [r for r in self.results.values() if _refused(r)]
        return 1 if refused else 0

    def _plain(self) -> list[dict[str, Any]]:
        return [
            {
                "file": str(file),
                "problem": result.what,
                "facts": {k: str(v) for k, v in result.facts.items()},
                "remedy": result.remedy,
            }
            if isinstance(result, CompatError)
            else result.plain()
            for file, result in self.results.items()
        ]

    def _text(self) -> str:
        rows = [
            (
                str(file.relative_to(self.folder)),
                "?" if isinstance(result, CompatError) else result.origin,
                _said(result),
            )
            for file, result in self.results.items()
        ]
        rows.insert(0, ("file", "from", "result"))
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        lines = [f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows]
        for file, result in self.results.items():
            if isinstance(result, CompatError):
                lines += ["", f"{file.relative_to(self.folder)}:", str(result)]
        return "\n".join(lines)


def upgrade_folder(
    folder: Path, request: Request, progress: Progress | None
) -> Rows:
    """Upgrade each ``.ckpt`` below a folder.

    Links are left out, and so are the outputs of an earlier call: a file
    whose output is there counts as done. A directory of such a name is one
    that is refused, as a distributed checkpoint.

    Parameters
    ----------
    folder : Path
    request : Request
    progress : callable, optional
        As for `upgrade`.

    Returns
    -------
    Rows

    Raises
    ------
    CompatError
        If there is no checkpoint.
    """
    found = sorted(
        file
        for file in folder.rglob("*.ckpt")
        if (file.is_file() or file.is_dir()) and not file.is_symlink()
    )
    files = [
        file
        for file in found
        if not (
            file.name.startswith(UPGRADED)
            and file.with_name(file.name.removeprefix(UPGRADED)) in found
        )
    ]
    if not files and (folder.suffix == ".ckpt" or _is_distributed(folder)):
        # It says what it is, and what to do with it.
        open_regular(folder)
    if not files:
        raise CompatError(
            "There are no checkpoints below the folder.",
            facts={"folder": folder, "expected": "files named *.ckpt"},
            remedy="Give another folder, or a file.",
        )
    results: dict[Path, Outcome | CompatError] = {}
    for file in files:
        done = file.with_name(f"{UPGRADED}{file.name}")
        try:
            before = None
            if done in found and not request.in_place:
                before = _before(file, done, request)
            results[file] = before or _upgrade(file, request, progress)
        except CompatError as error:
            results[file] = error
    return Rows(folder, results)


def _is_distributed(folder: Path) -> bool:
    """Tell whether torch or DeepSpeed wrote a checkpoint as this folder."""
    return any(
        (folder / name).is_file() for name in (".metadata", "zero_to_fp32.py")
    )


def _upgrade(
    file: Path, request: Request, progress: Progress | None
) -> Outcome:
    with Output(file, None, UPGRADED, request.in_place) as output:
        if not request.dry_run:
            output.begin()
        return upgrade(output, request, progress)


def _before(file: Path, done: Path, request: Request) -> Outcome | None:
    """Tell whether a file's output is that of an earlier call."""
    with read_checkpoint(done) as checkpoint:
        record = checkpoint.data.get(STAMP)
    if not isinstance(record, dict) or record.get("layout") != request.target:
        return None
    return Outcome(
        file=file,
        origin=str(record.get("origin")),
        target=request.target,
        evidence=[],
        steps=[],
        before=done,
    )


def _refused(result: Outcome | CompatError) -> bool:
    return isinstance(result, CompatError)


def _said(result: Outcome | CompatError) -> str:
    if isinstance(result, CompatError):
        return f"refused: {result.what}"
    if result.before is not None:
        return f"was upgraded before: {result.before.name}"
    if result.output is None:
        return f"has the layout of {result.target} already"
    count = len(result.steps)
    steps = "1 step" if count == 1 else f"{count} steps"
    verb = "would go" if result.dry_run else "went"
    return f"{verb} to {result.target} in {steps}: {result.output.name}"
