"""What the importable neural_lam is, and which adapter fits it.

`neural_lam.__version__` of a development install is derived from git tags
and not reliable: what counts is which names the code has.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.release_evidence import published

if TYPE_CHECKING:
    from pytest_nlam_compat.adapters.adapter import Adapter


OLDEST = Version("0.4.0")
"""The first release that can be driven."""
EVIDENCE = {r: e for r, e in published().items() if r >= OLDEST}
# Newest first. A development install between two releases counts as the older
# one.
MARKERS = tuple(e.marker for e in reversed(EVIDENCE.values()) if e.marker)

# The names by which the two API eras are recognized: (module, name).
_FORECASTER = ("neural_lam.models", "ForecasterModule")
_ARMODEL = ("neural_lam.models.ar_model", "ARModel")

UPSTREAM = "neural_lam.migrations"
"""Module of neural-lam's own registry of migrations (#701)."""


@dataclass(frozen=True)
class CurrentCode:
    """The importable neural_lam."""

    # From its metadata; shown, never relied on alone.
    version: str
    # Folder of the package.
    path: Path
    # Newest release whose checkpoints it claims to load.
    release: Version
    # How that release was detected.
    evidence: str
    # Whether it is installed as that release, and no tree under development.
    released: bool = False


def has(module: str, name: str) -> bool:
    """Return whether an importable module has a name.

    That is an attribute of it or of a class in it, a parameter as in
    ``build_predictor(config)``, or an argument of its command line as in
    ``--loss``.
    """
    try:
        if importlib.util.find_spec(module) is None:
            return False
    except ModuleNotFoundError:
        # The package that would hold it is absent, too.
        return False
    found: Any = importlib.import_module(module)
    if name.startswith("--"):
        return name in command_line_arguments(found)
    path, _, parameter = name.removesuffix(")").partition("(")
    for part in path.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return not parameter or parameter in _parameters(found)


def _parameters(called: Any) -> Collection[str]:
    """Return the names of the parameters of a function or class, if any."""
    try:
        return inspect.signature(called).parameters
    except (TypeError, ValueError):
        return ()


def command_line_arguments(module: ModuleType) -> set[str]:
    """Return what looks like an argument of a command line in the source."""
    source = inspect.getsource(module)
    return set(re.findall(r"""["'](--[a-z][\w-]*)["']""", source))


def inventory() -> list[tuple[str, str]]:
    """List modules of neural_lam with the names in each, as `has` reads them.

    Public classes, functions and constants where they are defined, methods,
    parameters, and arguments of the command line. Names of the modules that
    people train with and of the models come first: these are what stays.
    """
    package = importlib.import_module("neural_lam")
    first = tuple(first_modules())
    modules = []
    for found in pkgutil.walk_packages(package.__path__, "neural_lam."):
        # A script, or what needs a package that is not installed.
        with suppress(Exception, SystemExit):
            modules.append(importlib.import_module(found.name))
    modules.sort(key=lambda module: not module.__name__.startswith(first))
    return [(m.__name__, name) for m in modules for name in _names_in(m)]


def _names_in(module: ModuleType) -> Iterator[str]:
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (_defined_in(module, value) if callable(value) else name.isupper())
    }
    called = {name: value for name, value in own.items() if callable(value)}
    yield from own
    for name, value in called.items():
        yield from (f"{name}({parameter})" for parameter in _parameters(value))
    for name, value in called.items():
        methods = vars(value) if inspect.isclass(value) else ()
        yield from (f"{name}.{one}" for one in methods if one[0] != "_")
    with suppress(OSError):
        yield from sorted(command_line_arguments(module))


def _defined_in(module: ModuleType, value: object) -> bool:
    is_one = inspect.isclass(value) or inspect.isfunction(value)
    return is_one and getattr(value, "__module__", "") == module.__name__


def first_modules() -> list[str]:
    """Return the modules that people train with, and the one of the models."""
    package = importlib.import_module("neural_lam")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    training = ["train_model"]
    if "train_model" not in names:
        training = [name for name in names if "train" in name] or training
    chosen = [*training, *(name for name in names if name == "models")]
    return [f"neural_lam.{name}" for name in chosen]


def probe() -> CurrentCode:
    """Import neural_lam and detect its release; CompatError if that fails."""
    spec = importlib.util.find_spec("neural_lam")
    if spec is None:
        raise CompatError(
            "There is no neural_lam to check: it can't be imported.",
            remedy="Install the code under test in this environment, for "
            "example with `pip install -e .` in a clone of neural-lam.",
        )
    for place in spec.submodule_search_locations or ():
        _raise_on_too_old(Path(place))
    try:
        package = importlib.import_module("neural_lam")
        for name in first_modules():
            importlib.import_module(name)
        if package.__file__ is None:
            raise ImportError("the folder has no __init__.py")
    # Whatever a working tree raises while it is imported is its cause; a
    # script that is imported by mistake leaves by SystemExit.
    except (Exception, SystemExit) as cause:
        raise CompatError(
            "neural_lam is installed but its import fails.",
            facts={
                "path": ", ".join(spec.submodule_search_locations or ["?"]),
                "cause": f"{type(cause).__name__}: {cause}",
            },
            remedy="`python -c 'import neural_lam.train_model'` shows the "
            "full traceback. Fix that first.",
        ) from cause
    folder = Path(package.__file__).parent
    before = takewhile(
        lambda each: not folder.samefile(each / folder.name),
        (each for each in map(Path, sys.path) if _is_tree(each / folder.name)),
    )
    raise_on_another(folder, before)
    version, copied = own_metadata(folder)
    release, evidence = _release(version)
    released = copied and version == str(release)
    return CurrentCode(version, folder, release, evidence, released)


