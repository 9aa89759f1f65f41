"""Operations on the hyper-parameters, by paths such as ``args.hidden_dim``.

They are trees of plain data and stand-ins, changed by copying. A path names a
value through dicts and attributes alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.migrations.operations.base import OnHyperParameters
from pytest_nlam_compat.migrations.saved_run import SavedRun


def hyper_parameter(run: SavedRun, path: str) -> Any:
    """Return the value of a hyper-parameter, None if it isn't there."""
    return find(run.hyper_parameters, path.split("."))[1]


@dataclass(repr=False, eq=False)
class OnHyperParameter(OnHyperParameters):
    """An operation on one hyper-parameter, such as ``"args.loss"``.

    Everything but the last name of the path must exist.
    """

    path: str
    must_exist: ClassVar[bool] = True

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the entries of the object that holds it, as they become."""
        raise NotImplementedError

    def apply(self, run: SavedRun) -> SavedRun:
        """Change it in the object that holds it."""
        *parent, name = self.path.split(".")
        exists, holder = find(run.hyper_parameters, parent)
        inside = attributes(holder) if exists else None
        remedy = "Correct the path, or the predicate of its migration."
        if inside is None:
            raise self.refuse(
                f"The saved run has no hyper-parameters {'.'.join(parent)!r}.",
                remedy,
                found=", ".join(run.hyper_parameters) or "none",
            )
        if self.must_exist and name not in inside:
            raise self.refuse(
                f"The saved run has no hyper-parameter {self.path!r}.",
                remedy,
                found=", ".join(inside) or "none",
            )
        new = self.changed(inside, name)
        return replace(
            run,
            hyper_parameters=with_attributes(run.hyper_parameters, parent, new),
        )


@dataclass(frozen=True)
class New:
    """An object to put into hyper-parameters, for `SetHyperParameter`.

    `name` is of module and class; `attributes` are plain data or further `New`.
    """

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> InertObject:
        """Return the stand-in of the object."""
        module, _, name = self.name.rpartition(".")
        state = {
            key: value.build() if isinstance(value, New) else value
            for key, value in self.attributes.items()
        }
        return InertObject(GlobalRef(module, name), state=state)


@dataclass(repr=False, eq=False)
class SetHyperParameter(OnHyperParameter):
    """Add a hyper-parameter: plain data or `New`. Refuses one that is set."""

    value: Any
    must_exist: ClassVar[bool] = False

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Add the value."""
        if name in inside:
            raise self.refuse(
                f"The hyper-parameter {self.path} has a value already.",
                "Drop it first, or correct the predicate of the migration.",
                found=inside[name],
            )
        value = self.value
        return {
            **inside,
            name: value.build() if isinstance(value, New) else value,
        }


@dataclass(repr=False, eq=False)
class RenameHyperParameter(OnHyperParameter):
    """Rename a hyper-parameter within the object that holds it.

    `name` is its new last name: ``"num_workers"`` for ``"args.n_workers"``.
    """

    name: str

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Rename it; its place in the order stays."""
        if self.name in inside:
            raise self.refuse(
                f"The name {self.name!r} is taken.",
                "Drop or rename one of them first.",
                found=inside[self.name],
            )
        return {
            self.name if key == name else key: value
            for key, value in inside.items()
        }


@dataclass(repr=False, eq=False)
class DropHyperParameter(OnHyperParameter):
    """Drop a hyper-parameter."""

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Drop it."""
        return {key: value for key, value in inside.items() if key != name}


