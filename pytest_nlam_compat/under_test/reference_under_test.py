"""A reference in front of the current code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.adapters.base import Adapter, Predictor
from pytest_nlam_compat.adapters.datastore import StoredDatastore
from pytest_nlam_compat.adapters.hyper_parameters import (
    forcing_window,
    revive,
)
from pytest_nlam_compat.adapters.preparing import Batch
from pytest_nlam_compat.adapters.upstream import upstream_registry
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.migrations import (
    HISTORY,
    Migration,
    Registry,
    SavedRun,
    apply,
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.precision import (
    building,
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.references.reference import (
    Reference,
    graph_format,
    read_graph,
)
from pytest_nlam_compat.under_test.code_under_test import code_under_test
from pytest_nlam_compat.under_test.dataset_statistics import statistics
from pytest_nlam_compat.under_test.graph_files import put_graph
from pytest_nlam_compat.under_test.upstream_stamp import upstream_stamp

_NUMPY = {torch.float32: "f4", torch.float64: "f8"}


class ReferenceUnderTest:
    """One reference, and the models that the current code makes of it.

    Parameters
    ----------
    reference : Reference
    adapter : Adapter
    folder : pathlib.Path
        Empty folder for its files.
    device : torch.device
        Where models are run.
    migrations : sequence of Migration
        Steps of the repository under test, after neural-lam's history.
    history : sequence of Migration
        neural-lam's.
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
        self.registry = Registry(
            adapter.current.release, tuple(migrations), tuple(history)
        )
        self._folder = folder
        self._models: dict[tuple[str, torch.dtype], nn.Module] = {}

    def with_steps(
        self, steps: Sequence[Migration], folder: Path
    ) -> ReferenceUnderTest:
        """Return the same reference with more migrations after those of now.

        What was read and migrated so far is shared, so that trying a
        migration costs no more than applying it.

        Parameters
        ----------
        steps : sequence of Migration
            Those that concern the recorded run are applied.
        folder : pathlib.Path
            Empty folder for its files.

        Returns
        -------
        ReferenceUnderTest

        Raises
        ------
        CompatError
            An operation refuses the run.
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
        """The model, where the checkpoint does not say it."""
        stored = self.reference.description["predictor"]
        return Predictor(**stored) if stored else None

    @cached_property
    def raw(self) -> SavedRun:
        """What the file alone holds, as its release wrote it."""
        with read_checkpoint(self.checkpoint) as checkpoint:
            return saved_run_from_checkpoint(checkpoint)

    @cached_property
    def float64(self) -> SavedRun:
        """The saved run as recorded, in float64, so that folds are exact."""
        graph = self.reference.graph_folder(self.checkpoint.parent)
        run = replace(
            self.raw,
            graph=dict(read_graph(graph) | self.reference.scaled_edge_features),
            graph_format=graph_format(graph),
            grid_shape=self.reference.dataset.grid_shape,
            statistics=statistics(self.reference.dataset),
        )
        return run.double()

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

        Checkpoints before v0.3.0 have no configuration; as for a user, it
        comes from YAML then.
        """
        revived = revive(self.migrated.hyper_parameters)
        if revived.get("config") is None:
            revived["config"] = self._config()
        return revived

    def _config(self) -> Any:
        return self.adapter.config(self.checkpoint.with_name("config.yaml"))

    def native_model(self, dtype: torch.dtype) -> nn.Module:
        """Load the raw file with the current code's own loader.

        Parameters
        ----------
        dtype : torch.dtype

        Returns
        -------
        torch.nn.Module

        Raises
        ------
        CompatError
            With the cause, where the current code can't.
        """
        key = ("native", dtype)
        if key not in self._models:
            root = self._folder / "native" / _NUMPY[dtype]
            self._put_graph(self.float64, dtype, root)
            with code_under_test("Loading it by the current code's own loader"):
                with building(dtype):
                    module = self.adapter.load_native(
                        self.checkpoint,
                        self._config(),
                        self.reference.description["model"],
                        self._datastore(dtype, root),
                        self.predictor,
                    )
            self._models[key] = module.to(self.device, dtype)
        return self._models[key]

    def migrated_model(self, dtype: torch.dtype) -> nn.Module:
        """Build the current model and load the migrated run strictly.

        Parameters
        ----------
        dtype : torch.dtype

        Returns
        -------
        torch.nn.Module

        Raises
        ------
        CompatError
            If a migration refuses, or the run does not fit the model.
        """
        key = ("migrated", dtype)
        if key not in self._models:
            checkpoint = to_checkpoint_dict(self.migrated)
            checkpoint |= upstream_stamp(self.float64, upstream_registry())
            # Copies: a loader may change a tensor in place.
            checkpoint["state_dict"] = {
                name: tensor.to(dtype, copy=True)
                if tensor.is_floating_point()
                else tensor.clone()
                for name, tensor in checkpoint["state_dict"].items()
            }
            module = self._built(dtype)
            with code_under_test("Loading the migrated run"):
                self.adapter.load_strictly(module, checkpoint)
            self._models[key] = module.to(self.device)
        return self._models[key]

    def _built(self, dtype: torch.dtype) -> nn.Module:
        with code_under_test("Building the model of the current code"):
            with building(dtype):
                module = self.adapter.build(
                    self.hyper_parameters,
                    self.datastore(dtype),
                    self.predictor,
                )
        return module.to(dtype)

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes that a file of the current code would have."""
        module = self._models.get(("migrated", torch.float64))
        if module is None:
            module = self._built(torch.float64)
        return {n: tuple(t.shape) for n, t in module.state_dict().items()}

    def datastore(self, dtype: torch.dtype) -> StoredDatastore:
        """Return the dataset, with the migrated graph beside it."""
        root = self._folder / "migrated" / _NUMPY[dtype]
        self._put_graph(self.migrated, dtype, root)
        return self._datastore(dtype, root)

    def _datastore(self, dtype: torch.dtype, root: Path) -> StoredDatastore:
        return StoredDatastore(self.reference.dataset, root, _NUMPY[dtype])

    def _put_graph(self, run: SavedRun, dtype: torch.dtype, root: Path) -> None:
        put_graph(run, dtype, root / "graph" / self.reference.graph_name)

    def _batch(self, dtype: torch.dtype) -> Batch:
        recorded = self.reference.batch(dtype)
        init, target, forcing, times = (t.to(self.device) for t in recorded)
        return init, target, forcing, times

    def outputs(
        self, module: nn.Module, dtype: torch.dtype
    ) -> Mapping[str, Tensor]:
        """Roll out on the recorded batch, with the recorded noise.

        Parameters
        ----------
        module : torch.nn.Module
            From `native` or `migrated`.
        dtype : torch.dtype

        Returns
        -------
        mapping of str to Tensor
            By name, as in the golden.
        """
        init, target, forcing, _ = self._batch(dtype)
        noise = ReplayNoise(self.reference.noise("rollout"))
        with code_under_test("Rolling out with the current code"):
            with reproducible(), default_dtype(dtype), noise:
                return self.adapter.outputs(module, init, forcing, target)

    def loss(self) -> Tensor:
        """Training loss of the migrated model on the recorded batch.

        Returns
        -------
        Tensor
            (1,) float64.
        """
        module = self.migrated_model(torch.float64)
        batch = self._batch(torch.float64)
        noise = ReplayNoise(self.reference.noise("loss"))
        with code_under_test("The training step of the current code"):
            with reproducible(), default_dtype(torch.float64), noise:
                loss = self.adapter.training_loss(module, batch)
        return loss.detach().reshape(1)

    def batch(self) -> Mapping[str, Tensor]:
        """Make the batch anew from the raw series.

        Returns
        -------
        mapping of str to Tensor
            ``init_states``, ``target_states``, ``forcing``,
            ``target_times``, as the current code's dataset and transfer
            hooks make them in float32.
        """
        module = self.migrated_model(torch.float32)
        with code_under_test("Making a batch with the current code"):
            batch = self.adapter.batch(
                module,
                self.datastore(torch.float32),
                forcing_window(self.hyper_parameters, self.predictor),
                self.reference.sample_indices,
                self.reference.description["ar_steps"],
            )
        names = ("init_states", "target_states", "forcing", "target_times")
        return dict(zip(names, batch, strict=True))