def raise_on_another(imported: Path, roots: Iterable[Path]) -> None:
    """Raise if a folder holds a neural_lam that is not the imported one.

    Whoever runs checks there takes that one to be checked.
    """
    for root in roots:
        other = root / "neural_lam"
        if not _is_tree(other) or other.samefile(imported):
            continue
        _raise_on_too_old(other)
        raise CompatError(
            "Another neural_lam is imported than the one that is here.",
            facts={
                "here": other.absolute(),
                "imported": imported,
                "has an __init__.py": "yes"
                if (other / "__init__.py").exists()
                else "no, so that Python goes on searching",
            },
            remedy="Install the one that is to be checked, for example with "
            "`pip install -e .` in its clone, or put its folder first on "
            "PYTHONPATH.",
        )


def _is_tree(folder: Path) -> bool:
    return any(folder.glob("*.py"))


def _raise_on_too_old(folder: Path) -> None:
    """Raise if a tree has the layers of old releases, and no clamping (#92)."""
    if not (folder / "interaction_net.py").exists() or any(
        "output_clamping" in file.read_text(encoding="utf-8")
        for file in folder.rglob("*.py")
    ):
        return
    raise CompatError(
        "This neural_lam is too old to be checked.",
        facts={"path": folder, "oldest that can be": f"neural-lam {OLDEST}"},
        remedy="Check a later one. Checkpoints of older releases are among "
        "what it is checked with.",
    )


def own_metadata(folder: Path) -> tuple[str, bool]:
    """Return the version of the install that a package is of, if it is of one.

    What is on the path before an install has other metadata than that, or
    none. The second value is whether the install is a copy, not editable.
    """
    first = folder.resolve() / "__init__.py"
    for found in importlib.metadata.distributions(name="neural-lam"):
        if any(
            file.parts == ("neural_lam", "__init__.py")
            and Path(str(file.locate())).resolve() == first
            for file in found.files or ()
        ):
            return found.version, found.read_text("RECORD") is not None
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            tree = url2pathname(urlsplit(origin["url"]).path)
            if first.is_relative_to(Path(tree).resolve()):
                return found.version, False
    return "unknown", False


def _release(version: str) -> tuple[Version, str]:
    """Return the newest release by markers or metadata, and the evidence.

    The metadata only ever raises the answer: a pull request that renames a
    marker must not silence the references of the newest release.
    """
    release, evidence = OLDEST, "the absence of later markers"
    for marker in MARKERS:
        if has(marker.module, marker.name) is marker.present:
            release, evidence = Version(marker.release), str(marker)
            break
    claimed = None
    with suppress(InvalidVersion):
        claimed = Version(version)
    newest = max(EVIDENCE)
    if claimed and release < newest <= claimed:
        return newest, f"its version, {version}"
    alike = _alike(release)
    if claimed == release:
        return release, evidence
    if claimed in alike:
        return claimed, f"its version, {version}"
    return alike[-1], evidence


def _alike(release: Version) -> list[Version]:
    """Return a release and those after it that code can't be told apart from.

    Code that may be any of them has to pass the references of all.
    """
    later = [each for each in EVIDENCE if each > release]
    followers = takewhile(lambda each: not EVIDENCE[each].marker, later)
    return [release, *followers]


def select_adapter(current: CurrentCode) -> Adapter:
    """Return the adapter of the API era that the current code belongs to.

    An unknown one is driven as the newest, which finds by their roles what it
    needs.
    """
    if has(*_ARMODEL) and not has(*_FORECASTER):
        from pytest_nlam_compat.adapters.armodel import ARModelAdapter

        return ARModelAdapter(current)
    from pytest_nlam_compat.adapters.forecaster import ForecasterAdapter

    return ForecasterAdapter(current)


@dataclass(frozen=True)
class UpstreamRegistry:
    """The registry of migrations in neural_lam itself."""

    # Objects with ``target_version``, ``description``, ``apply`` (None for a
    # hard break) and ``hard_break``, in the order of their list.
    migrations: tuple[Any, ...]
    # The stamp of a file that the code writes.
    newest: int


def upstream_registry() -> UpstreamRegistry | None:
    """Return the current code's own registry, None if it has none."""
    if importlib.util.find_spec(UPSTREAM) is None:
        return None
    module = importlib.import_module(UPSTREAM)
    if not hasattr(module, "MIGRATIONS"):
        return None
    migrations = tuple(module.MIGRATIONS)
    newest = max((one.target_version for one in migrations), default=0)
    return UpstreamRegistry(
        migrations, getattr(module, "CURRENT_CHECKPOINT_VERSION", newest)
    )
