"""Batches of the current code, and the four parts that references hold."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pytest_nlam_compat.adapters.binding import ApiChangedError

PARTS = ("init_states", "target_states", "forcing", "target_times")
"""Names of the parts of a batch, in the order of neural-lam 0.4 to 0.7."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor]

_WORDS = {
    "init_states": {"init", "initial"},
    "target_states": {"target", "targets", "true"},
    "forcing": {"forcing", "forcings"},
    "target_times": {"time", "times"},
}


def parts_of(batch: Any) -> Batch:
    """Return the parts of a batch: a sequence, mapping, or named fields.

    Raises
    ------
    ApiChangedError
        A part can't be found by its name or position.
    """
    fields, names = fields_of(batch), _names(batch)
    init, target, forcing, times = (fields[names[part]] for part in PARTS)
    return init, target, forcing, times


def like(template: Any, batch: Batch) -> Any:
    """Return a batch in the container of the current code.

    Parameters
    ----------
    template : object
        A batch that the current code made of other samples.
    batch : tuple of Tensor
        The four parts. A part besides them has to be nothing, or of one
        value: then it is that, in the shape of the part that it has the
        shape of.

    Raises
    ------
    ApiChangedError
        The container has further parts with data of their own.
    """
    old, names = fields_of(template), _names(template)
    new = {names[part]: value for part, value in zip(PARTS, batch, strict=True)}
    shapes = {
        tuple(old[name].shape): value.shape for name, value in new.items()
    }
    for name, value in old.items():
        if name in new or not isinstance(value, Tensor):
            continue
        if value.numel() and not bool((value == value.flatten()[0]).all()):
            raise _unknown(template, f"it has a further part {name!r}")
        shape = shapes.get(
            tuple(value.shape), (len(batch[0]), *value.shape[1:])
        )
        like_floats = value.is_floating_point()
        filling = value.flatten()[0].item() if value.numel() else 0
        new[name] = torch.full(
            shape,
            filling,
            dtype=batch[0].dtype if like_floats else value.dtype,
            device=batch[0].device,
        )
    return _filled(template, {**old, **new})


def fields_of(batch: Any) -> dict[Any, Any]:
    """Return the parts of any container, by name or position."""
    if isinstance(batch, Mapping):
        return dict(batch)
    if hasattr(batch, "_asdict"):
        return dict(batch._asdict())
    if dataclasses.is_dataclass(batch):
        names = [field.name for field in dataclasses.fields(batch)]
        return {name: getattr(batch, name) for name in names}
    if isinstance(batch, list | tuple):
        return dict(enumerate(batch))
    return dict(vars(batch))


def _names(batch: Any) -> dict[str, Any]:
    """Return the name or position that each part has in a container.

    Of a plain sequence with more than four, those are the first three, and
    the last.
    """
    fields = list(fields_of(batch))
    if fields and isinstance(fields[0], int) and len(fields) >= len(PARTS):
        return dict(zip(PARTS, [*fields[:3], fields[-1]], strict=True))
    found = {}
    for part in PARTS:
        words = _WORDS[part]
        # Of "target_times" only the last word counts.
        others = set() if part == "target_times" else _WORDS["target_times"]
        fitting = [part] if part in fields else []
        fitting += [
            name
            for name in map(str, fields)
            if words & set(name.split("_"))
            and not others & set(name.split("_"))
        ]
        if not fitting:
            raise _unknown(batch, f"it has no {part}")
        found[part] = fitting[0]
    return found


def _filled(template: Any, fields: dict[Any, Any]) -> Any:
    """Return a container like another, with other parts."""
    if isinstance(template, Mapping):
        filled = copy.copy(template)
        filled.update(fields)  # type: ignore[attr-defined]
        return filled
    if hasattr(template, "_replace"):
        return template._replace(**fields)
    if isinstance(template, list | tuple):
        return type(template)(fields.values())
    filled = copy.copy(template)
    for name, value in fields.items():
        object.__setattr__(filled, name, value)
    return filled


def _unknown(batch: Any, what: str) -> ApiChangedError:
    return ApiChangedError(
        f"a batch can't be taken apart, {what}",
        expected=", ".join(PARTS),
        found=f"{type(batch).__name__} of "
        + ", ".join(map(str, fields_of(batch))),
        adapter="def take_apart(self, batch):\n"
        f"    return ...  # {', '.join(PARTS)}\n\n"
        "def put_together(self, template, parts):\n"
        "    return ...  # a batch like the template, of these four parts",
    )
