"""The few functions by which we build, load and run models."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.adapters.attaching import trainer_attached
from pytest_nlam_compat.adapters.preparing import Batch, Preparing
from pytest_nlam_compat.errors import CompatError


@dataclass(frozen=True)
class Predictor:
    """A model that `args` of the checkpoint can't describe.

    GraphEFM is in neural-lam 0.7 but not in its ``MODELS``.

    Attributes
    ----------
    name : str
        Class in ``neural_lam.models``.
    arguments : mapping of str to Any
        Keyword arguments besides the datastore.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Adapter(Preparing, ABC):
    """Builds, loads and runs models of one API era of neural-lam.

    Parameters
    ----------
    current : CurrentCode
    """

    @abstractmethod
    def build(
        self,
        hyper_parameters: Mapping[str, Any],
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """Build the untrained model that a run describes.

        Parameters
        ----------
        hyper_parameters : mapping of str to Any
            As `hyper_parameters.revive` gives them.
        datastore : StoredDatastore
        predictor : Predictor, optional
            Where ``args`` can't say which model it is.

        Returns
        -------
        torch.nn.Module
            The LightningModule of the current code.
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
        is in the registry.

        Parameters
        ----------
        path : pathlib.Path
        config : NeuralLAMConfig
            Read from YAML, as a user would.
        model : str
            Name in ``MODELS``.
        datastore : StoredDatastore
        predictor : Predictor, optional
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
        module : torch.nn.Module
        init_states : Tensor
            (B, 2, N, d), standardised.
        forcing : Tensor
            (B, T, N, f * window), standardised.
        boundary_states : Tensor
            (B, T, N, d), standardised; only boundary nodes are used.

        Returns
        -------
        prediction : Tensor
            (B, T, N, d).
        pred_std : Tensor or None
            (B, T, N, d) where the model predicts it.
        """

    @abstractmethod
    def step_predictor(self, module: nn.Module) -> nn.Module:
        """Return the module whose submodules a trace names."""

    def cannot_run(self, model: str) -> str | None:
        """Why the current code can't run a model that it can load.

        Parameters
        ----------
        model : str
            ``graph_lam``, ``hi_lam``, ``hi_lam_parallel``.

        Returns
        -------
        str or None
            A known defect of a release, with its issue upstream.
        """
        return None

    def load_strictly(
        self, module: nn.Module, checkpoint: dict[str, Any]
    ) -> None:
        """Load a migrated checkpoint as the current code would, strictly.

        Parameters
        ----------
        module : torch.nn.Module
            As built.
        checkpoint : dict
            With ``state_dict`` and ``optimizer_states``; the current code's
            ``on_load_checkpoint`` may change it.

        Raises
        ------
        CompatError
            Naming missing, unexpected and mis-shaped tensors.
        """
        on_load = getattr(module, "on_load_checkpoint", None)
        if on_load is not None:
            on_load(checkpoint)
        state_dict = checkpoint["state_dict"]
        wanted = module.state_dict()
        facts = {
            "missing": sorted(wanted.keys() - state_dict.keys()),
            "unexpected": sorted(state_dict.keys() - wanted.keys()),
            "of another shape": [
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
                    label: _some(names)
                    for label, names in facts.items()
                    if names
                },
                remedy="If the change is wanted, add a migration: a step in "
                "neural-lam's own loader, or one that is registered with "
                "this plugin.",
            )
        module.load_state_dict(state_dict, strict=True)

    def outputs(
        self,
        module: nn.Module,
        init_states: Tensor,
        forcing: Tensor,
        boundary_states: Tensor,
    ) -> dict[str, Tensor]:
        """Everything that a reference compares, by name.

        Parameters
        ----------
        module : torch.nn.Module
        init_states, forcing, boundary_states : Tensor
            As for `unroll`.

        Returns
        -------
        dict of str to Tensor
            ``prediction``, ``pred_std`` where predicted, and for models with
            a variational encoder ``posterior_mean`` and ``posterior_std``
            (B, mesh nodes, latent) of the first step.
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
        """Loss of the current code's own training step, a scalar.

        Parameters
        ----------
        module : torch.nn.Module
        batch : tuple of Tensor
            Standardised.
        """
        module.train()
        with trainer_attached(module), warnings.catch_warnings():
            # The trainer does not log, which Lightning points out.
            warnings.filterwarnings("ignore", message=".*self.log.*")
            step: Any = module.training_step
            # Lightning gives the number of the batch to whoever takes it.
            numbered = len(inspect.signature(step).parameters) > 1
            loss = step(batch, 0) if numbered else step(batch)
        # Both are a loss to Lightning.
        if isinstance(loss, Mapping):
            loss = loss["loss"]
        assert isinstance(loss, Tensor)
        return loss


def _posterior(
    predictor: Any, inputs: tuple[Tensor, Tensor, Tensor], target: Tensor
) -> dict[str, Tensor]:
    """Distribution of the variational encoder, which no forward pass calls."""
    _, graph_emb = predictor.embedd_grid_and_graph(*inputs)
    grid_emb = predictor.embedd_grid_with_target(*inputs, target)
    distribution = predictor.encoder(grid_emb, graph_emb=graph_emb)
    return {
        "posterior_mean": distribution.mean,
        "posterior_std": distribution.stddev,
    }


def _some(names: list[str], limit: int = 8) -> str:
    """Join names for a message, the first few and how many more."""
    shown = ", ".join(names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
