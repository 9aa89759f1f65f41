"""Upgrade all checkpoints below a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.copying import Progress
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.sniff import open_regular
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.output import UPGRADED, OutputFile
from pytest_nlam_compat.upgrade.request import UpgradeRequest, UpgradeResult
from pytest_nlam_compat.upgrade.upgrade import upgrade


@dataclass(frozen=True)
class FolderResult:
    """The result, or the error, of each file of a folder."""

    folder: Path
    results: dict[Path, UpgradeResult | CompatError]

    @property
    def complete(self) -> bool:
        """Whether no file was refused."""
        results = self.results.values()
        return not any(isinstance(each, CompatError) for each in results)

    def json(self) -> str:
        """Write the table as JSON."""
        return json.dumps(
            [_plain(*each) for each in self.results.items()], indent=1
        )

    def text(self) -> str:
        """Write the table for a terminal, and the errors below it."""
        rows = [("file", "from", "result")]
        errors: list[str] = []
        for file, result in self.results.items():
            name, origin = str(file.relative_to(self.folder)), "?"
            if isinstance(result, CompatError):
                errors += ["", f"{name}:", str(result)]
            else:
                origin = result.origin
            rows.append((name, origin, _summary(result)))
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        lines = [f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows]
        return "\n".join(lines + errors)


def upgrade_folder(
    folder: Path, request: UpgradeRequest, progress: Progress | None
) -> FolderResult:
    """Upgrade each ``.ckpt`` below a folder.

    Links are left out, and so are the outputs of an earlier upgrade: a file
    whose output exists counts as done. A directory named ``.ckpt`` is refused,
    because it is a distributed checkpoint.

    Parameters
    ----------
    folder : Path
    request : UpgradeRequest
    progress : callable, optional
        As for `upgrade`.

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
        # Raises an error that says what it is, and what to do with it.
        open_regular(folder)
    if not files:
        raise CompatError(
            "There are no checkpoints below the folder.",
            facts={"folder": folder, "expected": "files named *.ckpt"},
            remedy="Pass another folder, or a file.",
        )
    results: dict[Path, UpgradeResult | CompatError] = {}
    for file in files:
        output = file.with_name(f"{UPGRADED}{file.name}")
        try:
            earlier = None
            if output in found and not request.in_place:
                earlier = _earlier(file, output, request)
            results[file] = earlier or upgrade(
                OutputFile(file, None, UPGRADED, request.in_place),
                request,
                progress,
            )
        except CompatError as error:
            results[file] = error
    return FolderResult(folder, results)


def _is_distributed(folder: Path) -> bool:
    """Tell whether torch or DeepSpeed wrote a checkpoint as this folder."""
    return any(
        (folder / name).is_file() for name in (".metadata", "zero_to_fp32.py")
    )


def _earlier(
    file: Path, output: Path, request: UpgradeRequest
) -> UpgradeResult | None:
    """Return the result of an earlier upgrade, if the output is one."""
    with read_checkpoint(output) as checkpoint:
        record = checkpoint.data.get(STAMP)
    if not isinstance(record, dict) or record.get("layout") != request.target:
        return None
    return UpgradeResult(
        file=file,
        origin=str(record.get("origin")),
        target=request.target,
        evidence=[],
        steps=[],
        before=output,
    )


def _plain(file: Path, result: UpgradeResult | CompatError) -> dict[str, Any]:
    if not isinstance(result, CompatError):
        return result.plain()
    return {
        "file": str(file),
        "problem": result.what,
        "facts": {k: str(v) for k, v in result.facts.items()},
        "remedy": result.remedy,
    }


def _summary(result: UpgradeResult | CompatError) -> str:
    if isinstance(result, CompatError):
        return f"refused: {result.what}"
    if result.before is not None:
        return f"was converted before: {result.before.name}"
    if result.output is None:
        return f"has the layout of {result.target} already"
    count = len(result.steps)
    steps = "1 step" if count == 1 else f"{count} steps"
    verb = "would be converted" if result.dry_run else "was converted"
    return f"{verb} to {result.target} in {steps}: {result.output.name}"
