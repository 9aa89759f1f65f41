"""From #208 on (0.7): ``ForecasterModule(ARForecaster(StepPredictor))``."""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neural_lam import models, train_model
from torch import Tensor, nn

from pytest_nlam_compat.adapters.adapter import Adapter, Predictor
from pytest_nlam_compat.adapters.armodel import load_with_lightning
from pytest_nlam_compat.adapters.model_arguments import raise_on_unused


class ForecasterAdapter(Adapter):
    """Builds and runs ``ForecasterModule``."""

    def build(
        self,
        hyper_parameters: Mapping[str, Any],
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """See `Adapter.build`."""
        arguments = dict(hyper_parameters)
        config = arguments.pop("config")
        step = self._step_predictor(
            arguments.get("args"), config, datastore, predictor
        )
        with raise_on_unused(models.ForecasterModule, arguments) as accepted:
            module: nn.Module = models.ForecasterModule(
                forecaster=models.ARForecaster(step, datastore),
                config=config,
                datastore=datastore,
                **accepted,
            )
        return module

    def _step_predictor(
        self,
        args: Namespace | None,
        config: Any,
        datastore: Any,
        predictor: Predictor | None,
    ) -> Any:
        if predictor is not None:
            cls = getattr(models, predictor.name)
            return cls(datastore=datastore, **predictor.arguments)
        assert args is not None
        cls = train_model.MODELS[args.model]
        if hasattr(train_model, "build_predictor"):
            return train_model.build_predictor(cls, args, config, datastore)
        return cls(**_inline_arguments(cls, args, config), datastore=datastore)

    def load_native(
        self,
        path: Path,
        config: Any,
        model: str,
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """See `Adapter.load_native`."""
        if predictor is not None:
            step = self._step_predictor(None, config, datastore, predictor)
            forecaster = models.ARForecaster(step, datastore)
            return load_with_lightning(
                models.ForecasterModule,
                path,
                forecaster=forecaster,
                datastore=datastore,
            )
        load = train_model.load_forecaster_module_from_checkpoint
        loaded: nn.Module = load(str(path), config, datastore)
        return loaded

    def unroll(
        self,
        module: nn.Module,
        init_states: Tensor,
        forcing: Tensor,
        boundary_states: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Adapter.unroll`."""
        forecaster: Any = module.forecaster
        prediction, pred_std = forecaster(init_states, forcing, boundary_states)
        return prediction, pred_std

    def step_predictor(self, module: nn.Module) -> nn.Module:
        """See `Adapter.step_predictor`."""
        forecaster: Any = module.forecaster
        predictor: nn.Module = forecaster.predictor
        return predictor


def _inline_arguments(
    cls: type, args: Namespace, config: Any
) -> dict[str, Any]:
    """Return what ``build_predictor`` would pass, before there was one.

    Between #208 and #688 ``train_model`` builds predictors inline. Each
    argument is passed if the class accepts it.
    """
    clamping = config.training.output_clamping
    offered = {
        "graph_name": args.graph,
        "output_clamping_lower": clamping.lower,
        "output_clamping_upper": clamping.upper,
        "config": config,
        **vars(args),
    }
    accepted = inspect.signature(cls).parameters
    return {name: offered[name] for name in offered if name in accepted}
