"""Operations on the hyper-parameters, by paths such as ``args.hidden_dim``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.migrations.operations.base import OnHyperParameters
from pytest_nlam_compat.migrations.operations.trees import (
    attributes,
    find,
    is_instance_of,
    rebuild,
    with_attributes,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun


def hyper_parameter(run: SavedRun, path: str) -> Any:
    """Return the value of a hyper-parameter, None if it isn't there."""
    return find(run.hyper_parameters, path.split("."))[1]


@dataclass(frozen=True, repr=False)
class OnHyperParameter(OnHyperParameters):
    """An operation on one hyper-parameter.

    Attributes
    ----------
    path : str
        ``"args.loss"``; everything but the last name must exist.
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
class SetHyperParameter(OnHyperParameter):
    """Set a hyper-parameter.

    Attributes
    ----------
    value : object
        Plain data or `New`.
    replace : bool
        Whether it may have a value already. By default that is an error.
    """

    value: Any
    replace: bool = False
    must_exist: ClassVar[bool] = False

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Add or replace the value."""
        if name in inside and not self.replace:
            raise self.refuse(
                f"The hyper-parameter {self.path} has a value already.",
                "Set replace=True, or correct the predicate of the migration.",
                found=inside[name],
            )
        value = self.value
        return {
            **inside,
            name: value.build() if isinstance(value, New) else value,
        }


@dataclass(frozen=True, repr=False)
class RenameHyperParameter(OnHyperParameter):
    """Rename a hyper-parameter within the object that holds it.

    Attributes
    ----------
    name : str
        Its new last name: ``"num_workers"`` for ``"args.n_workers"``.
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


@dataclass(frozen=True, repr=False)
class DropHyperParameter(OnHyperParameter):
    """Drop a hyper-parameter."""

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Drop it."""
        return {key: value for key, value in inside.items() if key != name}


@dataclass(frozen=True, repr=False)
class MapHyperParameter(OnHyperParameter):
    """Replace the value of a hyper-parameter by a table.

    Attributes
    ----------
    values : mapping
        Old value to new value. A value that isn't listed stays as it is.
    """

    values: Mapping[Any, Any]

    def changed(self, inside: dict[str, Any], name: str) -> dict[str, Any]:
        """Replace the value."""
        old = inside[name]
        # A list can't be a key of the table.
        known = isinstance(old, (str, int, float, bool)) or old is None
        return {**inside, name: self.values.get(old, old) if known else old}


@dataclass(frozen=True, repr=False)
class UnwrapClass(OnHyperParameters):
    """Replace every object of a class by the one argument it was built from.

    For a class that wraps a plain value, such as a ``str`` subclass, and is
    gone from the newer code, so that a file that pickled it can't be opened.

    Attributes
    ----------
    name : str
        Module and class, ``"neural_lam.config.DatastoreKindStr"``.
    """

    name: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Replace the objects in all hyper-parameters."""
        found = 0

        def unwrap(value: Any) -> Any:
            nonlocal found
            if not is_instance_of(value, self.name):
                return value
            if len(value.args) != 1 or value.state:
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
