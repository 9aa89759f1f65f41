"""neural-lam 0.4 to 0.6: one LightningModule, ``ARModel(args, ...)``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pytest_nlam_compat.adapters.adapter import Adapter, Predictor


class ARModelAdapter(Adapter):
    """Builds and runs subclasses of ``ARModel``."""

    def build(
        self,
        hyper_parameters: Mapping[str, Any],
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """See `Adapter.build`."""
        from neural_lam import train_model

        args = hyper_parameters["args"]
        model: nn.Module = train_model.MODELS[args.model](
            args, config=hyper_parameters["config"], datastore=datastore
        )
        return model

    def load_native(
        self,
        path: Path,
        config: Any,
        model: str,
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """See `Adapter.load_native`."""
        from neural_lam import train_model

        cls = train_model.MODELS[model]
        return load_with_lightning(cls, path, datastore=datastore)

    def unroll(
        self,
        module: nn.Module,
        init_states: Tensor,
        forcing: Tensor,
        boundary_states: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Adapter.unroll`."""
        prediction, pred_std = module.unroll_prediction(  # type: ignore[operator]
            init_states, forcing, boundary_states
        )
        # Without output_std this is the constant std of the loss, (d,).
        return prediction, pred_std if pred_std.dim() > 1 else None

    def step_predictor(self, module: nn.Module) -> nn.Module:
        """See `Adapter.step_predictor`."""
        return module


def load_with_lightning(cls: Any, path: Path, **arguments: Any) -> nn.Module:
    """Load a checkpoint with Lightning, which may unpickle all of it.

    From torch 2.6 on it refuses every neural-lam checkpoint otherwise, for its
    ``args``; Lightning before 2.6 has no such argument.
    """
    loader = cls.load_from_checkpoint
    if "weights_only" in inspect.signature(loader).parameters:
        arguments["weights_only"] = False
    loaded: nn.Module = loader(str(path), map_location="cpu", **arguments)
    return loaded
