"""How a file is refused: what is wrong, where, and a way out."""

from __future__ import annotations

from pathlib import Path

from pytest_nlam_compat.errors import CompatError

COPY_AGAIN = (
    "Copy it again from where it came from and compare the sizes; if it is as "
    "bad there, the run that wrote it was cut short: take an older one."
)
SAVE_AGAIN = (
    "Load it with torch.load in the environment that wrote it, and write it "
    "again with torch.save(..., path)."
)
DISTRUST = (
    "torch.save writes no such file. Do not give it to torch.load unless you "
    "know who made it and how."
)


def refusal(path: Path, what: str, remedy: str, **facts: object) -> CompatError:
    """Make the error for a file that can't be read.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What is wrong with it, to follow its name: "is empty".
    remedy : str
        The way out.
    **facts : object
        Labelled facts, after the file.

    Returns
    -------
    CompatError
        To be raised.
    """
    return CompatError(
        f"{printable(path.name)} {what}.",
        facts={"file": printable(str(path), 1000), **facts},
        remedy=remedy,
    )


def torch_script(path: Path) -> CompatError:
    """Make the error for an archive of torch.jit.save."""
    return refusal(
        path,
        "is a TorchScript archive: a program, and no checkpoint",
        "Give the checkpoint that it was made from; or load it with "
        "torch.jit.load and save its state_dict() with torch.save.",
    )


def printable(text: str, limit: int = 80) -> str:
    """Return text from a file that nobody trusts, fit for a terminal."""
    short = text if len(text) <= limit else text[:limit] + "..."
    if short.isprintable():
        return short
    return short.encode("unicode_escape").decode("ascii")
