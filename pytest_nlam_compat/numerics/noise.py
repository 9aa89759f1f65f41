"""Noise that a model draws, recorded and replayed instead of seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pytest_nlam_compat.errors import CompatError

# Functions of torch that draw from a normal distribution in a forward pass.
_NORMAL = frozenset(
    {torch.normal, torch.randn, torch.randn_like, torch.Tensor.normal_}
)


class _NormalNoise(TorchFunctionMode):
    """Answers each draw from a normal distribution with `_standard`."""

    def _standard(self, shape: torch.Size) -> Tensor:
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _NORMAL:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            like = func(*args, **kwargs)
        noise = self._standard(like.shape).to(like)
        if func in (torch.normal, torch.Tensor.normal_):
            mean, std = _mean_and_std(func, args, kwargs)
            noise = mean + std * noise
        # Into torch's own result, which may be the caller's tensor. What the
        # caller does to it must not reach the noise that was recorded.
        with torch.no_grad():
            return like.copy_(noise)


def _mean_and_std(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the mean and standard deviation that a draw asks for."""
    given = args if func is torch.normal else args[1:]
    mean = given[0] if given else kwargs.get("mean", 0.0)
    std = given[1] if len(given) > 1 else kwargs.get("std", 1.0)
    return mean, std


class RecordNoise(_NormalNoise):
    """Draws few-bit noise and remembers it."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator
        # Standard-normal-like, in the order drawn: float32 multiples of 1/16.
        self.drawn: list[Tensor] = []

    def _standard(self, shape: torch.Size) -> Tensor:
        with torch._C.DisableTorchFunction():
            noise = torch.randn(
                shape, generator=self._generator, dtype=torch.float32
            )
            noise = (noise * 16).round() / 16
        self.drawn.append(noise)
        return noise


class ReplayNoise(_NormalNoise):
    """Returns recorded noise, `RecordNoise.drawn`, draw by draw."""

    def __init__(self, drawn: Iterable[Tensor]) -> None:
        super().__init__()
        self._left = list(drawn)

    def _standard(self, shape: torch.Size) -> Tensor:
        if not self._left:
            raise CompatError(
                "The model draws more noise than its release did.",
                facts={"expected": "no further draw", "found": tuple(shape)},
                remedy="Find the new draw: it changes the distribution of "
                "the outputs.",
            )
        noise = self._left.pop(0)
        if noise.shape != shape:
            raise CompatError(
                "The model draws noise of another shape than its release.",
                facts={"expected": tuple(noise.shape), "found": tuple(shape)},
                remedy="Find the draw that changed: the latent variable has "
                "another shape.",
            )
        return noise

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        if exception[0] is None and self._left:
            raise CompatError(
                "The model draws less noise than its release did.",
                facts={"not drawn": [tuple(n.shape) for n in self._left]},
                remedy="Find the draw that is gone: an output is no longer "
                "sampled.",
            )


class NoiseInForward:
    """Replays recorded noise in each forward pass of a module.

    Every call from outside, of the module or of one within it, begins with
    the first draw; what a single step leaves over is no error. The hooks by
    which this is done stay with the module.
    """

    def __init__(self, module: nn.Module, drawn: Iterable[Tensor]) -> None:
        self._drawn = list(drawn)
        self._depth = 0
        self._mode = ReplayNoise(())
        for each in module.modules():
            each.register_forward_pre_hook(self._enter)
            each.register_forward_hook(self._leave, always_call=True)

    def _enter(self, *_: Any) -> None:
        if self._depth == 0:
            self._mode = ReplayNoise(self._drawn)
            self._mode.__enter__()  # type: ignore[no-untyped-call]
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            TorchFunctionMode.__exit__(  # type: ignore[no-untyped-call]
                self._mode, None, None, None
            )
