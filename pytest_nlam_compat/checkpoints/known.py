"""The classes and functions that checkpoints of neural-lam name, and how.

Each by its name, never by its package: torch and numpy have functions that
run their arguments, and a pickle may name those too. Even a harmless class can
do harm when it is called (``ModelCheckpoint("ftp://...")`` connects to a
server). So each is accepted only in the form in which Lightning, neural-lam
and the libraries write it; everything else stays a call that nobody makes.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from types import NoneType
from typing import Any, NamedTuple

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.refusals import DISTRUST, KEY_LENGTH
from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    STORAGES,
    UNTYPED,
    GlobalRef,
    How,
    InertObject,
    StorageRef,
    TensorRef,
)

CONVERT = (
    "If you trust its author: load it with torch.load in the environment that "
    "wrote it, convert this part or leave it out, and save it again."
)

_MOST_DIMENSIONS = 64
_LARGEST = 2**48
_LOCATION = re.compile(r"(?!meta)[a-z]+(:[0-9]{1,3})?")

#: Python's hash of an integer is its remainder by this: only below it no file
#: can bring many keys of one hash, which would take quadratic time.
_HASH_MODULUS = 2**61 - 1
_KEYS = (str, int, bool, float, NoneType, GlobalRef)


class MalformedError(ValueError):
    """Something in a pickle that is not accepted; the text says what."""

    def __init__(self, what: str, remedy: str = DISTRUST) -> None:
        super().__init__(what)
        self.remedy = remedy


def checked_keys(keys: list[Any]) -> list[Any]:
    """Return keys of a dict, or members of a set, that are cheap to hash."""
    for key in keys:
        if type(key) not in _KEYS:
            kind = type(key).__name__
            raise MalformedError(f"a key that is a {kind}", CONVERT)
        if type(key) is str and len(key) > KEY_LENGTH:
            raise MalformedError(f"a key of {len(key)} characters")
        if type(key) is int and abs(key) >= _HASH_MODULUS:
            raise MalformedError("a key that is a very large number")
    return keys


def storage(archive: Archive, pid: Any) -> StorageRef:
    """Resolve a persistent id, by which a pickle refers to a storage."""
    if not (
        type(pid) is tuple
        and len(pid) == 5
        and pid[0] == "storage"
        and isinstance(pid[1], GlobalRef)
        and all(type(part) is str for part in pid[2:4])
        and _are_counts(pid[4])
    ):
        raise MalformedError("a persistent id that is not that of a storage")
    _, cls, key, device, numel = pid
    dtype = "uint8" if cls == UNTYPED else STORAGES.get(cls.name)
    if dtype is None or cls not in KNOWN:
        raise MalformedError(f"an unknown kind of storage: {cls.path}")
    if not _LOCATION.fullmatch(device):
        raise MalformedError(f"a storage on an unknown device: {device}")
    ref = StorageRef(archive, key, cls, dtype, numel, device)
    record = archive.records.get(ref.record)
    if record is None:
        raise MalformedError(f"a storage that the file does not have: {key}")
    if record.size != ref.nbytes:
        raise MalformedError(
            f"a storage of {ref.nbytes} bytes whose record, {ref.record}, has "
            f"{record.size}"
        )
    return ref


# What calls make, by the table below alone and never by looking up.


class Made(NamedTuple):
    """A call that is made at once, with these numbers of arguments."""

    function: Callable[..., Any]
    counts: tuple[int, ...]


def _members(content: Any) -> list[Any]:
    if type(content) is not list:
        raise MalformedError("a set that is made of something else")
    return checked_keys(content)


def _encoded(text: Any, encoding: Any) -> bytes:
    # How protocol 2, which knows no bytes, writes them.
    if type(text) is not str or encoding != "latin1":
        raise MalformedError("bytes that are made of something else")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise MalformedError("bytes that are no bytes") from None


def _tensor(
    ref: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    *metadata: Any,
    dtype: str | None = None,
) -> TensorRef:
    """Describe the tensor that ``_rebuild_tensor_v2`` would make."""
    if metadata:
        what = "a tensor with metadata, as conjugated ones have"
        raise MalformedError(what, CONVERT)
    if not (
        type(ref) is StorageRef
        and (ref.cls == UNTYPED) is (dtype is not None)
        and _are_counts(offset)
        and type(shape) is type(stride) is tuple
        and _are_counts(*shape, *stride)
        and len(shape) == len(stride) <= _MOST_DIMENSIONS
    ):
        raise MalformedError("a tensor whose description makes no sense")
    name = dtype or ref.dtype
    _refuse_behaviour(requires_grad, hooks, name)
    made = TensorRef(ref, name, offset, shape, stride, requires_grad)
    # An empty tensor may begin anywhere, since it has no first element.
    sizes = math.prod(max(1, size) for size in shape)
    if made.span[1] > ref.nbytes or sizes > _LARGEST:
        raise MalformedError(
            f"a tensor that reaches beyond its storage, {ref.record}"
        )
    return made


def _tensor_of_type(*parts: Any) -> TensorRef:
    """Describe the tensor of ``_rebuild_tensor_v3``, on an untyped storage."""
    dtype = parts[6]
    if not isinstance(dtype, GlobalRef):
        raise MalformedError("a tensor whose description makes no sense")
    if dtype.module != "torch" or dtype.name not in ITEMSIZES:
        what = f"a tensor of an unknown type: {dtype.path}"
        raise MalformedError(what, CONVERT)
    return _tensor(*parts[:6], *parts[7:], dtype=dtype.name)


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> TensorRef:
    """Describe the parameter that ``_rebuild_parameter`` would make."""
    if type(data) is not TensorRef or data.is_parameter:
        raise MalformedError("a parameter whose description makes no sense")
    _refuse_behaviour(requires_grad, hooks, data.dtype)
    return replace(data, requires_grad=requires_grad, is_parameter=True)


def _refuse_behaviour(requires_grad: Any, hooks: Any, dtype: str) -> None:
    if type(requires_grad) is not bool or type(hooks) is not OrderedDict:
        raise MalformedError("a tensor whose description makes no sense")
    # torch itself never saves hooks; they would be functions to be called.
    if hooks or vars(hooks):
        raise MalformedError("a tensor with functions hooked to it")
    if requires_grad and not dtype.startswith(("float", "bfloat", "complex")):
        raise MalformedError(f"a gradient for a tensor of the type {dtype}")


def _are_counts(*values: Any) -> bool:
    return all(type(each) is int and 0 <= each <= _LARGEST for each in values)


# Objects that stay inert, each as the libraries write it.


class Form(NamedTuple):
    """The form of an object: the call, its arguments, what may fill it."""

    how: How
    fits: Callable[..., bool]
    filled_by: str = ""

    def accepts(self, made: InertObject) -> bool:
        """Tell whether an object has this form."""
        parts: tuple[Any, ...] = made.args
        if self.filled_by == "state":
            parts = *parts, made.state
        elif made.state not in (None, {}):
            return False
        if self.filled_by != "dict_items" and made.dict_items:
            return False
        return made.how is self.how and self.fits(*parts)


def _are_attributes(*parts: Any) -> bool:
    state = {} if parts == (None,) else parts[0]
    return len(parts) == 1 and type(state) is dict and _are_texts(*state)


def _are_texts(*parts: Any) -> bool:
    return all(type(part) is str for part in parts)


def _is_text(*parts: Any) -> bool:
    return len(parts) == 1 and _are_texts(*parts)


def _is_size(*parts: Any) -> bool:
    return (
        len(parts) == 1 and type(parts[0]) is tuple and _are_counts(*parts[0])
    )


def _is_device(*parts: Any) -> bool:
    kind, *index = parts or (None,)
    return (
        kind in ("cpu", "cuda", "mps", "xpu")
        and len(index) < 2
        and all(_are_counts(each) and each < 128 for each in index)
    )


def __is_tally(*parts: Any) -> bool:
    return len(parts) < 2 and all(
        type(table) is dict
        and all(type(each) is int for each in table.values())
        for table in parts
    )


def _is_tally(*parts: Any) -> bool:
    return len(parts) < 2 and all(
        type(table) is dict and {int}.issuperset(map(type, table.values()))
        for table in parts
    )


def _is_factory(*parts: Any) -> bool:
    return len(parts) < 2 and all(
        isinstance(part, GlobalRef)
        and part.module == "builtins"
        and part in KNOWN
        for part in parts
    )


def _is_numpy_type(*parts: Any) -> bool:
    return (
        len(parts) == 4
        and type(parts[0]) is str
        and _NUMPY_TYPE.fullmatch(parts[0]) is not None
        and parts[1:3] == (False, True)
        and parts[3] in _NUMPY_STATES
    )


def _is_numpy_scalar(*parts: Any) -> bool:
    if len(parts) != 2 or type(parts[0]) is not InertObject:
        return False
    # It was made before, and so has been checked before.
    dtype, content = parts
    return (
        dtype.cls == GlobalRef("numpy", "dtype")
        and type(content) is bytes
        and f"{len(content)}" == dtype.args[0][1:]
    )


_NUMPY_TYPE = re.compile("b1|[iu][1248]|f[248]")
_NUMPY_STATES = [(3, order, None, None, None, -1, -1, 0) for order in "<>|"]

_NAMED = None
_ATTRIBUTES = Form(How.NEWOBJ, _are_attributes, "state")
_ATTRIBUTE_DICT = Form(How.NEWOBJ, lambda *parts: not parts, "dict_items")
_PATH = Form(How.REDUCE, _are_texts)
_NUMPY_SCALAR = Form(How.REDUCE, _is_numpy_scalar)

#: Owner -> modules -> names -> what a call of it makes, or the form of its
#: objects, or that it is only named: types, storages, keys of callbacks.
_TABLE: dict[str, dict[str, dict[str, Made | Form | None]]] = {
    "neural-lam": {
        "neural_lam.config": {
            "DatastoreKindStr": Form(How.NEWOBJ, _is_text),
            "DatastoreSelection NeuralLAMConfig OutputClamping": _ATTRIBUTES,
            "ManualStateFeatureWeighting TrainingConfig": _ATTRIBUTES,
            "UniformFeatureWeighting": _ATTRIBUTES,
        }
    },
    "Lightning": {
        "lightning_fabric.utilities.data lightning.fabric.utilities.data": {
            "AttributeDict": _ATTRIBUTE_DICT
        },
        "pytorch_lightning.callbacks.model_checkpoint "
        "lightning.pytorch.callbacks.model_checkpoint": {
            "ModelCheckpoint": _NAMED
        },
        "pytorch_lightning.callbacks.early_stopping "
        "lightning.pytorch.callbacks.early_stopping": {"EarlyStopping": _NAMED},
    },
    "torch": {
        "torch": {
            " ".join([*STORAGES, *ITEMSIZES]): _NAMED,
            "Size": Form(How.REDUCE, _is_size),
            "device": Form(How.REDUCE, _is_device),
        },
        "torch.cuda": {" ".join(STORAGES): _NAMED},
        "torch.storage": {"UntypedStorage": _NAMED},
        "torch._utils": {
            "_rebuild_tensor_v2": Made(_tensor, (6, 7)),
            "_rebuild_tensor_v3": Made(_tensor_of_type, (7, 8)),
            "_rebuild_parameter": Made(_parameter, (3,)),
        },
    },
    "numpy": {
        "numpy": {"dtype": Form(How.REDUCE, _is_numpy_type, "state")},
        "numpy.core.multiarray numpy._core.multiarray": {
            "scalar": _NUMPY_SCALAR
        },
    },
    "Python": {
        "argparse": {"Namespace": _ATTRIBUTES},
        "builtins": {
            "bool dict float int list object str tuple": _NAMED,
            "bytes": Made(bytes, (0,)),
            "frozenset": Made(lambda part: frozenset(_members(part)), (1,)),
            "set": Made(lambda part: set(_members(part)), (1,)),
        },
        "collections": {
            "Counter": Form(How.REDUCE, _is_tally),
            "OrderedDict": Made(OrderedDict, (0,)),
            "defaultdict": Form(How.REDUCE, _is_factory, "dict_items"),
        },
        "pathlib pathlib._local": {
            "Path PosixPath PurePath PurePosixPath PureWindowsPath "
            "WindowsPath": _PATH,
        },
        "_codecs": {"encode": Made(_encoded, (2,))},
    },
}

#: What checkpoints of neural-lam name -> its owner, and its form as above.
KNOWN = {
    GlobalRef(module, name): (owner, form)
    for owner, table in _TABLE.items()
    for modules, forms in table.items()
    for module in modules.split()
    for names, form in forms.items()
    for name in names.split()
}


def owner(named: GlobalRef) -> str | None:
    """Return whose a name is, such as ``Lightning``; None if unknown."""
    return KNOWN.get(named, (None, None))[0]


def is_well_formed(made: InertObject) -> bool:
    """Tell whether a known class is used as the libraries write it."""
    if made.cls not in KNOWN:
        return True
    form = KNOWN[made.cls][1]
    return isinstance(form, Form) and form.accepts(made)
