"""Tensors of a file as numpy arrays, read when their values are needed.

Carrying a checkpoint over touches a few of its tensors. The others are never
read, and are written as the bytes that they are in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.dtypes import itemsize
from pytest_nlam_compat.checkpoints.refusals import refusal
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# numpy has no bfloat16; its values are exact in float32.
_WIDENED = {"bfloat16": "float32"}
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_LOADABLE = frozenset(
    {
        *_FLOATS,
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
        *("uint64", "uint32", "uint16", "complex128", "complex64"),
    }
)


class Array:
    """The part of ``torch.Tensor`` that migrations use, on numpy.

    Parameters
    ----------
    values : ndarray, optional
        None if there is a `ref` to read them from.
    dtype : str
        Name of the element type as torch has it, such as ``bfloat16``.
    home : str
        That of the file: to which `at_home` casts back.
    ref : TensorRef, optional
        Where the values are in a file, as long as they are those.

    Attributes
    ----------
    shape : tuple of int
    dtype, home : str
    """

    __slots__ = ("_ref", "_values", "dtype", "home", "shape")

    def __init__(
        self,
        values: npt.NDArray[Any] | None,
        dtype: str,
        home: str,
        ref: TensorRef | None = None,
    ) -> None:
        self._values = values
        self._ref = ref
        self.dtype = dtype
        self.home = home
        self.shape: tuple[int, ...] = (
            ref.shape if ref is not None else _present(values).shape
        )

    @classmethod
    def of(cls, ref: TensorRef) -> Array:
        """Stand for a tensor of a file, without reading it."""
        return cls(None, ref.dtype, ref.dtype, ref)

    @classmethod
    def from_numbers(cls, numbers: Any, dtype: str) -> Array:
        """Make an array of numbers."""
        import numpy as np

        values = np.array(numbers, dtype=_WIDENED.get(dtype, dtype))
        return cls(values, dtype, dtype)

    @property
    def values(self) -> npt.NDArray[Any]:
        """The values; a bfloat16 as float32."""
        if self._values is None:
            assert self._ref is not None
            self._values = _cast(_read(self._ref), self.dtype)
        return self._values

    def stored(self) -> TensorRef | Array:
        """Return what to write: the place in the file if nothing changed."""
        unchanged = self._ref is not None and self._ref.dtype == self.dtype
        return self._ref if unchanged and self._ref is not None else self

    def content(self) -> npt.NDArray[Any]:
        """Return the values as the file has them; a bfloat16 as uint16."""
        import numpy as np

        values = np.ascontiguousarray(self.values).reshape(self.shape)
        if self.dtype == "bfloat16":
            return (values.view("uint32") >> 16).astype("uint16")
        return values

    # What torch.Tensor has.

    def dim(self) -> int:
        """Count the dimensions."""
        return len(self.shape)

    def numel(self) -> int:
        """Count the elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    def is_floating_point(self) -> bool:
        """Tell whether the elements are floating point numbers."""
        return self.dtype in _FLOATS

    def to(self, dtype: str) -> Array:
        """Cast; one that was not read yet is not read for it."""
        if dtype == self.dtype:
            return self
        if self._ref is not None:
            return Array(None, dtype, self.home, self._ref)
        return Array(_cast(self.values, dtype), dtype, self.home)

    def double(self) -> Array:
        """Cast to float64."""
        return self.to("float64")

    def at_home(self) -> Array:
        """Cast back to the type of the file."""
        return self.to(self.home)

    def settled(self, dtype: str) -> Array:
        """Cast for good: to a new type of the file."""
        cast = self.to(dtype)
        return Array(cast._values, dtype, dtype, cast._ref)

    def clone(self) -> Array:
        """Copy."""
        return Array(self.values.copy(), self.dtype, self.home)

    def new_zeros(self, shape: tuple[int, ...]) -> Array:
        """Make another of zeros, of the same type."""
        import numpy as np

        return self._like(np.zeros(shape, self.values.dtype))

    def contiguous(self) -> Array:
        """Return the same: it is written without gaps in any case."""
        return self

    def reshape(self, shape: tuple[int, ...]) -> Array:
        """Read the elements, in order, into another shape."""
        return self._like(self.values.reshape(shape))

    def transpose(self, first: int, second: int) -> Array:
        """Swap two dimensions."""
        return self._like(self.values.swapaxes(first, second))

    def flip(self, dim: int) -> Array:
        """Reverse along a dimension."""
        import numpy as np

        return self._like(np.flip(self.values, dim))

    def abs(self) -> Array:
        """Take the absolute values."""
        return self._like(abs(self.values))

    def sqrt(self) -> Array:
        """Take the square roots."""
        return self._like(self.values**0.5)

    def min(self) -> Any:
        """Find the smallest element."""
        return self.values.min()

    def max(self) -> Any:
        """Find the largest element."""
        return self.values.max()

    def tolist(self) -> Any:
        """Return plain numbers."""
        return self.values.tolist()

    def __len__(self) -> int:
        return self.shape[0]

    def __float__(self) -> float:
        return float(self.values)

    def __getitem__(self, where: Any) -> Array:
        return self._like(self.values[where])

    def __setitem__(self, where: Any, new: Any) -> None:
        self.values[where] = _operand(new)
        self._ref = None

    def __add__(self, other: Any) -> Array:
        return self._like(self.values + _operand(other))

    def __sub__(self, other: Any) -> Array:
        return self._like(self.values - _operand(other))

    def __mul__(self, other: Any) -> Array:
        return self._like(self.values * _operand(other))

    def __truediv__(self, other: Any) -> Array:
        return self._like(self.values / _operand(other))

    def __floordiv__(self, other: Any) -> Array:
        return self._like(self.values // _operand(other))

    def __mod__(self, other: Any) -> Array:
        return self._like(self.values % _operand(other))

    def __pow__(self, power: float) -> Array:
        return self._like(self.values**power)

    def __matmul__(self, other: Any) -> Array:
        return self._like(self.values @ _operand(other))

    def _like(self, values: Any) -> Array:
        import numpy as np

        values = np.asarray(values)
        wide = self.dtype in _WIDENED and values.dtype == "float32"
        return Array(
            values, self.dtype if wide else str(values.dtype), self.home
        )


def concatenate(arrays: Sequence[Array], dim: int) -> Array:
    """Join arrays along a dimension."""
    import numpy as np

    return arrays[0]._like(np.concatenate([a.values for a in arrays], dim))


def _operand(value: Any) -> Any:
    return value.values if isinstance(value, Array) else value


def _present(values: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    assert values is not None
    return values


def _cast(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    if dtype == "float16":
        # By way of float32, as torch does, which may round twice.
        values = values.astype("float32", copy=False)
    if dtype != "bfloat16":
        return values.astype(dtype, copy=False)
    import numpy as np

    single = np.ascontiguousarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    # To the nearest, and to even in the middle, as torch rounds.
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    kept = np.where(np.isnan(single), bits, rounded)
    return kept.astype(np.uint32).view(np.float32).reshape(values.shape)


def _read(ref: TensorRef) -> npt.NDArray[Any]:
    """Read a tensor into memory of its own."""
    import numpy as np

    archive = ref.storage.archive
    if ref.dtype not in _LOADABLE or ref.metadata:
        raise refusal(
            archive.path,
            f"has a tensor of the type {ref.dtype}, which can't be changed "
            "here",
            "Convert it to another type where it was written.",
            record=ref.storage.record,
        )
    content = archive.read(ref.storage.record) if ref.storage.nbytes else b""
    plain = {"bfloat16": "uint16"}.get(ref.dtype, ref.dtype)
    little = archive.byteorder == "little"
    kind = np.dtype(plain).newbyteorder("<" if little else ">")
    start = min(ref.offset * itemsize(ref.dtype), len(content))
    flat = np.frombuffer(content, kind, offset=start) if content else None
    if flat is None or 0 in ref.shape:
        flat = np.zeros(1, kind)
    strided = np.lib.stride_tricks.as_strided(
        flat,
        ref.shape,
        tuple(step * kind.itemsize for step in ref.stride),
        writeable=False,
    )
    values: npt.NDArray[Any] = np.array(strided, plain, order="C")
    if ref.dtype != "bfloat16":
        return values
    wide: npt.NDArray[np.uint32] = values.astype(np.uint32) << np.uint32(16)
    return wide.view(np.float32)
