"""A package that we need and that can't be imported: one clear error."""

import importlib
import os
import subprocess
import sys

import pytest

from pytest_nlam_compat import errors
from pytest_nlam_compat.errors import clear_import_errors

WHAT = "pytest-nlam-compat, or a package that it needs, can't be imported."
RAISES = {
    "torch": "OSError('libtorch_cuda.so: cannot open shared object file')",
    "numpy": "ImportError('numpy.core.multiarray failed to import')",
    "safetensors": "ImportError('_safetensors_rust: wrong ELF class')",
    "requests": "ModuleNotFoundError('No module named requests')",
    "pytest_regressions": "AttributeError('module has no attribute x')",
}
TEST = "def test_any(nlam_reference):\n    pass\n"
# What torch does beside a numpy that it was not built for.
MISMATCH = """
import torch

def numpy(self):
    raise RuntimeError("Numpy is not available")

torch.Tensor.numpy = numpy
"""


@pytest.fixture
def run(tmp_path):
    """Run a module in a folder where packages are broken."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_any.py").write_text(TEST)

    def running(broken, *command, **environment):
        path = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
        if broken:
            # Not a folder beside the test, which pytest itself might import.
            package = tmp_path / "broken" / broken
            package.mkdir(parents=True)
            (package / "__init__.py").write_text(f"raise {RAISES[broken]}\n")
            path.insert(0, str(package.parent))
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *command],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path),
                # Other plugins import numpy, and fail before us.
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                **environment,
            },
            capture_output=True,
            text=True,
        )

    return running


def test_any_other_error_stays_what_it_is():
    def fails():
        raise ValueError("no import")

    with pytest.raises(ValueError, match="no import"):
        with clear_import_errors():
            fails()


@pytest.mark.parametrize(
    ("code", "cause", "line"),
    [
        ("\nRename(1)\n", "NameError: name 'Rename' is not defined", 2),
        (
            "from pytest_nlam_compat.errors import Nothing\n",
            "ImportError: cannot import name 'Nothing'",
            1,
        ),
        (
            "import pytest_nlam_compat.nothing\n",
            "ModuleNotFoundError: No module named 'pytest_nlam_compat.nothing'",
            1,
        ),
        ("x = 1\n\nx = (\n", "SyntaxError: '(' was never closed", 3),
    ],
)
def test_a_module_of_ours(code, cause, line, tmp_path, monkeypatch):
    file = tmp_path / "pytest_nlam_compat" / "edited.py"
    file.parent.mkdir()
    file.write_text(code)
    monkeypatch.syspath_prepend(file.parent)
    with pytest.raises(errors.CompatError) as caught:
        with clear_import_errors():
            importlib.import_module("edited")
    assert caught.value.what == WHAT
    assert caught.value.facts["cause"].startswith(cause)
    assert caught.value.facts["raised in"] == f"{file}:{line}"
    assert "If you have edited that file, fix it." in caught.value.remedy


PYTEST = ("pytest", "-p", "pytest_nlam_compat.plugin")


def cause(broken):
    kind, _, text = RAISES[broken].partition("('")
    return f"  cause: {kind}: {text.removesuffix(chr(39) + ')')}"


@pytest.mark.parametrize(
    "broken", ["torch", "numpy", "safetensors", "pytest_regressions"]
)
@pytest.mark.parametrize("options", [("--nlam-compat",), ("test_any.py",)])
def test_in_pytest(run, broken, options):
    result = run(broken, *PYTEST, *options)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {WHAT}" in result.stderr.splitlines()
    assert cause(broken) in result.stderr.splitlines()
    assert f"  python: {sys.executable}" in result.stderr
    assert "pip check" in result.stderr
    assert "INTERNALERROR" not in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.neural_lam
@pytest.mark.slow
def test_torch_that_was_built_for_another_numpy(run, tmp_path):
    (tmp_path / "mismatch.py").write_text(MISMATCH)
    result = run(None, *PYTEST, "-p", "mismatch", "--nlam-compat")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {WHAT}" in result.stderr.splitlines()
    assert "  cause: RuntimeError: Numpy is not available" in result.stderr


@pytest.mark.parametrize(
    ("broken", "command"),
    [
        ("requests", ("fetch", "--url", "http://127.0.0.1:9/")),
        ("torch", ("suggest",)),
    ],
)
def test_on_the_command_line(run, broken, command, tmp_path):
    result = run(
        broken,
        "pytest_nlam_compat",
        *command,
        NLAM_COMPAT_CACHE=str(tmp_path / "cache"),
    )
    assert (result.returncode, result.stdout) == (1, "")
    what, why, *_ = result.stderr.splitlines()
    assert (what, why) == (WHAT, cause(broken))
    assert "Traceback" not in result.stderr
