"""From #208 on (0.7): a module that wraps a forecaster of a step predictor.

The classes and functions are those of the current code that have the role
which ``ForecasterModule``, ``ARForecaster``, ``build_predictor`` and
``load_forecaster_module_from_checkpoint`` have in 0.7, whatever their names;
their arguments are bound by name.
"""

from __future__ import annotations

import inspect
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from pytest_nlam_compat.adapters import roles
from pytest_nlam_compat.adapters.adapter import Adapter, LeaveMain, Predictor
from pytest_nlam_compat.adapters.armodel import load_with_lightning
from pytest_nlam_compat.adapters.batches import fields_of
from pytest_nlam_compat.adapters.binding import (
    ApiChangedError,
    bind,
    call,
    match,
    signature,
)
from pytest_nlam_compat.adapters.model_arguments import (
    raise_on_unused,
    reads_of_args,
)

# How each was called in 0.7, for messages.
_BUILDER = "build_predictor(predictor_class, args, config, datastore)"
_FORECASTER = "ARForecaster(predictor, datastore)"
_MODULE = "ForecasterModule(forecaster, config, datastore, **hyper_parameters)"
_LOADER = "load_forecaster_module_from_checkpoint(ckpt_path, config, datastore)"
_ROLLOUT = "forward(init_states, forcing_features, boundary_states)"
# Arguments of Lightning's loader that a class never receives.
_LIGHTNING = ("hparams_file", "map_location", "strict", "weights_only")
_BUILD = (
    "def build(self, hyper_parameters, datastore, predictor=None):\n"
    "    return ...  # the untrained LightningModule"
)
_UNROLL = (
    "def unroll(self, module, init_states, forcing, boundary_states):\n"
    "    return ...  # prediction, and its std or None"
)


