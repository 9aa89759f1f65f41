"""The functions by which we build, load and run models of neural-lam."""

from __future__ import annotations

import copy
import inspect
import warnings
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from packaging.version import Version
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pytest_nlam_compat.adapters.batches import Batch, like, parts_of
from pytest_nlam_compat.adapters.binding import (
    ApiChangedError,
    match,
    signature,
)
from pytest_nlam_compat.adapters.probe import CurrentCode
from pytest_nlam_compat.adapters.roles import find, is_class
from pytest_nlam_compat.adapters.training_step import (
    trainer_attached,
    transfer_hook,
)
from pytest_nlam_compat.errors import CompatError, join_some


@dataclass(frozen=True)
class Predictor:
    """A model that `args` of the checkpoint can't describe.

    GraphEFM is in neural-lam 0.7 but not in its ``MODELS``: this is the name
    of its class in ``neural_lam.models``, with keyword arguments.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


_WITHOUT_HIERARCHY = Version("0.6.0")
_DATA_MODULE = (
    "WeatherDataModule(datastore, ar_steps_train, ar_steps_eval, "
    "num_past_forcing_steps, num_future_forcing_steps, num_workers)"
)


class LeaveMain(BaseException):
    """Ends ``train_model.main``, whose ``logger.catch`` takes exceptions."""


class Adapter(ABC):
    """Builds, loads and runs models of one API era of neural-lam."""

    def __init__(self, current: CurrentCode) -> None:
        self.current = current
        # A batch of the current code, once one was needed.
        self._template: Any = None

    @abstractmethod
    def build(
        self,
        hyper_parameters: Mapping[str, Any],
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """Build the untrained LightningModule that a run describes.

        The hyper-parameters are as `model_arguments.revive` returns them.
        A predictor is passed if ``args`` can't say which model it is.
        """

    @abstractmethod
    def load_native(
        self,
        path: Path,
        config: Any,
        model: str,
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """Load a raw file with the current code's own loader.

        It unpickles without limits: only ever call it on a file whose hash
        is in the registry. `config` is read from YAML, as a user would, and
        `model` a name in ``MODELS``.
        """

    @abstractmethod
    def unroll(
        self,
        module: nn.Module,
        init_states: Tensor,
        forcing: Tensor,
        boundary_states: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Roll out autoregressively.

        Parameters
        ----------
        init_states : Tensor
            (B, 2, N, d), standardized.
        forcing : Tensor
            (B, T, N, f * window), standardized.
        boundary_states : Tensor
            (B, T, N, d), standardized; only boundary nodes are used.

        Returns
        -------
        prediction : Tensor
            (B, T, N, d).
        pred_std : Tensor or None
            (B, T, N, d) if the model predicts it.
        """

    @abstractmethod
    def step_predictor(self, module: nn.Module) -> nn.Module:
        """Return the module whose submodules a trace names."""

    def cannot_run(self, model: str) -> str | None:
        """Return the known defect by which a model (as in ``MODELS``) fails.

        Of releases alone: they stay as they are. A working tree with such a
        defect can still be fixed, so that its failures are failures.
        """
        current = self.current
        if (
            current.released
            and current.release == _WITHOUT_HIERARCHY
            and model.startswith("hi_lam")
        ):
            return (
                "hierarchical models fail in the forward pass of neural-lam "
                "0.6: utils.zero_index_g2m counts one mesh level only (#643, "
                "#680)"
            )
        return None

    def load_strictly(
        self, module: nn.Module, checkpoint: dict[str, Any]
    ) -> None:
        """Load a migrated checkpoint as the current code would, strictly.

        The code's own ``on_load_checkpoint`` may change the checkpoint, which
        has ``state_dict`` and ``optimizer_states``.

        Raises
        ------
        CompatError
            Naming missing and unexpected tensors, and other shapes.
        """
        on_load = getattr(module, "on_load_checkpoint", None)
        if on_load is not None:
            on_load(checkpoint)
        state_dict = checkpoint["state_dict"]
        wanted = module.state_dict()
        facts = {
            "missing": sorted(wanted.keys() - state_dict.keys()),
            "unexpected": sorted(state_dict.keys() - wanted.keys()),
            "shape differs": [
                f"{name} {tuple(state_dict[name].shape)} instead of "
                f"{tuple(wanted[name].shape)}"
                for name in wanted
                if name in state_dict
                and state_dict[name].shape != wanted[name].shape
            ],
        }
        if any(facts.values()):
            raise CompatError(
                "The migrated checkpoint does not fit the current model.",
                facts={
                    label: join_some(names)
                    for label, names in facts.items()
                    if names
                },
                remedy="If the change is intended, add a migration: in "
                "neural-lam's own loader, or one of the repository for this "
                "plugin.",
            )
        module.load_state_dict(state_dict, strict=True)

    def outputs(
        self,
        module: nn.Module,
        init_states: Tensor,
        forcing: Tensor,
        boundary_states: Tensor,
    ) -> dict[str, Tensor]:
        """Return everything that a reference compares, by name.

        These are what `unroll` returns, ``prediction`` and ``pred_std``, and
        for models with a variational encoder ``posterior_mean`` and
        ``posterior_std`` (B, mesh nodes, latent) of the first step.
        """
        module.eval()
        with torch.no_grad():
            prediction, pred_std = self.unroll(
                module, init_states, forcing, boundary_states
            )
            outputs = {"prediction": prediction}
            if pred_std is not None:
                outputs["pred_std"] = pred_std
            predictor = self.step_predictor(module)
            if hasattr(predictor, "embedd_grid_with_target"):
                outputs |= _posterior(
                    predictor,
                    (init_states[:, 1], init_states[:, 0], forcing[:, 0]),
                    boundary_states[:, 0],
                )
        return outputs

    def training_loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of the current code's own training step, a scalar."""
        module.train()
        given = self._in_container(module, batch)
        with trainer_attached(module), warnings.catch_warnings():
            # The trainer does not log, which Lightning points out.
            warnings.filterwarnings("ignore", message=".*self.log.*")
            step: Any = module.training_step
            # Lightning passes the number of the batch to steps that accept it.
            numbered = len(inspect.signature(step).parameters) > 1
            loss = step(given, 0) if numbered else step(given)
        # Lightning accepts both.
        if isinstance(loss, Mapping):
            loss = loss["loss"]
        assert isinstance(loss, Tensor)
        return loss

    def config(self, yaml_file: Path) -> Any:
        """Read a ``NeuralLAMConfig`` from YAML with the current code."""
        from neural_lam.config import NeuralLAMConfig

        return NeuralLAMConfig.from_yaml_file(str(yaml_file))

    def parse_arguments(self, argv: Sequence[str]) -> Namespace:
        """Parse a command line with ``train_model``'s own parser.

        The result is what ``main`` begins to work with.
        """
        from neural_lam import train_model

        parsed: list[Namespace] = []
        parse = ArgumentParser.parse_args

        def remember(parser: Any, *args: Any, **kwargs: Any) -> Any:
            parsed.append(parse(parser, *args, **kwargs))
            return parsed[-1]

        with (
            mock.patch.object(ArgumentParser, "parse_args", remember),
            mock.patch.object(
                train_model, "load_config_and_datastore", side_effect=LeaveMain
            ),
        ):
            try:
                train_model.main(list(argv))
            except LeaveMain:
                return parsed[0]
        raise CompatError(
            "neural_lam.train_model.main went on without loading its "
            "datastore.",
            remedy="The current code reads its arguments in another way: "
            "implement the hook pytest_nlam_compat_adapter.",
        )

    def create_graph(
        self,
        datastore: Any,
        directory: Path,
        *,
        levels: int | None,
        hierarchical: bool,
    ) -> None:
        """Create a graph directory with the current code's own creation."""
        from neural_lam.create_graph import create_graph_from_datastore

        create_graph_from_datastore(
            datastore=datastore,
            output_root_path=str(directory),
            n_max_levels=levels,
            hierarchical=hierarchical,
            create_plot=False,
        )

    def batch(
        self,
        module: nn.Module,
        datastore: Any,
        args: Namespace,
        samples: Sequence[int],
        ar_steps: int,
    ) -> Batch:
        """Make a batch as training would: dataset, collation, transfer hooks.

        Parameters
        ----------
        module : torch.nn.Module
            Whose ``on_after_batch_transfer`` standardizes from 0.7 on, unless
            the data module has that hook.
        args : argparse.Namespace
            ``num_past_forcing_steps`` and ``num_future_forcing_steps``.
        samples : sequence of int
            Indices into the dataset.

        Returns
        -------
        tuple of Tensor
            init_states (B, 2, N, d), target_states (B, T, N, d), forcing
            (B, T, N, f * window), standardized, and target times (B, T).
        """
        return self.take_apart(
            self._transferred(module, datastore, args, samples, ar_steps)
        )

    def take_apart(self, batch: Any) -> Batch:
        """Return the four parts of a batch of the current code."""
        return parts_of(batch)

    def put_together(self, template: Any, parts: Batch) -> Any:
        """Return the parts as a batch that is made like another one."""
        return like(template, parts)

    def _transferred(
        self,
        module: nn.Module,
        datastore: Any,
        args: Namespace,
        samples: Sequence[int],
        ar_steps: int,
    ) -> Any:
        """Make a batch, in the container that the current code has for it."""
        data = self.data_module(datastore, args, ar_steps)
        batch = self.collated(data, samples)
        device = next(module.parameters()).device
        for hook, more in (
            ("on_before_batch_transfer", ()),
            ("transfer_batch_to_device", (device,)),
            ("on_after_batch_transfer", ()),
        ):
            batch = transfer_hook(data, module, hook, batch, *more, 0)
        return batch

    def collated(self, data: Any, samples: Sequence[int]) -> Any:
        """Return a batch as it leaves the loader of a data module."""
        loader: DataLoader[Any] = data.train_dataloader()
        return loader.collate_fn([loader.dataset[index] for index in samples])

    def _in_container(self, module: nn.Module, batch: Batch) -> Any:
        """Return a batch as a training step of the current code receives it.

        Plain tuples of four, as in 0.4 to 0.7, stay as they are.
        """
        from neural_lam.datastore.base import BaseDatastore

        held = [
            v for v in vars(module).values() if isinstance(v, BaseDatastore)
        ]
        if self._template is None and held:
            window = Namespace(
                num_past_forcing_steps=1, num_future_forcing_steps=1
            )
            # Of a copy: 0.7 keeps the size of the first window it meets.
            self._template = self._transferred(
                copy.deepcopy(module), held[0], window, [0], 1
            )
        plain = type(self._template) in (list, tuple, type(None))
        if plain and len(self._template or batch) == len(batch):
            return batch
        return self.put_together(self._template, batch)

    def data_module(
        self, datastore: Any, args: Namespace, ar_steps: int
    ) -> Any:
        """Return ``WeatherDataModule`` as ``train_model`` makes it, set up."""
        from pytorch_lightning import LightningDataModule

        cls = find(
            "WeatherDataModule", partial(is_class, base=LightningDataModule)
        )
        values = {
            **vars(args),
            "ar_steps_train": ar_steps,
            "ar_steps_eval": ar_steps,
            # Up to 0.6 there has to be one. It is not started here.
            "num_workers": 1,
        }
        found = match(cls, {"datastore": datastore}, values) if cls else None
        if found is None or found[1]:
            raise ApiChangedError(
                "neural_lam has no LightningDataModule that can be made of "
                "what is known",
                expected=_DATA_MODULE,
                found=signature(cls) if cls else "none",
                adapter="def data_module(self, datastore, args, ar_steps):\n"
                "    return ...  # the data module, set up to fit",
            )
        data = cls(**found[0])
        data.setup("fit")
        return data


def _posterior(
    predictor: Any, inputs: tuple[Tensor, Tensor, Tensor], target: Tensor
) -> dict[str, Tensor]:
    """Run the variational encoder, which no forward pass calls."""
    used = ("embedd_grid_and_graph", "encoder")
    if not all(hasattr(predictor, name) for name in used):
        raise ApiChangedError(
            f"the encoder of {type(predictor).__name__} can't be run",
            expected=f"its attributes {' and '.join(used)}",
            found=", ".join(n for n in used if hasattr(predictor, n)) or "none",
            adapter="def outputs(self, module, init, forcing, boundary):\n"
            "    return ...  # posterior_mean and posterior_std, too",
        )
    _, graph_emb = predictor.embedd_grid_and_graph(*inputs)
    grid_emb = predictor.embedd_grid_with_target(*inputs, target)
    distribution = predictor.encoder(grid_emb, graph_emb=graph_emb)
    return {
        "posterior_mean": distribution.mean,
        "posterior_std": distribution.stddev,
    }
