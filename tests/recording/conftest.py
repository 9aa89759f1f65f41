"""A centre with a model of its own, pinned once for all tests."""

import io
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import nlam_runs
import pytest
from nlam_runs import CHECKOUT

from pytest_nlam_compat.cli import main

TESTS = CHECKOUT / "tests"


@pytest.fixture(scope="session")
def centre(tmp_path_factory):
    """Train with a release that is on a path, once.

    ``centre.trained("", model, graph, levels)`` is that of the installed one.

    Returns its folder, and what runs a command of ours with that release.
    """

    def path(first):
        return [Path(each) for each in (first, CHECKOUT, TESTS) if each]

    @cache
    def trained(first, model, graph, levels):
        import centre as module

        folder = tmp_path_factory.mktemp("centre")
        module.write_dataset(folder)
        words = [folder, model, graph, levels]
        done = nlam_runs.forked(module.main, words, folder, path(first))
        assert done.returncode == 0, done.stderr[-3000:]
        return folder

    def compat(first, folder, *words):
        if first:
            return nlam_runs.command(
                words, folder, path(first), {"COLUMNS": "100"}
            )
        # Here, where neural-lam has been imported.
        out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(folder)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                status = main([str(word) for word in words])
        finally:
            os.chdir(before)
        return SimpleNamespace(
            returncode=status, stdout=out.getvalue(), stderr=err.getvalue()
        )

    return SimpleNamespace(trained=trained, compat=compat)


@pytest.fixture(scope="session")
def production(centre):
    """Return the folder of a model of the installed release, pinned there."""
    folder = centre.trained("", "hi_lam", "hierarchical", 3)
    command = "pin production.ckpt --datastore config.yaml --into pinned"
    done = centre.compat("", folder, *command.split())
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    (folder / "announced.txt").write_text(done.stderr)
    return folder


@pytest.fixture
def copied(production, tmp_path):
    """Return a copy of what was pinned, to be damaged."""
    return Path(shutil.copytree(production / "pinned", tmp_path / "pinned"))