class ForecasterAdapter(Adapter):
    """Builds and runs a LightningModule that wraps a forecaster."""

    def known(
        self, hyper_parameters: Mapping[str, Any], datastore: Any
    ) -> dict[str, Any]:
        """Return what arguments can be bound to by their exact name.

        An adapter of a repository adds what the current code needs besides.
        """
        args = hyper_parameters.get("args")
        values = dict(vars(args)) if args is not None else {}
        if "graph" in values:
            values["graph_name"] = values["graph"]
        training = getattr(hyper_parameters.get("config"), "training", None)
        clamping = getattr(training, "output_clamping", None)
        if clamping is not None:
            values["output_clamping_lower"] = clamping.lower
            values["output_clamping_upper"] = clamping.upper
        return values | dict(hyper_parameters) | {"datastore": datastore}

    def build(
        self,
        hyper_parameters: Mapping[str, Any],
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """See `Adapter.build`.

        From its parts. If the current code can't be driven so, by its own
        loader, which knows its parts but needs ``args``.
        """
        try:
            return self._assembled(hyper_parameters, datastore, predictor)
        except ApiChangedError as changed:
            if hyper_parameters.get("args") is None:
                raise
            try:
                return self._by_own_loader(hyper_parameters, datastore)
            except ApiChangedError:
                raise changed from None

    def _assembled(
        self,
        hyper_parameters: Mapping[str, Any],
        datastore: Any,
        predictor: Predictor | None,
    ) -> nn.Module:
        values = self.known(hyper_parameters, datastore)
        objects = _objects(hyper_parameters, datastore)
        with reads_of_args(hyper_parameters.get("args")) as used:
            step = self._step_predictor(objects, values, predictor)
            forecaster = self._forecaster(step, objects, values, used)
            cls = _module_class(forecaster, objects, values)
            objects["forecaster"] = forecaster
            arguments = {
                name: value
                for name, value in hyper_parameters.items()
                if name != "config"
            }
            with raise_on_unused(cls, arguments, used) as accepted:
                # What its defaults stand for is not taken from `args`.
                needed = _required(cls, values)
                module: nn.Module = call(
                    cls, objects, needed, accepted, expected=_MODULE
                )
        return module

    def _step_predictor(
        self,
        objects: dict[str, Any],
        values: Mapping[str, Any],
        predictor: Predictor | None,
    ) -> nn.Module:
        step: nn.Module
        if predictor is not None:
            return _described(predictor, objects, values)
        model = values["model"]
        cls = roles.registry(model).get(model)
        if cls is not None:
            objects = {**objects, "predictor_class": cls}
        builder = roles.find("build_predictor", _builds_predictors)
        if builder is not None:
            step = call(builder, objects, values, expected=_BUILDER)
        elif cls is not None:
            called = _called_by_main(model, objects)
            if called is None:
                step = call(cls, objects, values, expected=_BUILDER)
            else:
                step = cls(*called.args, **called.kwargs)
        else:
            raise _no_role(f"a class for the model {model}", "MODELS")
        return step

    def _forecaster(
        self,
        step: nn.Module,
        objects: Mapping[str, Any],
        values: Mapping[str, Any],
        used: set[str],
    ) -> nn.Module:
        objects = {**objects, "predictor": step}
        cls = roles.wrapper(
            "ARForecaster", "predictor", nn.Module, objects, values
        )
        if cls is None or issubclass(cls, LightningModule):
            raise _no_role("a forecaster of a step predictor", _FORECASTER)
        used.update(match(cls, objects, values)[0])
        forecaster: nn.Module = call(cls, objects, values, expected=_FORECASTER)
        return forecaster

    def _by_own_loader(
        self, hyper_parameters: Mapping[str, Any], datastore: Any
    ) -> nn.Module:
        """Have the loader load a file without weights, which come later."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "migrated.ckpt"
            checkpoint = {
                "state_dict": {},
                "hyper_parameters": dict(hyper_parameters),
            }
            torch.save(checkpoint, path)
            with reads_of_args(hyper_parameters["args"]) as used:
                with _without_weights(hyper_parameters, used):
                    return self._load(path, hyper_parameters, datastore)

    def load_native(
        self,
        path: Path,
        config: Any,
        model: str,
        datastore: Any,
        predictor: Predictor | None = None,
    ) -> nn.Module:
        """See `Adapter.load_native`."""
        known = {"config": config, "model": model}
        if predictor is None:
            return self._load(path, known, datastore)
        objects = _objects(known, datastore)
        values = self.known(known, datastore)
        step = self._step_predictor(objects, values, predictor)
        forecaster = self._forecaster(step, objects, values, set())
        cls = _module_class(forecaster, objects, values)
        # The file has all else, and its config.
        objects = {"datastore": datastore, "forecaster": forecaster}
        more = {n: v for n, v in values.items() if n not in known}
        given, _ = match(cls, objects, more)
        return load_with_lightning(cls, path, **given)

    def _load(
        self, path: Path, known: Mapping[str, Any], datastore: Any
    ) -> nn.Module:
        """Call the current code's own loader."""
        load = roles.checkpoint_loader(
            _LOADER.partition("(")[0], LightningModule
        )
        if load is None:
            raise _no_role("a function that loads a checkpoint", _LOADER)
        objects = _objects(known, datastore) | {"path": str(path)}
        loaded = call(
            load, objects, self.known(known, datastore), expected=_LOADER
        )
        if not isinstance(loaded, nn.Module):
            raise ApiChangedError(
                f"{load.__qualname__} did not return a model",
                expected="a LightningModule",
                found=repr(loaded),
                adapter=_BUILD,
            )
        return loaded

    def unroll(
        self,
        module: nn.Module,
        init_states: Tensor,
        forcing: Tensor,
        boundary_states: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Adapter.unroll`."""
        objects = {
            "init_states": init_states,
            "forcing_features": forcing,
            "boundary_states": boundary_states,
        }
        forecaster = _only_child(module, "forecaster")
        for method in _rollouts(forecaster):
            bound = _rollout_arguments(method, objects)
            if bound is not None:
                is_call = method.__name__ == "forward"
                roll_out = forecaster if is_call else method
                return _prediction(roll_out(**bound))
        raise ApiChangedError(
            "the forecaster can't be rolled out",
            expected=_ROLLOUT,
            found=signature(forecaster.forward),
            adapter=_UNROLL,
        )

    def step_predictor(self, module: nn.Module) -> nn.Module:
        """See `Adapter.step_predictor`."""
        return _only_child(_only_child(module, "forecaster"), "predictor")


def _objects(
    hyper_parameters: Mapping[str, Any], datastore: Any
) -> dict[str, Any]:
    """Return what a call may need under any name, by role."""
    objects = {"datastore": datastore}
    for role in ("args", "config"):
        if hyper_parameters.get(role) is not None:
            objects[role] = hyper_parameters[role]
    return objects


def _module_class(
    forecaster: nn.Module,
    objects: Mapping[str, Any],
    values: Mapping[str, Any],
) -> type:
    """Return the class of modules that wrap a forecaster."""
    found: type | None = roles.wrapper(
        "ForecasterModule",
        "forecaster",
        LightningModule,
        {**objects, "forecaster": forecaster},
        values,
    )
    if found is None:
        raise _no_role("a LightningModule of a forecaster", _MODULE)
    return found


def _builds_predictors(value: Any) -> bool:
    name = getattr(value, "__name__", "")
    return (
        inspect.isfunction(value)
        and "predictor" in name
        and name.startswith(("build", "create", "init", "make"))
    )


def _called_by_main(model: str, objects: Mapping[str, Any]) -> Any:
    """Return the arguments that ``main`` calls the class of a model with.

    Without a function that builds predictors (#208 to #688) they stand there
    alone. All of them: one that the class does not accept is an error for
    whoever trains. None if ``main`` calls no class of the registry.
    """
    from neural_lam import train_model

    parse = ArgumentParser.parse_args

    def parsed(parser: ArgumentParser, *_: Any) -> Namespace:
        chosen = parse(parser, ["--config_path", "config.yaml"])
        for name, value in vars(objects["args"]).items():
            # As text on the command line.
            if not isinstance(value, Mapping):
                setattr(chosen, name, value)
        return chosen

    def loaded(*_: Any, **__: Any) -> tuple[Any, Any]:
        return objects["config"], objects["datastore"]

    cls = mock.Mock(side_effect=LeaveMain)
    with (
        suppress(LeaveMain),
        mock.patch.object(ArgumentParser, "parse_args", parsed),
        mock.patch.object(train_model, "load_config_and_datastore", loaded),
        mock.patch("lightning_fabric.utilities.seed.seed_everything"),
        mock.patch.dict(roles.registry(model), {model: cls}),
    ):
        train_model.main([])
    return cls.call_args


def _described(
    predictor: Predictor,
    objects: Mapping[str, Any],
    values: Mapping[str, Any],
) -> nn.Module:
    """Build a step predictor that ``args`` can't describe."""
    expected = f"{predictor.name}(datastore, {', '.join(predictor.arguments)})"
    cls = roles.class_of(predictor.name)
    if cls is None:
        raise _no_role(f"the class {predictor.name}", expected)
    values = {**values, **predictor.arguments}
    bound = bind(cls, objects, values, expected=expected)
    lost = predictor.arguments.keys() - bound.keys()
    if lost:
        raise ApiChangedError(
            f"{predictor.name} does not accept {', '.join(sorted(lost))}",
            expected=expected,
            found=signature(cls),
            adapter=_BUILD,
        )
    step: nn.Module = cls(**bound)
    return step


def _required(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a class has no default for."""
    return {
        name: values[name]
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is inspect.Parameter.empty and name in values
    }


@contextmanager
def _without_weights(
    hyper_parameters: Mapping[str, Any], used: set[str]
) -> Iterator[None]:
    """Have Lightning only make the object, losing no hyper-parameter."""

    def make(cls: type, path: str, *_: Any, **given: Any) -> Any:
        given = {n: v for n, v in given.items() if n not in _LIGHTNING}
        with raise_on_unused(cls, hyper_parameters, used) as accepted:
            return cls(**{**accepted, **given})

    def keep(*_: Any, **__: Any) -> Any:
        return nn.modules.module._IncompatibleKeys([], [])

    with (
        mock.patch.object(
            LightningModule, "load_from_checkpoint", classmethod(make)
        ),
        mock.patch.object(nn.Module, "load_state_dict", keep),
    ):
        yield


def _only_child(module: nn.Module, known_as: str) -> nn.Module:
    """Return the submodule of a role: by name, or the only one with weights."""
    named = getattr(module, known_as, None)
    if isinstance(named, nn.Module):
        return named
    children = {
        name: child
        for name, child in module.named_children()
        if next(child.parameters(), None) is not None
    }
    if len(children) == 1:
        return next(iter(children.values()))
    raise ApiChangedError(
        f"{type(module).__name__} has no {known_as}",
        expected=f"an attribute {known_as!r}, or one submodule with weights",
        found=", ".join(children) or "none",
        adapter=f"{_UNROLL}\n\n"
        "def step_predictor(self, module):\n"
        "    return ...  # the module whose layers are compared",
    )


def _rollouts(forecaster: nn.Module) -> Iterator[Callable[..., Any]]:
    """Yield ``forward``, or else the methods that may have its place."""
    if type(forecaster).forward is not nn.Module.forward:
        yield forecaster.forward
        return
    for cls in type(forecaster).__mro__:
        for name, value in (
            vars(cls).items() if roles.in_neural_lam(cls) else ()
        ):
            if inspect.isfunction(value) and not name.startswith("_"):
                yield getattr(forecaster, name)


def _rollout_arguments(
    method: Callable[..., Any], objects: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the arguments of a rollout by name, or else in their order."""
    bound, unknown = match(method, objects)
    if unknown:
        required = [
            name
            for name, p in inspect.signature(method).parameters.items()
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        if len(required) != len(objects):
            return None
        return dict(zip(required, objects.values(), strict=True))
    return bound if len(bound) == len(objects) else None


def _prediction(found: Any) -> tuple[Tensor, Tensor | None]:
    """Return prediction and std of whatever a rollout returned."""
    if isinstance(found, Tensor):
        return found, None
    values = list(fields_of(found).values())
    if len(values) == 2 and isinstance(values[0], Tensor):
        return values[0], values[1]
    raise ApiChangedError(
        "a rollout returned something else",
        expected="prediction, and its std or None",
        found=f"{type(found).__name__} of {len(values)}",
        adapter=_UNROLL,
    )


def _no_role(what: str, expected: str) -> ApiChangedError:
    return ApiChangedError(
        f"neural_lam has no {what.removeprefix('a ')}",
        expected=expected,
        found="none that can be called with what is known",
        adapter=_BUILD,
    )
