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
from dataclasses import replace
from types import NoneType
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    STORAGES,
    GlobalRef,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.files.refusals import CONVERT, DISTRUST, KEY_LENGTH

#: Owner, form, module and names. The form is that of an object, as in
#: `is_well_formed`; "value" for what `make` makes; "name" for what is never
#: called: types, storages, keys of callbacks.
_TABLE = f"""
neural-lam text neural_lam.config DatastoreKindStr
neural-lam attributes neural_lam.config DatastoreSelection NeuralLAMConfig
neural-lam attributes neural_lam.config ManualStateFeatureWeighting
neural-lam attributes neural_lam.config OutputClamping TrainingConfig
neural-lam attributes neural_lam.config UniformFeatureWeighting
Lightning items lightning_fabric.utilities.data AttributeDict
Lightning items lightning.fabric.utilities.data AttributeDict
Lightning name pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint
Lightning name lightning.pytorch.callbacks.model_checkpoint ModelCheckpoint
Lightning name pytorch_lightning.callbacks.early_stopping EarlyStopping
Lightning name lightning.pytorch.callbacks.early_stopping EarlyStopping
torch value torch._utils _rebuild_tensor_v2 _rebuild_parameter
torch sizes torch Size
torch device torch device
torch name torch {" ".join([*STORAGES, *ITEMSIZES])}
torch name torch.cuda {" ".join(STORAGES)}
numpy numpy-type numpy dtype
numpy numpy-scalar numpy.core.multiarray scalar
numpy numpy-scalar numpy._core.multiarray scalar
Python value collections OrderedDict
Python counts collections Counter
Python defaults collections defaultdict
Python attributes argparse Namespace
Python path pathlib Path PosixPath WindowsPath
Python path pathlib PurePath PurePosixPath PureWindowsPath
Python path pathlib._local Path PosixPath WindowsPath
Python path pathlib._local PurePath PurePosixPath PureWindowsPath
Python value builtins bytes frozenset set
Python value _codecs encode
Python name builtins bool dict float int list object str tuple
"""

#: What checkpoints of neural-lam name -> its owner, and its form.
KNOWN = {
    GlobalRef(module, name): (owner, form)
    for owner, form, module, *names in map(str.split, _TABLE.split("\n")[1:-1])
    for name in names
}

LARGEST = 2**48
MOST_DIMENSIONS = 64
_LOCATION = re.compile(r"(?!meta)[a-z]+(:[0-9]{1,3})?")
_NUMPY_TYPE = re.compile("b1|[iu][1248]|f[248]")
_KEYS = (str, int, bool, float, NoneType, GlobalRef)

#: Numbers below this many more than there are keys are not odd.
_SMALL = 4096


class MalformedError(ValueError):
    """Something in a pickle that is not accepted; the text says what."""

    def __init__(self, what: str, remedy: str = DISTRUST) -> None:
        super().__init__(what)
        self.remedy = remedy


def is_well_formed(made: InertObject) -> bool:
    """Tell whether a known class is used as the libraries write it."""
    _, form = KNOWN.get(made.cls, ("", "unknown"))
    if form == "unknown":
        return True
    if made.is_call == (form in ("attributes", "items", "text")):
        return False
    has_items, state = bool(made.dict_items), made.state
    is_bare = state in (None, {}) and not has_items
    match form, made.args:
        case "attributes", ():
            is_state = type(state) in (NoneType, dict) and not has_items
            return is_state and set(map(type, state or ())) <= {str}
        case "items", ():
            return state in (None, {})
        case "text", (str(),):
            return is_bare
        case "path", parts:
            return is_bare and set(map(type, parts)) <= {str}
        case "sizes", (tuple(sizes),):
            return is_bare and _are_counts(*sizes)
        case "device", ("cpu" | "cuda" | "mps" | "xpu", *index):
            is_index = len(index) < 2 and _are_counts(*index)
            return is_bare and is_index and all(each < 128 for each in index)
        case "counts", () | (dict(),):
            counts = [each for part in made.args for each in part.values()]
            return is_bare and set(map(type, counts)) <= {int}
        case "defaults", () | (GlobalRef(module="builtins"),):
            return state is None and all(part in KNOWN for part in made.args)
        case "numpy-type", (str(name), False, True):
            orders = [(3, o, None, None, None, -1, -1, 0) for o in "<>|"]
            is_state = state in orders and not has_items
            return is_state and bool(_NUMPY_TYPE.fullmatch(name))
        case "numpy-scalar", (InertObject() as dtype, bytes(content)):
            # The type was made before, and so has been checked before.
            is_type = dtype.cls == GlobalRef("numpy", "dtype")
            is_size = is_type and f"{len(content)}" == dtype.args[0][1:]
            return is_bare and is_size
    return False


