"""A reference in front of the current code."""

from __future__ import annotations

import copy
import gc
import weakref
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from torch import Tensor, nn

from pytest_nlam_compat.adapters.adapter import Adapter, Predictor
from pytest_nlam_compat.adapters.batches import Batch
from pytest_nlam_compat.adapters.datastore import StoredDatastore
from pytest_nlam_compat.adapters.model_arguments import (
    config_from_data,
    forcing_window,
    revive,
)
from pytest_nlam_compat.adapters.probe import upstream_registry
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    HISTORY,
    Migration,
    Registry,
    SavedRun,
    apply,
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.migrations.reading import graph_format
from pytest_nlam_compat.migrations.saved_run import Statistics, loaded
from pytest_nlam_compat.migrations.stamps import upstream_stamp
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.rounding import rounding_effect
from pytest_nlam_compat.numerics.torch_settings import (
    building,
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.references.reference import (
    Reference,
    read_graph,
    write_graph,
)
from pytest_nlam_compat.under_test.code_under_test import (
    callers,
    code_under_test,
)
from pytest_nlam_compat.under_test.source_lines import (
    BuildLines,
    recorded_build,
)

_NUMPY = {torch.float32: "f4", torch.float64: "f8"}


class ReferenceUnderTest:
    """One reference, and the models that the current code makes from it.

    What the current code raises, and a migration that refuses, is a
    CompatError with its cause.

    Parameters
    ----------
    reference : Reference
    adapter : Adapter
    folder : pathlib.Path
        Empty folder for its files.
    device : torch.device
        Where models are run.
    migrations : sequence of Migration
        Those of the repository under test, applied after the history.
    history : sequence of Migration
        Those of neural-lam.
    """

    def __init__(
        self,
        reference: Reference,
        adapter: Adapter,
        folder: Path,
        device: torch.device,
        migrations: Sequence[Migration] = (),
        history: Sequence[Migration] = HISTORY,
    ) -> None:
        self.reference = reference
        self.adapter = adapter
        self.device = device
        # Of a newer release, the current code is taken to have its layout.
        release = max(adapter.current.release, reference.release)
        self.registry = Registry(release, tuple(migrations), tuple(history))
        self._folder = folder
        self._models: dict[tuple[str, torch.dtype], nn.Module] = {}
        # Then one model is held at a time, and tensors are read from the file
        # when they are needed.
        self._is_large = not reference.has("loss")

    def in_full(self) -> ReferenceUnderTest:
        """Return the same reference with all that is held of a small one.

        As a diagnosis needs it, whatever it takes.
        """
        if not self._is_large:
            return self
        self._models.clear()
        full = ReferenceUnderTest(
            self.reference,
            self.adapter,
            self._folder / "full",
            self.device,
            self.registry.own,
            self.registry.history,
        )
        full._is_large = False
        return full

    def with_steps(
        self, steps: Sequence[Migration], folder: Path
    ) -> ReferenceUnderTest:
        """Return the same reference with more migrations.

        They come after the present ones, if they concern the recorded run. What
        was read and migrated so far is shared: trying a migration costs no more
        than applying it.
        """
        further = ReferenceUnderTest(
            self.reference,
            self.adapter,
            folder,
            self.device,
            (*self.registry.own, *steps),
            self.registry.history,
        )
        release, layout = self.reference.release, further.registry.layout
        added = [
            step
            for step in steps
            if step.applies(release, layout, self.float64)
        ]
        further.checkpoint = self.checkpoint
        further.raw, further.float64 = self.raw, self.float64
        further.steps = [*self.steps, *added]
        further.migrated = apply(self.migrated, added)
        return further

    @cached_property
    def checkpoint(self) -> Path:
        """The raw file, exactly as the release wrote it."""
        return self.reference.write(self._folder / "recorded")

    @cached_property
    def predictor(self) -> Predictor | None:
        """The model, if the checkpoint does not say which."""
        stored = self.reference.description["predictor"]
        return Predictor(**stored) if stored else None

    @cached_property
    def raw(self) -> SavedRun:
        """The saved run of the file alone, as its release wrote it."""
        checkpoint = read_checkpoint(self.checkpoint)
        if self._is_large:
            weakref.finalize(self, checkpoint.archive.close)
            return saved_run_from_checkpoint(checkpoint.data, lazy=True)
        with checkpoint:
            return saved_run_from_checkpoint(checkpoint.data)

    @cached_property
    def float64(self) -> SavedRun:
        """The saved run with its graph, in float64 so that folds are exact."""
        folder = self.reference.graph_folder(self.checkpoint.parent)
        graph = read_graph(folder) | self.reference.scaled_edge_features
        # Tensors that are still in the file are float64 where folds load them.
        run = self.raw if self._is_large else self.raw.double()
        return replace(
            run,
            graph=SavedRun({}, {}, graph=graph).double().graph,
            graph_format=graph_format(folder),
            grid_shape=self.reference.dataset.grid_shape,
            statistics=Statistics.of_dataset(self.reference.dataset),
            model_arguments=getattr(self.predictor, "arguments", None),
        )

    @cached_property
    def steps(self) -> list[Migration]:
        """Migrations from the release that wrote it to the current code."""
        return self.registry.plan(self.reference.release, self.float64)

    @cached_property
    def migrated(self) -> SavedRun:
        """The saved run in the layout of the current code, in float64."""
        return apply(self.float64, self.steps)

    @cached_property
    def hyper_parameters(self) -> dict[str, Any]:
        """Hyper-parameters as objects of the current code.

        Checkpoints before v0.3.0 have no configuration: then it is read from
        YAML, as for a user.
        """
        revived = revive(self.migrated.hyper_parameters)
        if revived.get("config") is None:
            revived["config"] = self._config()
        return revived

    def _config(self) -> Any:
        """Read the configuration as a user has it today.

        If the file has other keys today, it is what is written there anew.
        """
        file = self.checkpoint.with_name("config.yaml")
        try:
            with code_under_test("Reading the configuration"):
                return self.adapter.config(file)
        except CompatError:
            data = yaml.safe_load(file.read_text(encoding="utf-8"))
            return config_from_data(data)

    def native_model(self, dtype: torch.dtype) -> nn.Module:
        """Return the model that the current code's own loader makes of it."""
        return self._held(
            ("native", dtype),
            lambda: self.load_natively(self.checkpoint, dtype, "native"),
        )

    def _held(
        self, key: tuple[str, torch.dtype], make: Callable[[], nn.Module]
    ) -> nn.Module:
        if key not in self._models:
            if self._is_large:
                self._models.clear()
                gc.collect()
            self._models[key] = make()
        return self._models[key]

    def load_natively(
        self, path: Path, dtype: torch.dtype, route: str
    ) -> nn.Module:
        """Load a file with the current code's own loader.

        It is the raw file, or one that was written here; `route` says whose
        graph it comes with, as for `datastore`.
        """
        datastore = self.datastore(dtype, route)
        with code_under_test("Loading it with the current code's loader"):
            # For each file Lightning asks for all callers, with the lines of
            # their source: 60 ms, which is longer than reading the file.
            with building(dtype), mock.patch("inspect.stack", callers):
                module = self.adapter.load_native(
                    path,
                    self._config(),
                    self.reference.description["model"],
                    datastore,
                    self.predictor,
                )
        return module.to(self.device, dtype)

    def write_migrated(self, path: Path) -> None:
        """Write the migrated run as a file for neural-lam's own loader."""
        import pytorch_lightning

        checkpoint = self.migrated_checkpoint() | {
            "hyper_parameters": self.hyper_parameters,
            # Without it Lightning would convert the file from its oldest.
            "pytorch-lightning_version": pytorch_lightning.__version__,
        }
        torch.save(checkpoint, path)

    def migrated_model(self, dtype: torch.dtype) -> nn.Module:
        """Return the current model with the migrated run, on the device."""
        return self._held(
            ("migrated", dtype),
            lambda: self.new_migrated_model(dtype).to(self.device),
        )

    def new_migrated_model(self, dtype: torch.dtype) -> nn.Module:
        """Build the current model and load the migrated run strictly.

        Whoever changes a model takes a new one, on the CPU. A deep copy is
        none: a function that the model keeps, as neural-lam's clamping does,
        goes on referring to the tensors of the model it was made in.
        """
        checkpoint = self.migrated_checkpoint()
        # Copies: a loader may change a tensor in place.
        checkpoint["state_dict"] = {
            name: tensor.to(dtype, copy=True)
            if tensor.is_floating_point()
            else tensor.clone()
            for name, tensor in checkpoint["state_dict"].items()
        }
        module = self.built(dtype)
        with code_under_test("Loading the migrated run"):
            self.adapter.load_strictly(module, checkpoint)
        return module

    def migrated_checkpoint(self) -> dict[str, Any]:
        """Return the migrated run as the dictionary of a checkpoint."""
        checkpoint = to_checkpoint_dict(self.migrated)
        checkpoint["state_dict"] = {
            name: loaded(tensor).detach()
            for name, tensor in checkpoint["state_dict"].items()
        }
        own = upstream_registry()
        stamp = upstream_stamp(self.float64.stamps, own.newest if own else None)
        return checkpoint | stamp

    def built(self, dtype: torch.dtype) -> nn.Module:
        """Build a new model of the current code, without weights of a run."""
        with code_under_test("Building the model of the current code"):
            with building(dtype):
                # Of its own: what saves a model may change them.
                module = self.adapter.build(
                    copy.deepcopy(self.hyper_parameters),
                    self.datastore(dtype),
                    self.predictor,
                )
        return module.to(dtype)

    @cached_property
    def build_lines(self) -> BuildLines:
        """Where the current code builds the model and names its modules."""
        with recorded_build(self.adapter.current.path.name) as lines:
            lines.model = self.built(torch.float64)
        return lines

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes that a file of the current code would have."""
        module = self._models.get(("migrated", torch.float64))
        if module is None:
            module = self.built(torch.float64)
        return {n: tuple(t.shape) for n, t in module.state_dict().items()}

    def datastore(
        self, dtype: torch.dtype, route: str = "migrated"
    ) -> StoredDatastore:
        """Return the dataset with the graph of a route beside it."""
        root = self._folder / route / _NUMPY[dtype]
        folder = root / "graph" / self.reference.graph_name
        if not folder.exists():

            def cast(tensor: Tensor) -> Tensor:
                return (
                    tensor.to(dtype) if tensor.is_floating_point() else tensor
                )

            run = self.migrated if route == "migrated" else self.float64
            graph = replace(run, state_dict={}, optimizers=[]).map_tensors(cast)
            write_graph(dict(graph.graph), run.graph_format, folder)
        return StoredDatastore(self.reference.dataset, root, _NUMPY[dtype])

    def recorded_batch(self, dtype: torch.dtype) -> Batch:
        """Return the recorded batch, standardized, on the device."""
        recorded = self.reference.batch(dtype)
        init, target, forcing, times = (t.to(self.device) for t in recorded)
        return init, target, forcing, times

    def outputs(
        self,
        module: nn.Module,
        dtype: torch.dtype,
        batch: Sequence[Tensor] | None = None,
    ) -> Mapping[str, Tensor]:
        """Roll out a model of precision `dtype`, with the recorded noise.

        On a batch, by default the recorded one. Returns its outputs by name, as
        in the golden.
        """
        init, target, forcing, _ = batch or self.recorded_batch(dtype)
        noise = ReplayNoise(self.reference.noise("rollout"))
        with code_under_test("Rolling out with the current code"):
            with reproducible(), default_dtype(dtype), noise:
                return self.adapter.outputs(module, init, forcing, target)

    @cached_property
    def rounding(self) -> Mapping[str, Tensor]:
        """How far rounding to float32 moves the migrated model's outputs.

        By name, (d,), see `rounding_effect`.
        """
        double = torch.float64
        return rounding_effect(
            self.migrated_model(double),
            self.recorded_batch(double),
            lambda module, batch: self.outputs(module, double, batch),
        )

    def loss(
        self, dtype: torch.dtype, module: nn.Module | None = None
    ) -> Tensor:
        """Return the training loss on the recorded batch.

        (1,) float64, of the migrated model or of `module`, in `dtype`.
        """
        module = module or self.migrated_model(dtype)
        batch = self.recorded_batch(dtype)
        noise = ReplayNoise(self.reference.noise("loss"))
        with code_under_test("The training step of the current code"):
            with reproducible(), default_dtype(dtype), noise:
                loss = self.adapter.training_loss(module, batch)
        return loss.detach().double().reshape(1)

    @cached_property
    def loaded_batch(self) -> Any:
        """A batch of the current code's data module, before it is moved."""
        return self.adapter.collated(self.data, self.reference.sample_indices)

    @cached_property
    def data(self) -> Any:
        """The current code's data module."""
        return self.adapter.data_module(
            self.datastore(torch.float32),
            self.window,
            self.reference.description["ar_steps"],
        )

    @cached_property
    def window(self) -> Namespace:
        """The numbers of past and future forcing steps."""
        return forcing_window(self.hyper_parameters, self.predictor)

    def sample_count(self) -> int:
        """Return how many training samples the current code finds."""
        with code_under_test("Counting samples with the current code"):
            return len(self.data.train_dataloader().dataset)

    def batch(self) -> Mapping[str, Tensor]:
        """Make the batch from the raw series, as training does.

        ``init_states``, ``target_states``, ``forcing`` and ``target_times``, in
        float32.
        """
        module = self.migrated_model(torch.float32)
        with code_under_test("Making a batch with the current code"):
            batch = self.adapter.batch(
                module,
                self.datastore(torch.float32),
                self.window,
                self.reference.sample_indices,
                self.reference.description["ar_steps"],
            )
        names = ("init_states", "target_states", "forcing", "target_times")
        return dict(zip(names, batch, strict=True))