@dataclass(repr=False, eq=False)
class MapHyperParameter(OnHyperParameter):
    """Replace the value of a hyper-parameter by a table, old to new.

    A value that isn't listed stays as it is.
    """

    values: Mapping[Any, Any]

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Replace the value."""
        old = inside[name]
        # A list can't be a key of the table.
        known = isinstance(old, (str, int, float, bool)) or old is None
        return {**inside, name: self.values.get(old, old) if known else old}


@dataclass(repr=False, eq=False)
class UnwrapClass(OnHyperParameters):
    """Replace every object of a class by the one argument it was built from.

    For a class that wraps a plain value, such as a ``str`` subclass, and is
    gone from the newer code, so that a file that pickled it can't be opened.
    `name` is of module and class, ``"neural_lam.config.DatastoreKindStr"``.
    """

    name: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Replace the objects in all hyper-parameters."""

        def unwrap(value: Any) -> Any:
            if not is_instance_of(value, self.name):
                return value
            if len(value.args) != 1 or value.state:
                raise self.refuse(
                    f"An object of {self.name} holds more than one value.",
                    "Write a migration that keeps one of them.",
                    found=value,
                )
            return value.args[0]

        hyper_parameters = rebuild(run.hyper_parameters, unwrap)
        if hyper_parameters is run.hyper_parameters:
            raise self.refuse(
                f"No hyper-parameter is a {self.name}.",
                "Correct the name, or the predicate of its migration.",
            )
        return replace(run, hyper_parameters=hyper_parameters)


def is_instance_of(value: object, name: str) -> bool:
    """Tell whether `value` stands for an object of the class `name`."""
    return (
        isinstance(value, InertObject)
        and isinstance(value.cls, GlobalRef)
        and value.cls.path == name
    )


def contains_instance_of(tree: Any, name: str) -> bool:
    """Tell whether any node of a tree is an object of the class `name`."""
    nodes: list[Any] = []

    def note(value: Any) -> Any:
        nodes.append(value)
        return value

    rebuild(tree, note)
    return any(is_instance_of(value, name) for value in nodes)


def attributes(value: Any) -> dict[str, Any] | None:
    """Return what a path can step into: entries or attributes, else None."""
    if isinstance(value, dict):
        return value
    if isinstance(value, InertObject):
        return value.attributes
    return None


def find(tree: Any, path: Sequence[str]) -> tuple[bool, Any]:
    """Look up a path: whether something is there, and its value or None."""
    for step in path:
        inside = attributes(tree)
        if inside is None or step not in inside:
            return False, None
        tree = inside[step]
    return True, tree


def with_attributes(tree: Any, path: Sequence[str], new: dict[str, Any]) -> Any:
    """Copy a tree with all entries or attributes at an existing path replaced.

    `new` are those that the dict or `InertObject` has afterwards.
    """
    if path:
        inside = attributes(tree)
        assert inside is not None
        child = with_attributes(inside[path[0]], path[1:], new)
        new = {**inside, path[0]: child}
    if isinstance(tree, InertObject):
        return replace(tree, state=new)
    copied = copy.copy(tree)
    copied.clear()
    copied.update(new)
    return copied


def rebuild(
    value: Any,
    function: Callable[[Any], Any],
    done: dict[int, Any] | None = None,
) -> Any:
    """Apply a function to each node of a tree, leaves first.

    Dicts, lists, tuples and `InertObject` are entered; everything else is a
    leaf. The tree is not changed, and nodes in which nothing changes are
    shared with the new one. `done` has results by ``id``: what is shared in
    the file is done once and stays shared.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    # Stands for itself meanwhile, so that a cycle ends.
    done[id(value)] = value
    done[id(value)] = function(_with_content(value, function, done))
    return done[id(value)]


def _with_content(
    value: Any, function: Callable[[Any], Any], done: dict[int, Any]
) -> Any:
    if isinstance(value, dict):
        content = {k: rebuild(v, function, done) for k, v in value.items()}
        if all(content[k] is v for k, v in value.items()):
            return value
        copied = copy.copy(value)
        copied.update(content)
        return copied
    if isinstance(value, (list, tuple)):
        items = [rebuild(v, function, done) for v in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, InertObject):
        parts = {
            part: rebuild(getattr(value, part), function, done)
            for part in ("args", "state", "dict_items")
        }
        if all(new is getattr(value, part) for part, new in parts.items()):
            return value
        return replace(value, **parts)
    return value