def make(called: GlobalRef, args: tuple[Any, ...]) -> Any:
    """Return what one of the few calls makes whose meaning is known."""
    match called.name, args:
        case "OrderedDict", ():
            return OrderedDict()
        case "set", (list(members),):
            return set(checked_keys(members))
        case "frozenset", (list(members),):
            return frozenset(checked_keys(members))
        case "bytes", ():
            return b""
        case "encode", (str(text), "latin1"):
            # How protocol 2, which knows no bytes, writes them.
            content = text.encode("latin-1", "ignore")
            if len(content) == len(text):
                return content
        case "_rebuild_tensor_v2", (StorageRef() as ref, *view):
            return _tensor(ref, view)
        case "_rebuild_parameter", (TensorRef() as data, requires_grad, hooks):
            if not data.is_parameter:
                _refuse_behaviour(requires_grad, hooks, data.dtype)
                return replace(
                    data, requires_grad=requires_grad, is_parameter=True
                )
    raise MalformedError(f"a call of {called.path} with unknown arguments")


def _tensor(ref: StorageRef, view: list[Any]) -> TensorRef:
    """Describe a tensor, if all of it is inside of its storage."""
    match view:
        case [offset, tuple(shape), tuple(stride), requires_grad, hooks] if len(
            shape
        ) == len(stride) <= MOST_DIMENSIONS and _are_counts(
            offset, *shape, *stride
        ):
            _refuse_behaviour(requires_grad, hooks, ref.dtype)
        case [_, _, _, _, _, _]:
            what = "a tensor with metadata, as conjugated ones have"
            raise MalformedError(what, CONVERT)
        case _:
            raise MalformedError("a tensor whose description makes no sense")
    made = TensorRef(ref, ref.dtype, offset, shape, stride, requires_grad)
    # An empty tensor may begin anywhere, since it has no first element.
    sizes = math.prod(max(1, size) for size in shape)
    if made.span[1] > ref.nbytes or sizes > LARGEST:
        what = f"a tensor that reaches beyond its storage, {ref.record}"
        raise MalformedError(what)
    return made


def _refuse_behaviour(requires_grad: Any, hooks: Any, dtype: str) -> None:
    if type(requires_grad) is not bool or type(hooks) is not OrderedDict:
        raise MalformedError("a tensor whose description makes no sense")
    # torch itself never saves hooks; they would be functions to be called.
    if hooks or vars(hooks):
        raise MalformedError("a tensor with functions hooked to it")
    if requires_grad and not dtype.startswith(("float", "bfloat", "complex")):
        raise MalformedError(f"a gradient for a tensor of the type {dtype}")


def storage(archive: Archive, pid: Any) -> StorageRef:
    """Resolve a persistent id, by which a pickle refers to a storage."""
    match pid:
        case ("storage", GlobalRef() as cls, str(key), str(device), numel):
            is_storage = type(pid) is tuple and _are_counts(numel)
        case _:
            is_storage = False
    if not is_storage:
        raise MalformedError("a persistent id that is not that of a storage")
    if cls not in KNOWN or cls.name not in STORAGES:
        raise MalformedError(f"an unknown kind of storage: {cls.path}")
    if not _LOCATION.fullmatch(device):
        raise MalformedError(f"a storage on an unknown device: {device}")
    ref = StorageRef(archive, key, cls, STORAGES[cls.name], numel, device)
    record = archive.records.get(ref.record)
    if record is None:
        raise MalformedError(f"a storage that the file does not have: {key}")
    if record.size != ref.nbytes:
        what = f"a storage of {ref.nbytes} bytes whose record, {ref.record}"
        raise MalformedError(f"{what}, has {record.size}")
    return ref


def checked_keys(keys: list[Any]) -> list[Any]:
    """Return keys of a dict, or members of a set, that are cheap to hash."""
    for key in keys:
        if type(key) not in _KEYS:
            kind = type(key).__name__
            raise MalformedError(f"a key that is a {kind}", CONVERT)
        if type(key) is str and len(key) > KEY_LENGTH:
            raise MalformedError(f"a key of {len(key)} characters")
        # Its hash is the remainder by this: many may have the same.
        if type(key) is int and abs(key) >= 2**61 - 1:
            raise MalformedError("a key that is a very large number")
    return keys


def odd_numbers(keys: list[Any], before: int = 0) -> int:
    """Count the numbers that may be made to share the slots of a dict.

    Python's hash of a number is known, unlike that of text, and many that meet
    take quadratic time. Numbers that count up, as an optimizer's do, each have
    a slot of their own. `before` is how many keys the dict has already.
    """
    return sum(
        type(key) in (int, float)
        and not (0 <= key < place and hash(key) == key)
        for place, key in enumerate(keys, before + _SMALL)
    )


def _are_counts(*values: Any) -> bool:
    return all(type(each) is int and 0 <= each <= LARGEST for each in values)
