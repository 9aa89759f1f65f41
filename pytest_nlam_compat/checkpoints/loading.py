"""From a reference to a tensor; the only place here that imports torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_nlam_compat.checkpoints.dtypes import QUANTIZED
from pytest_nlam_compat.checkpoints.refusals import SAVE_AGAIN, refusal
from pytest_nlam_compat.checkpoints.stand_ins import StorageRef, TensorRef

if TYPE_CHECKING:
    import torch


class Loader:
    """Loads tensors; those that share a storage in the file share it again.

    What it loads is in memory of its own, on the CPU: changing it changes no
    file. A storage is read once, and stays in memory as long as the loader.
    """

    def __init__(self) -> None:
        self._storages: dict[StorageRef, torch.UntypedStorage] = {}

    def load(self, ref: TensorRef) -> torch.Tensor:
        """Load a tensor.

        Parameters
        ----------
        ref : TensorRef
            Where it is.

        Returns
        -------
        torch.Tensor
            With the shape, stride and offset, and as much of a parameter, as
            it was saved with.

        Raises
        ------
        CompatError
            If its record is damaged, its file was closed, or its type has no
            tensors here.
        """
        import torch

        path = ref.storage.archive.path
        dtype = getattr(torch, ref.dtype, None)
        if ref.dtype in QUANTIZED or dtype is None:
            raise refusal(
                path,
                f"has a tensor of the type {ref.dtype}, which can't be loaded",
                "Convert it to another type where it was written.",
                record=ref.storage.record,
                torch=torch.__version__,
            )
        tensor = torch.empty(0, dtype=dtype)
        # What torch.load does; set_ is the one way to an offset and strides.
        tensor.set_(
            self._storage(ref.storage), ref.offset, ref.shape, ref.stride
        )
        if ref.metadata:
            torch._utils.set_tensor_metadata(  # type: ignore[no-untyped-call]
                tensor, ref.metadata
            )
        tensor.requires_grad = ref.requires_grad
        if ref.is_parameter:
            return torch.nn.Parameter(tensor, ref.requires_grad)
        return tensor

    def _storage(self, ref: StorageRef) -> torch.UntypedStorage:
        import torch

        if ref not in self._storages:
            archive = ref.archive
            if archive.byteorder != sys.byteorder:
                raise refusal(
                    archive.path,
                    f"was written on a {archive.byteorder}-endian machine, "
                    f"and this one is {sys.byteorder}-endian",
                    SAVE_AGAIN,
                )
            whole = torch.empty(0, dtype=torch.uint8)
            if ref.nbytes:
                # The storage keeps the bytearray alive and may change it.
                content = archive.read(ref.record)
                whole = torch.frombuffer(content, dtype=torch.uint8)
            self._storages[ref] = whole.untyped_storage()
        return self._storages[ref]
