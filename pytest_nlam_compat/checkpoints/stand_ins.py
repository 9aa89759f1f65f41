"""Stand-ins for what a checkpoint's pickle names, and for its tensors.

Nothing here imports or calls anything that a file names: each object only
remembers what the pickle says, so that it can be shown and written again.
"""

from __future__ import annotations

import enum
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.refusals import SAVE_AGAIN, refusal

if TYPE_CHECKING:
    import torch

    from pytest_nlam_compat.checkpoints.archive import Archive

#: The storage class in the pickle -> its element type.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt8Storage": "quint8",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}

#: The element types that torch stores -> their size in bytes.
ITEMSIZES = {
    name: size
    for size, names in {
        16: "complex128",
        8: "float64 int64 uint64 complex64",
        4: "float32 int32 uint32 complex32 qint32",
        2: "float16 bfloat16 int16 uint16 bits16",
        1: "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz "
        "float8_e8m0fnu float4_e2m1fn_x2 int8 uint8 bool bits8 bits4x2 "
        "bits2x4 bits1x8 qint8 quint8 quint4x2 quint2x4",
    }.items()
    for name in names.split()
}

#: A tensor of these needs a quantizer as well; its storage alone is bytes.
QUANTIZED = frozenset(name for name in ITEMSIZES if name.startswith("q"))

_NO_METADATA: Mapping[str, bool] = MappingProxyType({})


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


@dataclass(eq=False, slots=True)
class InertObject:
    """An object that the pickle would have made, inert.

    Two are equal only if they are the same one, so that what was shared in
    the file stays shared when it is written again.

    Parameters
    ----------
    cls : GlobalRef or InertObject
        What would have been called.
    args : tuple, optional
        The positional arguments.
    kwargs : dict, optional
        The keyword arguments; only ``How.NEWOBJ_EX`` has them.
    state : object, optional
        What ``__setstate__`` or ``__dict__`` would have received; None if
        nothing.
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

        The dict is the one in the state: changing it changes the object. The
        state of an object with ``__slots__`` is a pair, of which this is the
        first dict.
        """
        if isinstance(self.state, dict):
            return self.state
        if isinstance(self.state, tuple) and len(self.state) == 2:
            for part in self.state:
                if isinstance(part, dict):
                    return part
        return {}


@dataclass(frozen=True, eq=False, slots=True)
class StorageRef:
    """The bytes that one or several tensors view.

    Parameters
    ----------
    archive : Archive
        The open file that they are in.
    key : str
        The number of the record, as in ``data/<key>``.
    cls : GlobalRef
        The storage class that the pickle names.
    dtype : str
        The name of its element type, such as ``float32``; ``uint8`` for an
        untyped storage.
    numel : int
        Its number of elements.
    device : str, optional
        Where it was when it was saved, such as ``cpu`` or ``cuda:0``.
    """

    archive: Archive = field(repr=False)
    key: str
    cls: GlobalRef
    dtype: str
    numel: int
    device: str = "cpu"

    @property
    def record(self) -> str:
        """The name of its record in the archive."""
        return f"data/{self.key}"

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.numel * ITEMSIZES[self.dtype]

    @property
    def untyped(self) -> bool:
        """Whether each tensor has an element type of its own."""
        return self.cls.name == "UntypedStorage"


@dataclass(frozen=True, eq=False, slots=True)
class TensorRef:
    """A tensor that has not been loaded.

    Parameters
    ----------
    storage : StorageRef
        The bytes that it views; shared with other views of them.
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
    metadata : mapping, optional
        The conjugate and negative bits; empty if neither is set.
    """

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    is_parameter: bool = False
    metadata: Mapping[str, bool] = field(default_factory=lambda: _NO_METADATA)

    @property
    def numel(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of its elements in bytes, each counted once."""
        return self.numel * ITEMSIZES[self.dtype]

    @property
    def device(self) -> str:
        """Where it was when it was saved."""
        return self.storage.device

    @property
    def span(self) -> tuple[int, int]:
        """The bytes of the storage that it views: the first, and the end."""
        if 0 in self.shape:
            return 0, 0
        last = self.offset + sum(
            (size - 1) * step
            for size, step in zip(self.shape, self.stride, strict=True)
        )
        size = ITEMSIZES[self.dtype]
        return self.offset * size, (last + 1) * size

    def load(self) -> torch.Tensor:
        """Load the tensor into memory of its own, on the CPU.

        Returns
        -------
        torch.Tensor
            With the shape, strides and kind that it was saved with. Only the
            bytes that it views are in memory.

        Raises
        ------
        CompatError
            If its record is damaged, its file was closed, or torch has no
            such tensors.
        """
        import torch

        archive = self.storage.archive
        dtype = getattr(torch, self.dtype, None)
        if self.dtype in QUANTIZED or dtype is None:
            raise refusal(
                archive.path,
                f"has a tensor of the type {self.dtype}, which can't be loaded",
                "Convert it to another type where it was written.",
                record=self.storage.record,
                torch=torch.__version__,
            )
        if archive.byteorder != sys.byteorder:
            raise refusal(
                archive.path,
                f"was written on a {archive.byteorder}-endian machine, and "
                f"this one is {sys.byteorder}-endian",
                SAVE_AGAIN,
            )
        start, end = self.span
        whole = torch.empty(0, dtype=torch.uint8)
        if start < end:
            content = archive.read_part(self.storage.record, start, end)
            # The tensor keeps the bytearray alive, and may change it.
            whole = torch.frombuffer(content, dtype=torch.uint8)
        tensor = torch.empty(0, dtype=dtype)
        # As torch.load does it; only set_ takes strides.
        tensor.set_(whole.untyped_storage(), 0, self.shape, self.stride)
        if self.metadata:
            torch._utils.set_tensor_metadata(  # type: ignore[no-untyped-call]
                tensor, dict(self.metadata)
            )
        tensor.requires_grad = self.requires_grad
        if self.is_parameter:
            return torch.nn.Parameter(tensor, self.requires_grad)
        return tensor
