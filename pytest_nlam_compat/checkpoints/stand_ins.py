"""Stand-ins for what a checkpoint's pickle names, and for its tensors.

Nothing here imports or calls anything that a file names: each object only
remembers what the pickle says, so that it can be shown and written again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.files.refusals import refusal

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
}

#: The element types that are read and written -> their size in bytes.
ITEMSIZES = {
    "complex128": 16,
    **dict.fromkeys(["float64", "int64", "uint64", "complex64"], 8),
    **dict.fromkeys(["float32", "int32", "uint32"], 4),
    **dict.fromkeys(["float16", "bfloat16", "int16", "uint16"], 2),
    **dict.fromkeys(["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"], 1),
    **dict.fromkeys(["int8", "uint8", "bool"], 1),
}


@dataclass(frozen=True, slots=True)
class GlobalRef:
    """A class or function that the pickle names, and nobody imported.

    The module has the name that Python 3 has for it.
    """

    module: str
    name: str

    @property
    def path(self) -> str:
        """Module and name with a dot between them."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class InertObject:
    """An object that the pickle would have made, inert.

    ``state`` is what ``__setstate__`` or ``__dict__`` would have received,
    None if nothing; ``dict_items`` what would have been set by key;
    ``is_call`` whether by ``cls(*args)``, and not by ``__new__`` alone. Two are
    equal only if they are the same one, so that what is shared stays shared.
    """

    cls: GlobalRef
    args: tuple[Any, ...] = ()
    state: Any = None
    dict_items: dict[Any, Any] = field(default_factory=dict)
    is_call: bool = False

    @property
    def attributes(self) -> dict[str, Any]:
        """The state, if it is a dict: it would become the attributes."""
        return self.state if isinstance(self.state, dict) else {}


@dataclass(frozen=True, eq=False, slots=True)
class StorageRef:
    """The bytes that one or several tensors view: a record of an archive.

    ``device`` is where it was when it was saved, such as ``cuda:0``.
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


@dataclass(frozen=True, eq=False, slots=True)
class TensorRef:
    """A tensor that has not been loaded: a view of a storage.

    ``dtype`` is the name of its type, such as ``float32``; ``offset`` and
    ``stride`` are in elements, as torch has them.
    """

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    is_parameter: bool = False

    @property
    def nbytes(self) -> int:
        """The size of its elements in bytes, each counted once."""
        return math.prod(self.shape) * ITEMSIZES[self.dtype]

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

        Only the bytes that it views are read. A CompatError is raised if its
        record is damaged, its file was closed, or torch has no such tensors.
        """
        import torch

        archive = self.storage.archive
        dtype = getattr(torch, self.dtype, None)
        if dtype is None:
            raise refusal(
                archive.path,
                f"has a tensor of the type {self.dtype}, which can't be loaded",
                "Install a torch that has this type.",
                record=self.storage.record,
                torch=torch.__version__,
            )
        start, end = self.span
        whole = torch.empty(0, dtype=torch.uint8)
        if start < end:
            content = archive.read(self.storage.record, start, end)
            # The tensor keeps the bytearray alive, and may change it.
            whole = torch.frombuffer(content, dtype=torch.uint8)
        tensor = torch.empty(0, dtype=dtype)
        # As torch.load does it; only set_ takes strides.
        tensor.set_(whole.untyped_storage(), 0, self.shape, self.stride)
        if self.is_parameter:
            return torch.nn.Parameter(tensor, self.requires_grad)
        return tensor.requires_grad_(self.requires_grad)
