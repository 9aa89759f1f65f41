"""Which weights each model of a release has, for its hyper-parameters.

Names, shapes and order, as the release's ``state_dict`` has them. Numbers that
neither the hyper-parameters nor the names say (features of grid, edges and
mesh) may be anything, but the same wherever they occur.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice, product
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.operations.segments import fill, match
from pytest_nlam_compat.migrations.releases import (
    FIRST_WITH_CLAMPING,
    FIRST_WITH_PREFIX,
    PREFIX,
)

_CLAMPING = {
    "sigmoid_lower_lims": "clamped on both sides",
    "sigmoid_upper_lims": "clamped on both sides",
    "softplus_lower_lims": "clamped below",
    "softplus_upper_lims": "clamped above",
    "clamp_lower_upper_idx": "clamped on both sides",
    "clamp_lower_idx": "clamped below",
    "clamp_upper_idx": "clamped above",
}

# A module, its kind, and the number of its inputs (of a map: of its outputs).
# In braces: as many of them as `_COUNTED` finds.
_GRID = """
grid_embedder mlp grid
g2m_embedder mlp g2m
m2g_embedder mlp m2g
g2m_gnn gnn
encoding_grid_mlp mlp hidden
m2g_gnn gnn
output_map map output
"""
_HIERARCHY = f"""{_GRID}
mesh_embedders.{{level}} mlp mesh
mesh_same_embedders.{{level}} mlp m2m
mesh_up_embedders.{{gap}} mlp up
mesh_down_embedders.{{gap}} mlp down
mesh_init_gnns.{{gap}} gnn
mesh_read_gnns.{{gap}} gnn
"""
_ENSEMBLE = """
grid_prev_embedder mlp grid
grid_current_embedder mlp current_grid
g2m_embedder mlp g2m
m2g_embedder mlp m2g
"""
_DECODER = """
decoder.grid_update_mlp mlp hidden
decoder.latent_embedder mlp latent
decoder.param_map map output
decoder.g2m_gnn gnn
"""
_MODELS = {
    "graph_lam": f"""{_GRID}
mesh_embedder mlp mesh
m2m_embedder mlp m2m
processor.module_{{layer}} gnn
""",
    "hi_lam": f"""{_HIERARCHY}
mesh_down_gnns.{{layer}}.{{gap}} gnn
mesh_down_same_gnns.{{layer}}.{{level}} gnn
mesh_up_gnns.{{layer}}.{{gap}} gnn
mesh_up_same_gnns.{{layer}}.{{level}} gnn
""",
    "hi_lam_parallel": f"""{_HIERARCHY}
processor.module_{{layer}} split
""",
    "GraphEFM": f"""{_ENSEMBLE}
prior_model.g2m_gnn gnn
prior_model.mesh_up_gnns.{{gap}} gnn
prior_model.intra_level_gnns.{{level}}.module_{{prior_layer}} gnn
prior_model.latent_param_map map prior
mesh_embedders.{{level}} mlp mesh
mesh_up_embedders.{{gap}} mlp up
mesh_down_embedders.{{gap}} mlp down
m2m_embedders.{{embedded}} mlp m2m
encoder.g2m_gnn gnn
encoder.mesh_up_gnns.{{gap}} gnn
encoder.intra_level_gnns.{{level}}.module_{{encoder_layer}} gnn
encoder.latent_param_map map encoded
{_DECODER}
decoder.m2g_gnn gnn
decoder.mesh_up_gnns.{{gap}} gnn
decoder.mesh_down_gnns.{{gap}} gnn
decoder.intra_up_gnns.{{level}}.module_{{decoder_layer}} gnn
decoder.intra_down_gnns.{{gap}}.module_{{decoder_layer}} gnn
""",
    "GraphEFMMultiScale": f"""{_ENSEMBLE}
prior_model.g2m_gnn gnn
prior_model.m2m_gnns.module_{{prior_layer}} gnn
prior_model.latent_param_map map prior
mesh_embedder mlp mesh
m2m_embedder mlp m2m
encoder.g2m_gnn gnn
encoder.m2m_gnns.module_{{encoder_layer}} gnn
encoder.latent_param_map map encoded
{_DECODER}
decoder.m2m_gnns.module_{{decoder_layer}} gnn
decoder.m2g_gnn gnn
""",
}

RENAMED: dict[str, dict[str, str]] = {}
"""What a release calls a part of the table, by the first release that does so.

