"""Tensors that are in memory and not yet in any file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.arrays import Array
from pytest_nlam_compat.checkpoints.dtypes import DTYPES, QUANTIZED, STORAGES
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    import numpy as np
    import torch

_CLASSES = {dtype: name for name, dtype in STORAGES.items()}
# The last of the names of uint8 above is that of the untyped storage.
_CLASSES["uint8"] = "ByteStorage"


@dataclass(frozen=True, eq=False, slots=True)
class FreshStorage:
    """The memory that one or several new tensors look at.

    Parameters
    ----------
    content : memoryview
        Its bytes, where they are: no copy.
    owner : object
        What keeps them there.
    cls : GlobalRef
        The storage class that the pickle will name.
    dtype : str
        The name of its element type; ``uint8`` for an untyped storage.
    numel : int
        How many elements it has.
    """

    content: memoryview
    owner: object
    cls: GlobalRef
    dtype: str
    numel: int
    device: str = "cpu"

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.content.nbytes

    @property
    def untyped(self) -> bool:
        """Whether each tensor brings its own element type."""
        return self.cls.name == "UntypedStorage"


@dataclass(frozen=True, eq=False, slots=True)
class FreshTensor:
    """What there is to write of a new tensor; as `TensorRef` names it."""

    storage: FreshStorage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool
    is_parameter: bool
    metadata: dict[str, bool]


class FreshTensors:
    """Describes new tensors; those that share a storage share it again."""

    def __init__(self) -> None:
        self._storages: dict[int, FreshStorage] = {}

    def describe(self, value: Any) -> FreshTensor | None:
        """Describe a value, if it is a new tensor.

        Parameters
        ----------
        value : object
            A ``torch.Tensor``, a ``torch.nn.Parameter``, a ``numpy.ndarray``
            or an `Array` (which become tensors), or anything else.

        Returns
        -------
        FreshTensor or None
            None if it is no tensor.

        Raises
        ------
        CompatError
            If it is a tensor of a kind that can't be written here.
        """
        # Whoever has a tensor has imported its library; we need not.
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if isinstance(value, Array):
            return self._of_numpy(value.content(), value.dtype)
        if torch is not None and isinstance(value, torch.Tensor):
            return self._of_torch(value)
        if numpy is not None and isinstance(value, numpy.ndarray):
            return self._of_numpy(value)
        return None

    def _of_torch(self, tensor: torch.Tensor) -> FreshTensor:
        import ctypes

        import torch

        dtype = str(tensor.dtype).removeprefix("torch.")
        if (
            type(tensor) not in (torch.Tensor, torch.nn.Parameter)
            or tensor.layout is not torch.strided
            or tensor.device.type == "meta"
            or dtype in QUANTIZED
            or dtype not in DTYPES
        ):
            raise _unwritable(f"{type(tensor).__name__} of the type {dtype}")
        here = tensor.detach().cpu()
        memory = here.untyped_storage()
        if memory._cdata not in self._storages:
            size = memory.nbytes()
            content = memoryview(b"")
            if size:
                there = (ctypes.c_char * size).from_address(memory.data_ptr())
                content = memoryview(there).cast("B")
            self._storages[memory._cdata] = _storage(
                content, memory, dtype, here.element_size()
            )
        storage = self._storages[memory._cdata]
        if not storage.untyped and storage.dtype != dtype:
            raise _unwritable(
                f"view as {dtype} of a storage of the type {storage.dtype}"
            )
        metadata = torch._utils.get_tensor_metadata(  # type: ignore[no-untyped-call]
            here
        )
        return FreshTensor(
            storage,
            dtype,
            int(here.storage_offset()),
            tuple(here.shape),
            here.stride(),
            tensor.requires_grad,
            isinstance(tensor, torch.nn.Parameter),
            metadata,
        )

    def _of_numpy(
        self, array: np.ndarray[Any, Any], dtype: str | None = None
    ) -> FreshTensor:
        dtype = dtype or array.dtype.name
        if dtype not in DTYPES or not array.dtype.isnative:
            raise _unwritable(f"numpy.ndarray of the type {array.dtype}")
        content = memoryview(array.tobytes())
        storage = _storage(content, None, dtype, array.itemsize)
        steps = [1]
        for size in reversed(array.shape[1:]):
            steps.insert(0, steps[0] * size)
        return FreshTensor(
            storage,
            dtype,
            0,
            array.shape,
            tuple(steps[len(steps) - array.ndim :]),
            False,
            False,
            {},
        )


def _storage(
    content: memoryview, owner: object, dtype: str, itemsize: int
) -> FreshStorage:
    if dtype in _CLASSES:
        cls = GlobalRef("torch", _CLASSES[dtype])
        return FreshStorage(
            content, owner, cls, dtype, content.nbytes // itemsize
        )
    cls = GlobalRef("torch.storage", "UntypedStorage")
    return FreshStorage(content, owner, cls, "uint8", content.nbytes)


def _unwritable(what: str) -> CompatError:
    return CompatError(
        f"A {what} can't be written to a checkpoint.",
        remedy="Make it a plain tensor first: torch.Tensor, dense.",
    )
