"""Take out of a checkpoint what tells where it was trained, and by whom.

Only what the model and its training need is kept; texts in it that name a file,
the machine or the user are replaced. Tensors are never touched.
"""

from __future__ import annotations

import getpass
import platform
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.migrations.stamps import STAMP, UPSTREAM_STAMP

REMOVED = "removed"

_UNCHANGED = ("state_dict", "optimizer_states")
_KEPT = (
    "epoch",
    "global_step",
    "pytorch-lightning_version",
    "state_dict",
    "loops",
    "optimizer_states",
    "lr_schedulers",
    "hparams_name",
    "hyper_parameters",
    STAMP,
    UPSTREAM_STAMP,
)
# They say where files are or how a run is shown, and never what is computed.
_ABOUT_THE_RUN = re.compile(
    r"config_path|load|eval|.*root|.*_dir|.*path|logger.*|wandb.*|mlflow.*"
)
# They say what is computed, even if a user is called mae.
_ABOUT_THE_MODEL = re.compile(
    "model|graph|loss|kind|.*aggr|.*_gnn_type|layout|origin|migrations"
)
_IS_PATH = re.compile(r"[/\\]|^~|^[A-Za-z]:$|@")


def redact(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a checkpoint's tree without them, and the parts left out.

    Parts that Lightning reads in training alone, such as callbacks, with the
    names of other checkpoints, are left out as a whole.
    """
    kept = {
        key: value if key in _UNCHANGED else redacted(value)
        for key, value in data.items()
        if key in _KEPT
    }
    dropped = [
        str(key) for key, value in data.items() if key not in _KEPT and value
    ]
    return kept, dropped


def redacted(value: Any, field: str = "") -> Any:
    """Return a value with its texts redacted; `field` is its name."""
    if isinstance(value, str):
        return _text(value, field)
    if isinstance(value, PurePath):
        return REMOVED
    if isinstance(value, InertObject):
        if value.cls.module.partition(".")[0] == "pathlib":
            return REMOVED
        value.args = tuple(redacted(each, field) for each in value.args)
        if value.state is not None:
            value.state = redacted(value.state, field)
        value.dict_items = redacted(value.dict_items, field)
        return value
    if isinstance(value, dict):
        pairs = [
            (REMOVED if _is_absolute(k) else k, redacted(v, str(k)))
            for k, v in value.items()
        ]
        value.clear()
        value.update(pairs)
        return value
    if isinstance(value, list | tuple):
        return type(value)(redacted(each, field) for each in value)
    return value


def graph_name(name: str) -> str:
    """Return the name of a graph without the folder that it was in."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or "graph"


def _is_absolute(key: object) -> bool:
    return isinstance(key, str) and bool(re.match(r"[/~]|[A-Z]:\\", key))


def _text(text: str, field: str = "") -> str:
    if field == "graph":
        return graph_name(text)
    if _ABOUT_THE_MODEL.fullmatch(field) and not _IS_PATH.search(text):
        return text
    if _ABOUT_THE_RUN.fullmatch(field) or _IS_PATH.search(text):
        return REMOVED
    return REMOVED if any(told(text) for told in _tells()) else text


@cache
def _tells() -> tuple[Callable[[str], object], ...]:
    """Return what finds the names of user and machine in a text."""
    names = {platform.node(), socket.gethostname(), Path.home().name}
    # Without an entry for the user, as in a container.
    with suppress(OSError, KeyError, ImportError):
        names.add(getpass.getuser())
    names |= {name.partition(".")[0] for name in names}
    return tuple(
        re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE).search
        for name in names
        if name
    )
