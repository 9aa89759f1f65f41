"""Other orders of sums, which are harmless, and lost precision, which is not.

Each is emulated in torch, below neural-lam: it works on any code and on any
device.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

ATEN = torch.ops.aten
SUMS = {
    ATEN.index_add,
    ATEN.index_add_,
    ATEN.scatter_add,
    ATEN.scatter_add_,
    ATEN.scatter_reduce,
    ATEN.scatter_reduce_,
}
PRODUCTS = {ATEN.addmm, ATEN.baddbmm, ATEN.bmm, ATEN.linear, ATEN.mm}
_TF32_DROPS = 13  # of the 23 bits of a float32's mantissa


class OrderOfSums(TorchDispatchMode):
    """Permutes the edges of a graph where their messages are summed."""

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.sums = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in SUMS:
            self.sums += 1
            into, dim, index, source, *rest = args
            edges = self.order(source.shape[dim]).to(source.device)
            along = 0 if index.dim() == 1 else dim
            index = index.index_select(along, edges)
            args = (into, dim, index, source.index_select(dim, edges), *rest)
        return func(*args, **(kwargs or {}))


def reversed_edges(count):
    """Return the edges from the last to the first."""
    return torch.arange(count - 1, -1, -1)


def shuffled_edges(count):
    """Return the edges in random order, each time in the same one."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


ORDERS = {"recorded": torch.arange} | {
    "reversed": reversed_edges,
    "shuffled": shuffled_edges,
}


class Tf32(TorchDispatchMode):
    """Rounds what goes into matrix products as a GPU does with TF32 on."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in PRODUCTS:
            args = tree_map_only(torch.Tensor, to_tf32, args)
        return func(*args, **(kwargs or {}))


def to_tf32(tensor):
    """Round float32 to the 10 bits of mantissa that TF32 has, ties to even."""
    bits = tensor.contiguous().view(torch.int32)
    half = (1 << (_TF32_DROPS - 1)) - 1
    odd = (bits >> _TF32_DROPS) & 1
    kept = (bits + half + odd) & ~((1 << _TF32_DROPS) - 1)
    return kept.view(torch.float32)


@contextmanager
def tf32_products(model):
    """Compute matrix products with TF32."""
    with Tf32():
        yield


def autocast(dtype):
    """Return a context that runs a model under autocast."""

    @contextmanager
    def context(model):
        device = next(model.parameters()).device.type
        with torch.autocast(device, dtype=dtype):
            yield

    return context


@contextmanager
def half_weights(model):
    """Round all weights to float16."""
    with torch.no_grad(), ExitStack() as stack:
        for weight in model.parameters():
            stack.callback(weight.copy_, weight.clone())
            weight.copy_(weight.half())
        yield


def half_layer(pattern, place):
    """Return a context that computes one layer of a name in float16.

    The first or the last one: a place in the list of them.
    """

    @contextmanager
    def context(model):
        layer = [
            module
            for name, module in model.named_modules()
            if re.fullmatch(pattern, name) and isinstance(module, nn.Linear)
        ][place]
        with half_weights(layer), ExitStack() as stack:
            for hook in (
                layer.register_forward_pre_hook(
                    lambda _, inputs: tuple(x.half().float() for x in inputs)
                ),
                layer.register_forward_hook(
                    lambda _, inputs, output: output.half().float()
                ),
            ):
                stack.callback(hook.remove)
            yield

    return context


# Context managers that take the model. Each must make each reference fail.
HARM = {
    "bf16 autocast": autocast(torch.bfloat16),
    "fp16 autocast": autocast(torch.float16),
    "fp16 weights": half_weights,
    "TF32 in matrix products": tf32_products,
    "fp16 in the layer that reads the state": half_layer(
        r".*\bgrid_(\w+_)?embedder\.0", 0
    ),
    "fp16 in the layer that writes the prediction": half_layer(
        r".*\b(output|param)_map\.\d+", -1
    ),
}
