"""A pinned reference whose model is too large to be held several times."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import nn

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.migrations import (
    Migration,
    SavedRun,
    saved_run_from_checkpoint,
)
from pytest_nlam_compat.migrations.reading import graph_format
from pytest_nlam_compat.migrations.saved_run import Statistics, loaded
from pytest_nlam_compat.references.pins import PinnedReference
from pytest_nlam_compat.references.reference import (
    Reference,
    kind_of,
    read_graph,
)
from pytest_nlam_compat.under_test.code_under_test import code_under_test
from pytest_nlam_compat.under_test.reference_under_test import (
    ReferenceUnderTest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    _Make = Callable[[torch.dtype], nn.Module]

# Of weights and moments in the file; in float64, of all that is held of a
# small model, a few times as much.
LARGE_BYTES = 200_000_000


class LargeReferenceUnderTest(ReferenceUnderTest):
    """Holds one model at a time, and reads its tensors when it needs them."""

    @cached_property
    def checkpoint(self) -> Path:
        """The file without its optimizer, which is twice the weights.

        It is of no account without a training step, and neural-lam's own
        loader reads all of a file, or even reads it twice.
        """
        whole = self.reference.write(self._folder / "recorded")
        path = whole.with_name("lean.ckpt")
        with read_checkpoint(whole) as opened:
            opened.data["optimizer_states"] = []
            write_checkpoint(opened.data, path)
        return path

    @cached_property
    def raw(self) -> SavedRun:
        """The saved run, with tensors that are still in the file."""
        checkpoint = read_checkpoint(self.checkpoint)
        weakref.finalize(self, checkpoint.close)
        return saved_run_from_checkpoint(checkpoint, lazy=True)

    @cached_property
    def float64(self) -> SavedRun:
        """The saved run with its graph; folds load in float64."""
        folder = self.reference.graph_folder(self.checkpoint.parent)
        graph = SavedRun({}, {}, graph=dict(read_graph(folder))).double().graph
        return replace(
            self.raw,
            graph=graph,
            graph_format=graph_format(folder),
            grid_shape=self.reference.dataset.grid_shape,
            statistics=Statistics.of_dataset(self.reference.dataset),
        )

    def migrated_checkpoint(self) -> dict[str, Any]:
        """Return the migrated run, with its tensors loaded."""
        checkpoint = super().migrated_checkpoint()
        checkpoint["state_dict"] = {
            name: loaded(tensor).detach()
            for name, tensor in checkpoint["state_dict"].items()
        }
        return checkpoint

    def migrated_model(self, dtype: torch.dtype) -> nn.Module:
        """Build the current model, and load the migrated run strictly.

        Tensors are cast where they are copied into the model.
        """
        return self._only(("migrated", dtype), self._migrated)

    def _migrated(self, dtype: torch.dtype) -> nn.Module:
        # A strict load replaces them all.
        with _undrawn():
            module = self.built(dtype)
        with code_under_test("Loading the migrated run"):
            self.adapter.load_strictly(module, self.migrated_checkpoint())
        return module.to(self.device)

    def native_model(self, dtype: torch.dtype) -> nn.Module:
        """Load the raw file with the current code's own loader."""
        return self._only(
            ("native", dtype),
            lambda _: self.load_natively(self.checkpoint, dtype, "native"),
        )

    def loads_the_same(self) -> bool:
        """Whether the own loader makes the model of the migrated route.

        In float32: the same classes, tensors and plain attributes, so that
        there is no need to roll it out. The model is held already.
        """
        expected = self._only(("migrated", torch.float32), self._migrated)
        with _undrawn():
            found = self.load_natively(self.checkpoint, torch.float32, "native")
        pairs = zip_longest(expected.named_modules(), found.named_modules())
        return all(
            one is not None
            and other is not None
            and one[0] == other[0]
            and _same(one[1], other[1])
            for one, other in pairs
        )

    def release_models(self) -> None:
        """Free the model that is held."""
        self._models.clear()
        gc.collect()

    def _only(self, key: tuple[str, torch.dtype], make: _Make) -> nn.Module:
        if key not in self._models:
            self.release_models()
            self._models[key] = make(key[1])
        return self._models[key]


def _undrawn() -> Any:
    """Don't draw the weights of new layers: it takes as long as loading."""
    return mock.patch.object(nn.Linear, "reset_parameters", return_value=None)


def _same(one: nn.Module, other: nn.Module) -> bool:
    kinds = [kind_of(type(each).__qualname__) for each in (one, other)]
    if kinds[0] != kinds[1] or _plain(one) != _plain(other):
        return False
    for tensors in ("_parameters", "_buffers"):
        first, second = getattr(one, tensors), getattr(other, tensors)
        if first.keys() != second.keys():
            return False
        for name, tensor in first.items():
            known = second[name]
            if (tensor is None) is not (known is None):
                return False
            if tensor is not None and not torch.equal(tensor, known):
                return False
    return True


def _plain(module: nn.Module) -> dict[str, object]:
    kinds = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, kinds)
        and name != "training"
        and not name.startswith("_")
    }


def in_front_of(
    adapter: Adapter,
    reference: Reference,
    folder: Path,
    device: torch.device,
    migrations: Sequence[Migration] = (),
) -> ReferenceUnderTest:
    """Return a reference in front of the current code, however large it is."""
    is_large = (
        isinstance(reference, PinnedReference)
        and reference.weights.stat().st_size > LARGE_BYTES
    )
    cls = LargeReferenceUnderTest if is_large else ReferenceUnderTest
    return cls(reference, adapter, folder, device, migrations)
