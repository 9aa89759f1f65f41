"""The releases of neural-lam, and how each names the weights of a model.

Up to 0.6 there is one module, and its names begin at the top. Since 0.7 it is
the predictor in a forecaster. A file of the predictor alone may have the very
names of 0.6. What wraps a model or a part of it (``torch.compile``, ``FSDP``)
adds a segment to the names below it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import registry

RELEASES = tuple(
    map(str, registry.read(registry.data_folder() / registry.FILE_NAME))
)
"""Those that have references, oldest first."""

# Persistent buffers of every release: 0.4.0 models/base_graph_model.py,
# prepare_clamping_params (#92). Registered in this order, on the predictor.
CLAMP_BUFFERS = (
    "sigmoid_lower_lims",
    "sigmoid_upper_lims",
    "softplus_lower_lims",
    "softplus_upper_lims",
    "clamp_lower_upper_idx",
    "clamp_lower_idx",
    "clamp_upper_idx",
)

FIRST_WITH_CLAMPING = Version("0.4.0")
FIRST_WITH_PREFIX = Version("0.7.0")
PREFIX = "forecaster.predictor."
"""Of all weights in a model of 0.7."""

KIND = "neural_lam.config.DatastoreKindStr"
"""A str subclass that 0.3 and 0.4 pickled in the config (#113)."""

WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DataParallel or DistributedDataParallel",
    "_forward_module": "Lightning",
    "_fsdp_wrapped_module": "FSDP",
    "_fpw_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
"""What a wrapper adds to names, anywhere in them. No release has such a name
itself."""

_FORECASTER, _PREDICTOR = "forecaster.", "predictor."
# At the top of GraphEFM, which 0.7.0 was the first to have.
_SINCE = ("grid_prev_embedder.", "grid_current_embedder.")
# Every release has one of them at the top: up to 0.6, and from 0.7 on.
_FIRST_SEGMENTS = frozenset({"grid_embedder", "forecaster"})


def unwrapped(name: str) -> str:
    """Return the name of a weight without the segments of `WRAPPERS`.

    >>> unwrapped("_orig_mod.processor.module.module_0.edge_mlp.0.bias")
    'processor.module_0.edge_mlp.0.bias'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def parameter_names(names: Iterable[str]) -> list[str]:
    """Pick the parameters from the names of a state_dict, in order.

    All but the clamping buffers, under whatever prefix these are. The order
    of the file is that in which the optimizer numbered the parameters.
    """
    return [
        name for name in names if name.rpartition(".")[2] not in CLAMP_BUFFERS
    ]


def has_prefix(names: Iterable[str]) -> bool:
    """Tell whether weights are where 0.7 has them."""
    return any(name.startswith(_FORECASTER) for name in names)


def raise_on_unknown_prefix(names: Collection[str]) -> None:
    """Refuse weights without the prefix of 0.7, or under a foreign one."""
    if not has_prefix(names):
        _raise_on_part(names)
    _raise_on_wrapper(names)


def without_prefix(name: str, found: str | None = None) -> CompatError:
    """Build the error for weights of 0.7.0 without their prefix.

    `name` is one of them as it is within the predictor, and `found` as it is
    in the file, if that differs.
    """
    found = found or name
    lacking = PREFIX.removesuffix(found.removesuffix(name))
    return CompatError(
        f"The weights are a part of a model of neural-lam {FIRST_WITH_PREFIX}, "
        f"without the prefix {lacking!r}.",
        facts={"found": found, "expected": f"{PREFIX}{name}"},
        remedy=f"Put {lacking!r} before each name of the state_dict, and save "
        "that.",
    )


def _raise_on_part(names: Iterable[str]) -> None:
    for name in names:
        rest = name.removeprefix(_PREDICTOR)
        if rest.startswith(_SINCE):
            raise without_prefix(rest, name)
        if rest != name and rest.startswith("grid_embedder."):
            raise _unknown(
                _PREDICTOR,
                f"If it is a forecaster of {FIRST_WITH_PREFIX} that was "
                f"saved alone, put {_FORECASTER!r} before each name of the "
                f"state_dict; else remove {_PREDICTOR!r}. Save that.",
                found=name,
                **{
                    f"expected of {FIRST_WITH_PREFIX}": f"{PREFIX}{rest}",
                    "expected before": rest,
                },
            )


def _raise_on_wrapper(names: Iterable[str]) -> None:
    wrapped = None
    for name in names:
        segments = name.split(".")
        if segments[0] in _FIRST_SEGMENTS:
            return
        if wrapped is None and not _FIRST_SEGMENTS.isdisjoint(segments):
            wrapped = segments
    if wrapped is None:
        return
    first = min(wrapped.index(s) for s in _FIRST_SEGMENTS if s in wrapped)
    raise _unknown(
        ".".join(wrapped[:first]) + ".",
        "Something that wrapped the model added the prefix. Remove it from "
        "each name of the state_dict, and save that.",
        found=".".join(wrapped),
        expected=".".join(wrapped[first:]),
    )


def _unknown(prefix: str, remedy: str, **facts: str) -> CompatError:
    return CompatError(
        f"The names of the weights begin with {prefix!r}, as in no release of "
        "neural-lam.",
        facts=facts,
        remedy=remedy,
    )
