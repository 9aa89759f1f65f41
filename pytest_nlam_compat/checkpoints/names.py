"""Names of Python 2, by which pickles of protocol 2 still call things."""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING


def python3_name(module: str, name: str) -> tuple[str, str]:
    """Translate a name as unpickling it would, for protocols before 3.

    Parameters
    ----------
    module, name : str
        As the pickle has them.

    Returns
    -------
    tuple of str
        Module and name of today: ``__builtin__`` became ``builtins``.
    """
    module, name = NAME_MAPPING.get((module, name), (module, name))
    return IMPORT_MAPPING.get(module, module), name
