"""The classes that checkpoints of neural-lam may name, and how.

Each by its name, never by its package: torch and numpy have functions that
run their arguments, and a pickle may name those too. Even a harmless class can
do harm when it is called (``ModelCheckpoint("ftp://...")`` connects to a
server). So each is accepted only in the form in which Lightning, neural-lam
and the libraries write it: most as a name or with stored state, a few as a
call with arguments that are checked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    STORAGES,
    GlobalRef,
    How,
    InertObject,
)

_CONFIG = (
    "DatastoreSelection ManualStateFeatureWeighting NeuralLAMConfig "
    "OutputClamping TrainingConfig UniformFeatureWeighting"
)
_TYPES = (
    "bool bytearray bytes complex dict float frozenset int list object set str "
    "tuple"
)
_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"
_SCALARS = (
    "bool_ bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 "
    "uint32 uint64 complex64 complex128"
)
_REBUILD = "_rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter"

#: Owner -> module -> names.
_KNOWN: dict[str, dict[str, str]] = {
    "neural-lam": {"neural_lam.config": f"DatastoreKindStr {_CONFIG}"},
    "Lightning": {
        "lightning_fabric.utilities.data": "AttributeDict",
        "lightning.fabric.utilities.data": "AttributeDict",
        "pytorch_lightning.utilities.parsing": "AttributeDict",
        "lightning.pytorch.utilities.parsing": "AttributeDict",
        "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
        "lightning.pytorch.callbacks.model_checkpoint": "ModelCheckpoint",
        "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
        "lightning.pytorch.callbacks.early_stopping": "EarlyStopping",
    },
    "torch": {
        "torch": " ".join([*STORAGES, *ITEMSIZES, "Size", "Tensor", "device"]),
        "torch.cuda": " ".join(STORAGES),
        "torch.storage": "UntypedStorage TypedStorage",
        "torch._utils": _REBUILD,
        "torch.nn.parameter": "Parameter Buffer",
    },
    "numpy": {
        "numpy": f"ndarray dtype {_SCALARS}",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
    },
    "Python": {
        "argparse": "Namespace",
        "builtins": _TYPES,
        "collections": "Counter OrderedDict defaultdict",
        "pathlib": _PATHS,
        "pathlib._local": _PATHS,
        "_codecs": "encode",
    },
}

_OWNERS = {
    (module, name): owner
    for owner, modules in _KNOWN.items()
    for module, names in modules.items()
    for name in names.split()
}


def owner(named: GlobalRef) -> str | None:
    """Tell whose a class or function is.

    Parameters
    ----------
    named : GlobalRef
        What a pickle names.

    Returns
    -------
    str or None
        ``neural-lam``, ``Lightning``, ``torch``, ``numpy`` or ``Python``;
        None for what no checkpoint of neural-lam needs to name.
    """
    return _OWNERS.get((named.module, named.name))


def is_well_formed(made: InertObject) -> bool:
    """Tell whether a known class is used as the libraries write it."""
    cls = made.cls
    if isinstance(cls, InertObject):
        # The result of a call, called: known classes have no such use.
        return isinstance(cls.cls, InertObject) or owner(cls.cls) is None
    form = _FORMS.get(cls.name) if owner(cls) else _is_any
    return form is not None and form(made)


def _is_any(_: InertObject) -> bool:
    return True


def _has_attributes(made: InertObject) -> bool:
    """Tell whether an object is stored as its attributes alone."""
    state = {} if made.state is None else made.state
    return (
        made.how is How.NEWOBJ
        and not (made.args or made.list_items or made.dict_items)
        and isinstance(state, dict)
        and all(type(name) is str for name in state)
    )


def _is_attribute_dict(made: InertObject) -> bool:
    return (
        made.how is How.NEWOBJ
        and not (made.args or made.list_items)
        and made.state in (None, {})
        and all(type(name) is str for name in made.dict_items)
    )


def _call(
    fits: Callable[..., bool], more: str = "", how: How = How.REDUCE
) -> Callable[[InertObject], bool]:
    """Make a form: a call whose arguments fit."""

    def form(made: InertObject) -> bool:
        filled = {
            "list_items": bool(made.list_items),
            "dict_items": bool(made.dict_items),
            "state": made.state is not None,
        }
        state = (made.state,) if more == "state" else ()
        return (
            made.how is how
            and not any(on for name, on in filled.items() if name != more)
            and fits(*made.args, *state)
        )

    return form


def _are_texts(*parts: Any) -> bool:
    return all(type(part) is str for part in parts)


def _are_counts(*parts: Any) -> bool:
    return all(type(part) is int and 0 <= part < 2**63 for part in parts)


def _is_kind(*parts: Any) -> bool:
    return len(parts) == 1 and _are_texts(*parts)


def _is_size(*parts: Any) -> bool:
    return (
        len(parts) == 1 and type(parts[0]) is tuple and _are_counts(*parts[0])
    )


def _is_device(*parts: Any) -> bool:
    kind, *index = parts or (None,)
    return (
        kind in ("cpu", "cuda", "mps", "xpu", "meta")
        and len(index) < 2
        and _are_counts(*index)
        and all(each < 128 for each in index)
    )


def _is_counter(*parts: Any) -> bool:
    return len(parts) < 2 and all(
        type(table) is dict
        and all(type(each) is int for each in table.values())
        for table in parts
    )


def _is_factory(*parts: Any) -> bool:
    return len(parts) < 2 and all(
        isinstance(part, GlobalRef) and part.path.startswith("builtins.")
        for part in parts
    )


# numpy, whose objects are a type, a shape and bytes.

_ITEMSIZES = {
    f"{kind}{size}": size
    for kind, sizes in {"b": "1", "iu": "1248", "f": "248"}.items()
    for kind in kind
    for size in map(int, sizes)
} | {"c8": 8, "c16": 16}


def _is_numpy_type(*parts: Any) -> bool:
    return (
        len(parts) == 4
        and type(parts[0]) is str
        and parts[0] in _ITEMSIZES
        and parts[1:3] == (False, True)
        and type(parts[3]) is tuple
        and parts[3][1:2] in (("<",), (">",), ("|",))
        and (parts[3][0], *parts[3][2:]) == (3, None, None, None, -1, -1, 0)
    )


def _is_numpy_scalar(*parts: Any) -> bool:
    return len(parts) == 2 and _holds(parts[0], 1, parts[1])


def _is_numpy_array(*parts: Any) -> bool:
    empty = (GlobalRef("numpy", "ndarray"), (0,), b"b")
    if parts[:3] != empty or len(parts) != 4 or type(parts[3]) is not tuple:
        return False
    if len(parts[3]) != 5:
        return False
    version, shape, dtype, is_fortran, content = parts[3]
    return (
        version == 1
        and type(shape) is tuple
        and len(shape) <= 32
        and _are_counts(*shape)
        # Else an empty array could claim sizes that numpy does not take.
        and math.prod(max(1, size) for size in shape) < 2**31
        and type(is_fortran) is bool
        and _holds(dtype, math.prod(shape), content)
    )


def _holds(dtype: Any, count: int, content: Any) -> bool:
    """Tell whether there are the bytes of so many numbers of a type."""
    return (
        isinstance(dtype, InertObject)
        and dtype.cls == GlobalRef("numpy", "dtype")
        and dtype.args[:1] != ()
        and type(content) is bytes
        and len(content) == count * _ITEMSIZES.get(str(dtype.args[0]), -1)
    )


#: Known class -> whether an object of it is as the libraries write it. The
#: others are only named: types, storages, keys of callbacks.
_FORMS: dict[str, Callable[[InertObject], bool]] = {
    **dict.fromkeys(["Namespace", *_CONFIG.split()], _has_attributes),
    **dict.fromkeys(_PATHS.split(), _call(_are_texts)),
    "AttributeDict": _is_attribute_dict,
    "DatastoreKindStr": _call(_is_kind, how=How.NEWOBJ),
    "Counter": _call(_is_counter),
    "defaultdict": _call(_is_factory, "dict_items"),
    "Size": _call(_is_size),
    "device": _call(_is_device),
    "dtype": _call(_is_numpy_type, "state"),
    "scalar": _call(_is_numpy_scalar),
    "_reconstruct": _call(_is_numpy_array, "state"),
}