Old name to new, below `PREFIX` and as in `Rename`, for example
``"0.8.0": {"encoding_grid_mlp": "grid_mlp"}``.
"""

# Where an axis is counted by names: how many there are behind the text.
_COUNTED = {
    "level": "mesh_embedders.",
    "embedded": "m2m_embedders.",
    "prior_layer": r"prior_model\.(intra_level_gnns\.0|m2m_gnns)\.",
    "encoder_layer": r"encoder\.(intra_level_gnns\.0|m2m_gnns)\.",
    "decoder_layer": r"decoder\.(intra_up_gnns\.0|m2m_gnns)\.",
    "layer": r"(processor|mesh_up_same_gnns)\.",
    "linear": r"g2m_embedder\.",
}
# As wide as every hidden layer.
_FIRST = "g2m_embedder.0.bias"
_AXIS = re.compile(r"{(\w+)}")
_FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
_MOST_SHOWN = 5

# What a model is built from, if it has arguments, and what each may be.
_ARGUMENTS: dict[str, Any] = {
    "model": str,
    "graph": str,
    "hidden_dim": int,
    "hidden_layers": int,
    "processor_layers": int,
    "mesh_aggr": ("sum", "mean"),
}
_ARGUMENTS_SINCE_0_3: dict[str, Any] = {
    **_ARGUMENTS,
    "num_past_forcing_steps": int,
    "num_future_forcing_steps": int,
    "output_std": (False, True, 0, 1),
}
_LOSSES = ("mse", "mae", "wmse", "wmae", "nll", "crps_gauss")
_GNN_TYPES = ("InteractionNet", "PropagationNet")
_GNN_ARGUMENTS = (
    *("g2m_gnn_type", "m2g_gnn_type", "mesh_up_gnn_type"),
    "mesh_down_gnn_type",
)

_REMEDIES = {
    r"lora_|\.base_layer\.": "Merge the adapter into the weights "
    "(merge_and_unload) where it was trained, and save that.",
    r"\.weight_[gv]$|\.parametrizations\.": "Remove the parametrization of "
    "the weights (torch.nn.utils.remove_weight_norm, or "
    "parametrize.remove_parametrizations) where it was trained, and save that.",
    r"_(orig|mask)$": "Make the pruning permanent "
    "(torch.nn.utils.prune.remove) where it was trained, and save that.",
}
_OTHERWISE = (
    "Save the state_dict of a model that neural-lam {release} builds for these "
    "hyper-parameters: rename what has another name, and remove what belongs "
    "to something else."
)


def check_weights(
    weights: Mapping[str, Any],
    hyper_parameters: Mapping[str, Any],
    release: Version | str,
) -> list[str]:
    """Refuse weights that no model of a release can have.

    Parameters
    ----------
    weights : mapping of str to (Tensor or TensorRef)
        Only names, shapes and types are looked at.
    hyper_parameters : mapping
        Of the checkpoint. Without ``args``, model and numbers of layers are
        taken from the names.
    release : Version or str
        Release whose layout the weights are to have.

    Returns
    -------
    list of str
        The names in the order of the model's own ``state_dict``.

    Raises
    ------
    CompatError
        With what is missing, unexpected, or of another shape or type.
    """
    release = Version(str(release))
    prefix = PREFIX if release >= FIRST_WITH_PREFIX else ""

    def named(name: str) -> str:
        return f"{prefix}{_renamed(name, release)}"

    bare = {
        _renamed(name.removeprefix(prefix), release, undo=True)
        for name in weights
    }
    arguments = _arguments(hyper_parameters)
    model = _model(bare, arguments, release)
    sizes = _sizes(bare, weights.get(named(_FIRST)), arguments)
    # Of a file that claims very many layers, enough to tell that some lack.
    layout = islice(_expected(model, release, sizes, bare), 2 * len(bare) + 999)
    expected = {named(name): shape for name, shape in layout}
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    facts = {
        "missing": join_some(map(printable, missing), _MOST_SHOWN),
        "unexpected": join_some(map(printable, unexpected), _MOST_SHOWN),
        **_misfits(weights, expected, sizes),
    }
    facts = {what: found for what, found in facts.items() if found}
    if not facts:
        # Inputs are two states, and more.
        state, rest = divmod(sizes["output"], 1 + sizes["output_std"])
        if rest or sizes["grid"] < 2 * state:
            facts["inputs and outputs"] = f"{sizes['grid']}, {sizes['output']}"
    if not facts and arguments is not None:
        facts = _unfit_arguments(arguments, release)
    if facts:
        raise CompatError(
            f"The weights are not those of a {model} of neural-lam {release} "
            "with these hyper-parameters.",
            facts=facts,
            remedy=_remedy(unexpected).format(release=release),
        )
    return list(expected)


def _renamed(name: str, release: Version, *, undo: bool = False) -> str:
    """Return what a release calls a weight of the table, or undo that."""
    tables = [
        [(new, old) if undo else (old, new) for old, new in renames.items()]
        for since, renames in RENAMED.items()
        if Version(since) <= release
    ]
    for table in reversed(tables) if undo else tables:
        for before, after in table:
            found = match(before, name)
            if found is not None:
                name = fill(after, found)
                break
    return name


def _remedy(unexpected: Collection[str]) -> str:
    for pattern, remedy in _REMEDIES.items():
        if any(re.search(pattern, name) for name in unexpected):
            return remedy
    return _OTHERWISE


def _arguments(
    hyper_parameters: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    """Return the arguments of the command line; None for a model without."""
    arguments = hyper_parameters.get("args")
    if arguments is None:
        return None
    if isinstance(arguments, InertObject):
        return arguments.attributes
    raise CompatError(
        "The hyper-parameter args is not a Namespace, from which neural-lam "
        "builds its model.",
        facts={"found": f"something of type {type(arguments).__name__}"},
        remedy="Save it as argparse.Namespace(**args).",
    )


def _model(
    bare: Collection[str],
    arguments: Mapping[str, Any] | None,
    release: Version,
) -> str:
    """Return the architecture, by the arguments or by the names."""
    if arguments is not None and "model" in arguments:
        model = arguments["model"]
        if model in ("graph_lam", "hi_lam", "hi_lam_parallel"):
            return str(model)
        raise CompatError(
            f"neural-lam {release} has no such model.",
            facts={
                "args.model": printable(str(model)),
                "expected": "graph_lam, hi_lam or hi_lam_parallel",
            },
            remedy="Use the file with the fork of neural-lam that wrote it.",
        )

    def has(module: str) -> bool:
        return any(name.startswith(module) for name in bare)

    if has("grid_prev_embedder."):
        return "GraphEFM" if has("mesh_embedders.") else "GraphEFMMultiScale"
    if has("mesh_embedders."):
        return "hi_lam" if has("mesh_up_same_gnns.") else "hi_lam_parallel"
    return "graph_lam"


def _sizes(
    bare: Collection[str], first: Any, arguments: Mapping[str, Any] | None
) -> dict[str, int]:
    """Collect the numbers that the layout depends on."""
    sizes = {axis: _count(bare, text) for axis, text in _COUNTED.items()}
    sizes["gap"] = max(0, sizes["level"] - 1)
    sizes["edge_set"] = sizes["level"] + 2 * sizes["gap"]
    # Behind the last linear layer there is a norm.
    sizes["linear"] = max(1, sizes["linear"] - 1)
    sizes["hidden"] = (getattr(first, "shape", None) or (0,))[0]
    arguments = arguments or {}
    sizes["output_std"] = arguments.get("output_std") in (True, 1)
    for name, argument, more in (
        ("hidden", "hidden_dim", 0),
        ("linear", "hidden_layers", 1),
        ("layer", "processor_layers", 0),
    ):
        found = arguments.get(argument)
        if type(found) is int and found >= 0:
            sizes[name] = found + more
    for name in ("linear", "layer"):
        # Of more, some are missing.
        sizes[name] = min(sizes[name], len(bare) + 1)
    return sizes


def _count(names: Collection[str], before: str) -> int:
    """Count the modules that a list of them has, by its name."""
    found = (re.match(f"(?:{before})([^.]+)\\.", name) for name in names)
    return len({match.groups()[-1] for match in found if match})


_Shape = tuple[int | str, ...]


def _expected(
    model: str, release: Version, sizes: Mapping[str, int], bare: set[str]
) -> Iterator[tuple[str, _Shape]]:
    """List the names with shapes; a text stands for a number not known yet."""
    if release >= FIRST_WITH_CLAMPING:
        for name, kind in _CLAMPING.items():
            yield name, (kind,)
    with_prior = any(name.startswith("prior_model.") for name in bare)
    for line in filter(None, _MODELS[model].splitlines()):
        module, kind, width = [*line.split(), ""][:3]
        if with_prior or not module.startswith("prior_model."):
            for name in _repeated(module, sizes):
                yield from _weights(name, kind, width, sizes)


def _repeated(module: str, sizes: Mapping[str, int]) -> Iterator[str]:
    axes = _AXIS.findall(module)
    for indices in product(*(range(sizes[axis]) for axis in axes)):
        yield module.format(**dict(zip(axes, indices, strict=True)))


def _weights(
    name: str, kind: str, width: int | str, sizes: Mapping[str, int]
) -> Iterator[tuple[str, _Shape]]:
    """List the weights of a module; see `_MODELS`."""
    hidden, layers = sizes["hidden"], sizes["linear"]
    if kind in ("gnn", "split"):
        for part, axis, inputs in ("edge", "edge_set", 3), ("aggr", "level", 2):
            each = f"{name}.{part}_mlp"
            if kind == "split":
                each += f".mlps.{{{axis}}}"
            for mlp in _repeated(each, sizes):
                yield from _weights(mlp, "mlp", inputs * hidden, sizes)
        return
    widths: list[int | str] = [hidden] * (layers + 1)
    widths[-1 if kind == "map" else 0] = hidden if width == "hidden" else width
    for layer in range(layers):
        yield f"{name}.{2 * layer}.weight", (widths[layer + 1], widths[layer])
        yield f"{name}.{2 * layer}.bias", (widths[layer + 1],)
    if kind == "mlp":
        yield f"{name}.{2 * layers - 1}.weight", (hidden,)
        yield f"{name}.{2 * layers - 1}.bias", (hidden,)


def _misfits(
    weights: Mapping[str, Any],
    expected: Mapping[str, _Shape],
    sizes: dict[str, int],
) -> dict[str, str]:
    """Find shapes and types that differ, and the numbers not known before."""
    found = {}
    for name, symbols in expected.items():
        tensor = weights.get(name)
        if tensor is None:
            continue
        shape = tuple(getattr(tensor, "shape", ()))
        if len(shape) == len(symbols):
            for symbol, size in zip(symbols, shape, strict=True):
                if isinstance(symbol, str):
                    sizes.setdefault(symbol, size)
        wanted = tuple(
            sizes.get(each, 0) if isinstance(each, str) else each
            for each in symbols
        )
        dtype = str(getattr(tensor, "dtype", "no tensor")).removeprefix(
            "torch."
        )
        is_index = name.endswith("_idx") and dtype == "int64"
        if shape != wanted:
            found[f"shape of {printable(name)}"] = f"{shape}, not {wanted}"
        elif dtype not in _FLOATS and not is_index:
            found[f"type of {printable(name)}"] = f"{dtype}, not a float"
    return dict(list(found.items())[:_MOST_SHOWN])


def _unfit_arguments(
    arguments: Mapping[str, Any], release: Version
) -> dict[str, str]:
    """Find arguments that are missing, or have an unknown value."""
    needed = _ARGUMENTS
    if release >= Version("0.3.0"):
        needed = _ARGUMENTS_SINCE_0_3
    facts = {}
    for name, allowed in needed.items():
        if name not in arguments:
            facts[f"args.{name}"] = "missing"
        elif not _is_allowed(arguments[name], allowed):
            facts[f"args.{name}"] = printable(repr(arguments[name]))
    optional = {"loss": _LOSSES, **dict.fromkeys(_GNN_ARGUMENTS, _GNN_TYPES)}
    for name, known in optional.items():
        value = arguments.get(name, known[0])
        if name == "loss" and isinstance(value, str):
            value = value.lower()  # as neural-lam does
        if not _is_allowed(value, known):
            facts[f"args.{name}"] = printable(repr(value))
    return facts


def _is_allowed(value: Any, allowed: Any) -> bool:
    if isinstance(allowed, tuple):
        return type(value) in (bool, int, str) and value in allowed
    return type(value) is allowed
