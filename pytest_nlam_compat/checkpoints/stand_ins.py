"""What stands for the things that a checkpoint's pickle names.

Nothing here can be called and nothing is looked up: each object only
remembers what the pickle said, so that it can be shown and written back.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.dtypes import itemsize

if TYPE_CHECKING:
    import torch

    from pytest_nlam_compat.checkpoints.archive import Archive


@dataclass(frozen=True, slots=True)
class GlobalRef:
    """A class or function that the pickle names, and nobody imported.

    Parameters
    ----------
    module : str
        The module, with the name that Python 3 has for it.
    name : str
        The qualified name inside of it; dotted for a nested class.
    """

    module: str
    name: str

    @property
    def path(self) -> str:
        """Module and name with a dot between them."""
        return f"{self.module}.{self.name}"


class How(enum.Enum):
    """The way in which the pickle makes an object."""

    REDUCE = "cls(*args)"
    NEWOBJ = "cls.__new__(cls, *args)"
    NEWOBJ_EX = "cls.__new__(cls, *args, **kwargs)"
    OBJ = "the class of Python 2, made by OBJ or INST"


@dataclass(eq=False, slots=True)
class InertObject:
    """An object that the pickle would have made, inert.

    Two are equal only if they are the same one, so that what was shared in
    the file stays shared when it is written back.

    Parameters
    ----------
    cls : GlobalRef or InertObject
        What would have been called.
    args : tuple, optional
        The positional arguments.
    kwargs : dict, optional
        The keyword arguments; only ``How.NEWOBJ_EX`` has them.
    state : object, optional
        What ``__setstate__`` or ``__dict__`` would have been given; None if
        it was given nothing.
    list_items : list, optional
        What would have been appended.
    dict_items : dict, optional
        What would have been set by key.
    how : How, optional
        Which kind of call it was.
    """

    cls: GlobalRef | InertObject
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    list_items: list[Any] = field(default_factory=list)
    dict_items: dict[Any, Any] = field(default_factory=dict)
    how: How = How.NEWOBJ

    @property
    def attributes(self) -> dict[str, Any]:
        """The part of the state that would become attributes.

        The dict is the one in the state: changing it changes the instance.
        An object with ``__slots__`` has a pair for a state, of which this is
        the first dict that is there.
        """
        if isinstance(self.state, dict):
            return self.state
        if isinstance(self.state, tuple) and len(self.state) == 2:
            for part in self.state:
                if isinstance(part, dict):
                    return part
        return {}


@dataclass(frozen=True, slots=True)
class StorageRef:
    """The bytes that one or several tensors look at.

    Parameters
    ----------
    archive : Archive
        The open file in which they are.
    key : str
        The number of the record, as in ``data/<key>``.
    cls : GlobalRef
        The storage class that the pickle names.
    dtype : str
        The name of its element type, such as ``float32``; ``uint8`` for an
        untyped storage.
    numel : int
        How many elements it has.
    device : str
        Where it was when it was saved, such as ``cpu`` or ``cuda:0``.
    """

    archive: Archive = field(repr=False)
    key: str
    cls: GlobalRef
    dtype: str
    numel: int
    device: str

    @property
    def record(self) -> str:
        """The name of its record in the archive."""
        return f"data/{self.key}"

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.numel * itemsize(self.dtype)

    @property
    def untyped(self) -> bool:
        """Whether each tensor brings its own element type."""
        return self.cls.name == "UntypedStorage"


@dataclass(frozen=True, eq=False, slots=True)
class TensorRef:
    """A tensor that is still in its file.

    Parameters
    ----------
    storage : StorageRef
        The bytes that it looks at; shared with the other views of them.
    dtype : str
        The name of its element type.
    offset : int
        The index of its first element in the storage.
    shape : tuple of int
        Its size.
    stride : tuple of int
        The steps between its elements, in elements.
    requires_grad : bool, optional
        As saved.
    is_parameter : bool, optional
        Whether it was a ``torch.nn.Parameter``.
    metadata : dict, optional
        The conjugate and negative bits; empty where neither is set.
    """

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    is_parameter: bool = False
    metadata: dict[str, bool] = field(default_factory=dict)

    @property
    def numel(self) -> int:
        """How many elements it has."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take, each counted once."""
        return self.numel * itemsize(self.dtype)

    @property
    def device(self) -> str:
        """Where it was when it was saved."""
        return self.storage.device

    def load(self) -> torch.Tensor:
        """Load the tensor into memory of its own, on the CPU.

        Raises
        ------
        CompatError
            If its record is damaged, its file was closed, or torch has no
            such element type.
        """
        from pytest_nlam_compat.checkpoints.loading import Loader

        return Loader().load(self)
