"""Device, precision and determinism of what torch computes here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from pytest_nlam_compat.errors import CompatError

# `torch.load` makes an empty tensor of the dtype in the file and then points
# it at the bytes that were read: widening that one would read garbage.
_EXACT_DTYPE = frozenset({torch.empty, torch.Tensor.set_})


def choose_device(name: str) -> torch.device:
    """Return the device ``cpu``, ``cuda`` or ``auto`` (CUDA if there is a GPU).

    Raises CompatError if ``cuda`` is not available.
    """
    if name == "cpu":
        return torch.device("cpu")
    # Both are read when CUDA is first used. Deterministic matrix products
    # need the first; a 1 in the second would switch TF32 on against torch.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "auto":
        return torch.device("cpu")
    raise CompatError(
        "CUDA is not available.",
        facts={
            "torch": torch.__version__,
            "built for CUDA": torch.version.cuda or "no",
            "devices": torch.cuda.device_count(),
        },
        remedy="Use --nlam-compat-device=cpu, or run it where torch finds a "
        "GPU.",
    )


class _WidenFloat32(TorchFunctionMode):
    """Replaces each explicit float32 by float64 while a model is built."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _EXACT_DTYPE:
            return func(*args, **kwargs)
        if func is torch.Tensor.float:
            return torch.Tensor.double(*args, **kwargs)
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        args = tuple(
            torch.float64 if argument is torch.float32 else argument
            for argument in args
        )
        return func(*args, **kwargs)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make ``dtype`` the default of new floating tensors, then restore it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def building(dtype: torch.dtype) -> Iterator[None]:
    """Build a model with all of its constants in ``dtype``.

    neural-lam asks for float32 wherever it turns an array of the datastore
    into a tensor. Casting the finished model with ``module.double()`` would
    keep what that rounding lost: 7e-9 to 8e-8 on the outputs. In float64
    each such request is therefore answered in float64, whatever the buffers
    are called in the code under test.
    """
    widen = _WidenFloat32() if dtype is torch.float64 else nullcontext()
    with default_dtype(dtype), widen:
        yield


@contextmanager
def reproducible() -> Iterator[None]:
    """Switch TF32 off and determinism on, run on one thread, then restore.

    TF32 moves a float32 rollout by 1.4e-3, as much as weights that went
    through float16. Where CUDA has no deterministic kernel torch warns and
    goes on: the tolerances still judge the result.
    """
    benchmark = torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads = torch.get_num_threads()
    # Handing out such small tensors costs more than it gains, many times
    # more on a busy machine.
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with _no_tf32():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Compute float32 as float32, by old and new switches of torch."""
    new = [(switch, switch.fp32_precision) for switch in _switches()]
    old: tuple[str, bool] | None = None
    try:
        old = (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
        )
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
    except RuntimeError:
        # Where the new ones were used, torch does not answer by the old.
        for switch, _ in new:
            switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        if old is not None:
            precision, torch.backends.cudnn.allow_tf32 = old
            torch.set_float32_matmul_precision(precision)
        for switch, value in new:
            switch.fp32_precision = value


def _switches() -> list[Any]:
    """Return whatever has a precision of its own, from torch 2.9 on."""
    backends: Any = torch.backends
    places = [backends, backends.cuda.matmul]
    for library in (backends.cudnn, backends.mkldnn):
        parts = ("matmul", "conv", "rnn")
        places += [library, *(getattr(library, p, None) for p in parts)]
    return [place for place in places if hasattr(place, "fp32_precision")]
