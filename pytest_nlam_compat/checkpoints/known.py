"""The classes that checkpoints of neural-lam may name, and from where.

Each by its name, never by its package: torch and numpy have functions that
run what they are given, and a pickle may name those too.
"""

from __future__ import annotations

from pytest_nlam_compat.checkpoints.dtypes import DTYPES, STORAGES
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef

_CONFIG = (
    "DatastoreKindStr DatastoreSelection ManualStateFeatureWeighting "
    "NeuralLAMConfig OutputClamping TrainingConfig UniformFeatureWeighting"
)
_BUILTINS = (
    "bool bytearray bytes complex dict float frozenset int list object range "
    "set slice str tuple"
)
_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"
_SCALARS = (
    "bool_ bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 "
    "uint32 uint64 complex64 complex128 str_ bytes_ datetime64 timedelta64"
)
_REBUILD = (
    "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter "
    "_rebuild_parameter_with_state _rebuild_sparse_tensor _rebuild_qtensor "
    "_rebuild_nested_tensor _rebuild_meta_tensor_no_storage"
)

#: Owner -> module -> names.
_KNOWN: dict[str, dict[str, str]] = {
    "neural-lam": {"neural_lam.config": _CONFIG},
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
        "torch": " ".join([*STORAGES, *DTYPES, "Size", "Tensor", "device"]),
        "torch.cuda": " ".join(STORAGES),
        "torch.storage": "UntypedStorage TypedStorage",
        "torch._utils": _REBUILD,
        "torch.nn.parameter": "Parameter Buffer",
        "torch.serialization": "_get_layout",
    },
    "numpy": {
        "numpy": f"ndarray dtype {_SCALARS}",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
    },
    "Python": {
        "argparse": "Namespace",
        "builtins": _BUILTINS,
        "collections": "Counter OrderedDict defaultdict deque",
        "copyreg": "_reconstructor __newobj__",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "pathlib": _PATHS,
        "pathlib._local": _PATHS,
        "types": "SimpleNamespace",
        "uuid": "UUID",
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
        None for what no checkpoint of neural-lam has to name.
    """
    return _OWNERS.get((named.module, named.name))
