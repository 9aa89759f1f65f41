"""Options of pytest that contradict references: refused before any test."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from pytest_nlam_compat.checks.report_files import report_paths
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.store import Store

# Options whose values are read, or are no paths.
_READ = {
    "confcutdir",
    "deselect",
    "file_or_dir",
    "ignore",
    "ignore_glob",
    "inifilename",
    "keyword",
    "markexpr",
    "rootdir",
}
# Options that are paths even without a separator.
_WRITTEN = {"basetemp", "debug", "log_file", "xmlpath"}
_PINNED = "nlam_compat_references"
_SPELLING = {"xmlpath": "--junitxml"}


def locate_store(config: pytest.Config) -> Store:
    """Find the references, which no option of pytest may touch.

    Raises
    ------
    CompatError
        An option would rewrite, delete or pass over some.
    """
    _refuse_regeneration(config)
    store = Store.locate(
        url=config.getoption("nlam_compat_url")
        or config.getini("nlam_compat_url")
        or None,
        offline=config.getoption("nlam_compat_offline"),
    )
    for folder in store.folder, *pinned_folders(config):
        _refuse_outputs_in(config, folder)
    return store


def pinned_folders(config: pytest.Config) -> list[Path]:
    """Return the folders of pinned references: of variable, ini and options."""
    variable = os.environ.get("NLAM_COMPAT_REFERENCES", "")
    here = config.invocation_params.dir
    folders = [
        *(Path(each) for each in variable.split(os.pathsep) if each),
        *config.getini(_PINNED),
        *(here / each for each in config.getoption(_PINNED)),
    ]
    return list(dict.fromkeys(folders))


def _refuse_regeneration(config: pytest.Config) -> None:
    """Refuse what would pass without comparing, or rewrite a golden."""
    for option in ("regen_all", "force_regen"):
        if config.getoption(option, default=False):
            flag = "--" + option.replace("_", "-")
            raise CompatError(
                f"{flag} can't be used with references of neural-lam: they "
                "are frozen.",
                remedy=f"Leave {flag} out, or deselect the tests that use "
                "nlam_reference.",
            )


def _refuse_outputs_in(config: pytest.Config, folder: Path) -> None:
    """Refuse options by which pytest would write beside the references.

    Nor may it clear a folder around them, as it does with ``--basetemp``.
    """
    folder, here = folder.resolve(), config.invocation_params.dir
    for option, path in _outputs(config):
        around = option == "--basetemp" and folder.is_relative_to(path)
        if around or path.is_relative_to(folder):
            # Nor may the report that the run could not begin be written there.
            config.option.nlam_compat_report = [
                report
                for report in config.option.nlam_compat_report
                if not (here / report).resolve().is_relative_to(folder)
            ]
            raise CompatError(
                f"{option} would write where the references are, which are "
                "frozen.",
                facts={"path": path, "references": folder},
                remedy="Choose another path.",
            )


def _outputs(config: pytest.Config) -> Iterator[tuple[str, Path]]:
    here = config.invocation_params.dir
    for name, value in vars(config.option).items():
        if name in _READ or name.startswith("nlam_"):
            continue
        is_text = isinstance(value, str) and value != ""
        if isinstance(value, Path) or (
            is_text and (name in _WRITTEN or os.sep in value)
        ):
            option = _SPELLING.get(name, f"--{name.replace('_', '-')}")
            yield option, (here / value).resolve()
    base = config.inipath.parent if config.inipath else config.rootpath
    for path in report_paths(config):
        yield "--nlam-compat-report", path.resolve()
    if file := config.getini("log_file"):
        yield "log_file", (base / file).resolve()
    if config.pluginmanager.has_plugin("cacheprovider"):
        cache = os.path.expandvars(config.getini("cache_dir"))
        yield "cache_dir", (config.rootpath / cache).resolve()


def refuse_missing_fixtures(
    config: pytest.Config, wanted: Collection[str]
) -> None:
    """Refuse to run checks without a plugin whose fixtures they use."""
    import pytest_datadir.plugin
    import pytest_regressions.plugin

    missing = [
        module.__name__
        for module in (pytest_datadir.plugin, pytest_regressions.plugin)
        if not config.pluginmanager.is_registered(module)
    ]
    if missing and "file_regression" in wanted:
        options = " ".join(f"-p {name}" for name in missing)
        raise CompatError(
            "The checks need plugins of pytest that are off.",
            facts={"off": ", ".join(missing)},
            remedy=f"Add {options}, or leave out what turns them off: -p no:..."
            " or PYTEST_DISABLE_PLUGIN_AUTOLOAD.",
        )
