"""Operations on the hyper-parameters, by paths such as ``args.hidden_dim``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.base import OnHyperParameters
from pytest_nlam_compat.migrations.operations.trees import (
    attributes,
    find,
    is_instance_of,
    rebuild,
    with_attributes,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(frozen=True, repr=False)
class UnwrapClass(OnHyperParameters):
    """Replace every object of a class by the one argument it was built from.

    For a class that wraps a plain value, such as a ``str`` subclass, and is
    gone from the newer code, so that a file that pickled it can't be opened.

    Attributes
    ----------
    name : str
        Module and class, ``"neural_lam.config.DatastoreKindStr"``.

    Raises
    ------
    CompatError
        No such object, or one that holds more than one argument.
    """

    name: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Replace the objects in all hyper-parameters."""
        found = 0

        def unwrap(value: Any) -> Any:
            nonlocal found
            if not is_instance_of(value, self.name):
                return value
            if len(value.args) != 1 or value.kwargs or value.state:
                raise self.refuse(
                    f"An object of {self.name} holds more than one value.",
                    "Write a migration that keeps one of them.",
                    found=value,
                )
            found += 1
            return value.args[0]

        hyper_parameters = rebuild(run.hyper_parameters, unwrap)
        if not found:
            raise self.refuse(
                f"No hyper-parameter is a {self.name}.",
                "Correct the name, or the predicate of its migration.",
            )
        return replace(run, hyper_parameters=hyper_parameters)


@dataclass(frozen=True)
class New:
    """An object to put into hyper-parameters, for `SetHyperParameter`.

    Attributes
    ----------
    name : str
        Module and class, ``"neural_lam.config.OutputClamping"``.
    attributes : mapping of str to object
        Plain data, or further `New`.
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


@dataclass(frozen=True, repr=False)
class SetHyperParameter(OnHyperParameters):
    """Set a hyper-parameter.

    Attributes
    ----------
    path : str
        ``"args.output_std"``; everything but the last name must exist.
    value : object
        Plain data or `New`.
    replace : bool
        Whether it may have a value already. By default that is an error.

    Raises
    ------
    CompatError
        The parent doesn't exist, or there is a value already.
    """

    path: str
    value: Any
    replace: bool = False

    def apply(self, run: SavedRun) -> SavedRun:
        """Set the value."""
        *parent, name = self.path.split(".")
        inside = _inside(self, run, parent)
        if name in inside and not self.replace:
            raise self.refuse(
                f"The hyper-parameter {self.path} has a value already.",
                "Set replace=True, or correct the predicate of the migration.",
                found=inside[name],
            )
        value = (
            self.value.build() if isinstance(self.value, New) else self.value
        )
        return _with(run, parent, {**inside, name: value})


@dataclass(frozen=True, repr=False)
class RenameHyperParameter(OnHyperParameters):
    """Rename a hyper-parameter within the object that holds it.

    Attributes
    ----------
    path : str
        ``"args.n_workers"``.
    name : str
        Its new last name, ``"num_workers"``.

    Raises
    ------
    CompatError
        It isn't there, or the new name is taken.
    """

    path: str
    name: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Rename it; its place in the order stays."""
        *parent, old = self.path.split(".")
        inside = _inside(self, run, parent)
        if old not in inside:
            raise _absent(self, self.path, inside)
        if self.name in inside:
            raise self.refuse(
                f"The name {self.name!r} is taken.",
                "Drop or rename one of them first.",
                found=inside[self.name],
            )
        renamed = {
            self.name if key == old else key: value
            for key, value in inside.items()
        }
        return _with(run, parent, renamed)


@dataclass(frozen=True, repr=False)
class DropHyperParameter(OnHyperParameters):
    """Drop a hyper-parameter.

    Attributes
    ----------
    path : str
        ``"args.control_only"``.

    Raises
    ------
    CompatError
        It isn't there.
    """

    path: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Drop it."""
        *parent, name = self.path.split(".")
        inside = _inside(self, run, parent)
        if name not in inside:
            raise _absent(self, self.path, inside)
        left = {key: value for key, value in inside.items() if key != name}
        return _with(run, parent, left)


@dataclass(frozen=True, repr=False)
class MapHyperParameter(OnHyperParameters):
    """Replace the value of a hyper-parameter by a table.

    Attributes
    ----------
    path : str
        ``"args.loss"``.
    values : mapping
        Old value to new value. A value that isn't listed stays as it is.

    Raises
    ------
    CompatError
        The hyper-parameter isn't there.
    """

    path: str
    values: Mapping[Any, Any]

    def apply(self, run: SavedRun) -> SavedRun:
        """Replace the value."""
        *parent, name = self.path.split(".")
        inside = _inside(self, run, parent)
        if name not in inside:
            raise _absent(self, self.path, inside)
        old = inside[name]
        # A list can't be a key of the table.
        known = isinstance(old, (str, int, float, bool)) or old is None
        new = self.values.get(old, old) if known else old
        return _with(run, parent, {**inside, name: new})


def has_hyper_parameter(run: SavedRun, path: str) -> bool:
    """Tell whether a run has a hyper-parameter."""
    return find(run.hyper_parameters, path.split("."))[0]


def hyper_parameter(run: SavedRun, path: str) -> Any:
    """Return the value of a hyper-parameter, None if it isn't there."""
    return find(run.hyper_parameters, path.split("."))[1]


def _inside(
    operation: OnHyperParameters, run: SavedRun, path: list[str]
) -> dict[str, Any]:
    there, value = find(run.hyper_parameters, path)
    inside = attributes(value) if there else None
    if inside is None:
        raise operation.refuse(
            f"The saved run has no hyper-parameters {'.'.join(path)!r}.",
            "Correct the path, or the predicate of its migration.",
            found=", ".join(run.hyper_parameters) or "none",
        )
    return inside


def _with(run: SavedRun, path: list[str], new: dict[str, Any]) -> SavedRun:
    return replace(
        run,
        hyper_parameters=with_attributes(run.hyper_parameters, path, new),
    )


def _absent(
    operation: OnHyperParameters, path: str, inside: Mapping[str, Any]
) -> CompatError:
    return operation.refuse(
        f"The saved run has no hyper-parameter {path!r}.",
        "Correct the path, or the predicate of its migration.",
        found=", ".join(inside) or "none",
    )
