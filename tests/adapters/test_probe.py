"""Which release the importable neural_lam is detected as, and why."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import packaging
import pytest
from listed_releases import NEWEST, RECORDED
from packaging.version import Version

from pytest_nlam_compat.adapters import probe as probing
from pytest_nlam_compat.adapters.probe import (
    EVIDENCE,
    MARKERS,
    OLDEST,
    CurrentCode,
    has,
    inventory,
    probe,
)
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.release_evidence import ReleaseEvidence

PACKAGE = Path(probing.__file__).parents[2]


@pytest.fixture
def current(current_adapter):
    return current_adapter.current


@pytest.mark.neural_lam
def test_the_installed_release_is_recognised(current):
    import neural_lam

    version = importlib.metadata.version("neural-lam")
    marker = EVIDENCE[Version(NEWEST)].marker
    assert current == CurrentCode(
        version=version,
        path=Path(neural_lam.__file__).parent,
        release=Version(NEWEST),
        evidence=str(marker) if marker else f"its version, {version}",
        released=True,
    )


def test_each_release_that_can_be_driven_has_an_entry():
    assert [str(release) for release in EVIDENCE] == RECORDED


def test_markers_are_newest_first():
    releases = [Version(marker.release) for marker in MARKERS]
    assert releases == sorted(releases, reverse=True)
    assert releases[-1] > OLDEST


# What a development install may lack or have, and what it is detected as.
HISTORY = [
    # A build of 0.7.0, whatever its metadata says.
    ([], "0.7.0", "0.7.0", "train_model.build_predictor"),
    ([], "unknown", "0.7.0", "train_model.build_predictor"),
    ([], "0.5.1", "0.7.0", "train_model.build_predictor"),
    ([], "0.8.0", "0.7.0", "train_model.build_predictor"),
    # Between 0.6.0 and 0.7.0: before #688.
    (
        ["0.7.0"],
        "0.6.1.dev9",
        "0.6.0",
        "utils.zero_index_g2m",
    ),
    (["0.7.0"], "unknown", "0.6.0", "utils.zero_index_g2m"),
    # A pull request on 0.7.0 or later that renamed the marker.
    (["0.7.0"], "0.7.0", "0.7.0", "its version, 0.7.0"),
    (["0.7.0"], "0.7.1.dev3+g1", "0.7.0", "its version, 0.7.1.dev3+g1"),
    (["0.7.0", "0.6.0"], "1.0", "0.7.0", "its version, 1.0"),
    # Releases that came before.
    (
        ["0.7.0", "0.6.0"],
        "0.5.0",
        "0.5.0",
        "the absence of config.DatastoreKindStr",
    ),
    (
        ["0.7.0", "0.6.0", "0.5.0"],
        "0.4.0",
        "0.4.0",
        "the absence of later markers",
    ),
    # Older metadata never lowers the answer to a release without a marker.
    (
        ["0.7.0", "0.6.0", "0.5.0"],
        "0.3.0",
        "0.4.0",
        "the absence of later markers",
    ),
]


def until(monkeypatch, newest, **later):
    """Forget the releases after one, or know of others."""
    known = {r: e for r, e in EVIDENCE.items() if r <= Version(newest)}
    known |= {Version(release): entry for release, entry in later.items()}
    markers = [entry.marker for entry in known.values() if entry.marker]
    monkeypatch.setattr(probing, "EVIDENCE", known)
    monkeypatch.setattr(probing, "MARKERS", markers[::-1])


@pytest.mark.neural_lam
@pytest.mark.usefixtures("current_adapter")
@pytest.mark.parametrize(
    ("version", "release", "evidence"),
    [
        # Code that may be either has to pass the references of both.
        ("unknown", "0.7.2", "train_model.build_predictor"),
        ("0.7.1.dev3", "0.7.2", "train_model.build_predictor"),
        ("0.7.0", "0.7.0", "train_model.build_predictor"),
        ("0.7.1", "0.7.1", "its version, 0.7.1"),
        ("0.7.2", "0.7.2", "its version, 0.7.2"),
        ("0.8.0", "0.7.2", "its version, 0.8.0"),
    ],
)
def test_releases_whose_code_has_the_same_names(
    monkeypatch, version, release, evidence
):
    alike = dict.fromkeys(["0.7.1", "0.7.2"], ReleaseEvidence())
    until(monkeypatch, "0.7.0", **alike)
    monkeypatch.setattr(
        probing, "own_metadata", lambda folder: (version, False)
    )
    current = probe()
    assert (str(current.release), current.evidence) == (release, evidence)


@pytest.mark.neural_lam
@pytest.mark.usefixtures("current_adapter")
@pytest.mark.parametrize(("without", "version", "release", "evidence"), HISTORY)
def test_development_installs(monkeypatch, without, version, release, evidence):
    """The real code, with markers taken away from it."""
    until(monkeypatch, "0.7.0")
    for marker in MARKERS:
        if marker.release in without:
            module = sys.modules[marker.module]
            if marker.present:
                monkeypatch.delattr(module, marker.name)
            else:
                monkeypatch.setattr(module, marker.name, object, raising=False)
    monkeypatch.setattr(
        probing, "own_metadata", lambda folder: (version, False)
    )
    current = probe()
    assert current.version == version
    assert (str(current.release), current.evidence) == (release, evidence)


def install(tmp_path, listed="", origin=None):
    """Write the metadata of an install, and a package beside it."""
    metadata = tmp_path / "site" / "neural_lam-0.5.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: neural-lam\nVersion: 0.5.0\n")
    (metadata / "RECORD").write_text(listed)
    if origin is not None:
        (metadata / "direct_url.json").write_text(json.dumps(origin))
    for place in ("site", "clone", "elsewhere"):
        package = tmp_path / place / "neural_lam"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()


@pytest.mark.parametrize(
    ("editable", "expected"),
    [
        (None, {"site": ("0.5.0", True)}),
        (True, {"clone": ("0.5.0", False)}),
        # A copy that was installed from a clone says nothing of the clone.
        (False, {}),
    ],
)
def test_metadata_are_those_of_the_package(
    tmp_path, monkeypatch, editable, expected
):
    if editable is None:
        install(tmp_path, "neural_lam/__init__.py,,\n")
    else:
        url = (tmp_path / "clone").as_uri()
        origin = {"url": url, "dir_info": {"editable": editable}}
        install(tmp_path, "__editable__.neural_lam.pth,,\n", origin)
    monkeypatch.syspath_prepend(tmp_path / "site")
    for place in ("site", "clone", "elsewhere"):
        found = probing.own_metadata(tmp_path / place / "neural_lam")
        assert found == expected.get(place, ("unknown", False))


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("json", "dumps", True),
        ("json", "no_such_name", False),
        ("json.decoder", "JSONDecoder", True),
        ("json.no_such_module", "name", False),
        ("json.no_such_module.below", "name", False),
        ("json.decoder.below", "name", False),  # its parent is no package
        ("no_such_package", "name", False),
        ("no_such_package.below", "name", False),
        ("json", "JSONDecoder.decode", True),
        ("json", "JSONDecoder.no_such_method", False),
        ("json", "JSONDecoder(strict)", True),
        ("json", "JSONDecoder(no_such_parameter)", False),
        ("json", "dumps(indent)", True),
        ("json", "no_such_name(indent)", False),
        ("json", "__name__(indent)", False),
        ("json.tool", "--indent", True),
        ("json.tool", "--inden", False),
    ],
)
def test_has(module, name, expected):
    assert has(module, name) is expected


def test_no_neural_lam(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_lam", None)
    with pytest.raises(CompatError) as raised:
        probe()
    assert str(raised.value) == (
        "There is no neural_lam to check: it can't be imported.\n"
        "Install the code under test in this environment, for example with "
        "`pip install -e .` in a clone of neural-lam."
    )


def probed(folder, *options):
    """Probe in a process of its own, with a folder before all others."""
    code = (
        "import sys\n"
        f"sys.path[:0] = {[str(folder), str(PACKAGE)]}\n"
        "from pytest_nlam_compat.adapters.probe import probe\n"
        "from pytest_nlam_compat.errors import CompatError\n"
        "try:\n"
        "    probe()\n"
        "except CompatError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True
    )
    assert run.stderr == ""
    return run.stdout


def broken(path, cause):
    return (
        "neural_lam is installed but its import fails.\n"
        f"  path: {path}\n"
        f"  cause: {cause}\n"
        "`python -c 'import neural_lam.train_model'` shows the full traceback. "
        "Fix that first.\n"
    )


@pytest.mark.parametrize(
    ("file", "content", "cause"),
    [
        (
            "__init__.py",
            "import no_such_dependency",
            "ModuleNotFoundError: No module named 'no_such_dependency'",
        ),
        (
            "train_model.py",
            "from neural_lam import models",
            "ImportError: cannot import name 'models' from 'neural_lam' "
            "({package}/__init__.py)",
        ),
        ("train_model.py", "1 / 0", "ZeroDivisionError: division by zero"),
        # A script that was never meant to be imported.
        ("train_model.py", "raise SystemExit(2)", "SystemExit: 2"),
        (
            "train_model.py",
            "def main(:",
            "SyntaxError: invalid syntax (train_model.py, line 1)",
        ),
        (
            "models.py",  # so that there is no train_model.py
            "",
            "ModuleNotFoundError: No module named 'neural_lam.train_model'",
        ),
    ],
)
def test_a_neural_lam_whose_import_fails(tmp_path, file, content, cause):
    package = tmp_path / "neural_lam"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / file).write_text(content)
    assert probed(tmp_path) == broken(package, cause.format(package=package))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        # A tree of 0.2 or 0.3, and one of 0.1, which is no package.
        (["__init__.py", "interaction_net.py"], "too old to be checked."),
        (["interaction_net.py"], "too old to be checked."),
        # A later one whose __init__.py was lost.
        (["train_model.py"], "no, so that Python goes on searching"),
    ],
)
def test_trees_that_would_be_taken_for_something_else(tmp_path, files, said):
    package = tmp_path / "neural_lam"
    package.mkdir()
    for file in files:
        (package / file).touch()
    text = probed(tmp_path)
    assert said in text
    assert f": {package}" in text


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        # The folder of a clone, from the folder that holds it.
        (
            ["neural_lam/__init__.py"],
            "ModuleNotFoundError: No module named 'neural_lam.train_model'",
        ),
        (["train_model.py"], "ImportError: the folder has no __init__.py"),
    ],
)
def test_a_folder_that_only_has_the_name(tmp_path, files, cause):
    package = tmp_path / "neural_lam"
    for file in files:
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).touch()
    # Without what is installed, where a real one would be found first.
    (tmp_path / "packaging").symlink_to(Path(packaging.__file__).parent)
    assert probed(tmp_path, "-S", "-E") == broken(package, cause)


@pytest.fixture(scope="module")
def names(current_adapter):
    return inventory()


@pytest.mark.neural_lam
def test_the_probe_finds_each_name(names):
    assert len(names) > 500
    assert [name for name in names if not has(*name)] == []
    assert len(set(names)) == len(names)


@pytest.mark.neural_lam
@pytest.mark.parametrize(
    "name",
    [
        ("neural_lam.train_model", "build_predictor"),
        ("neural_lam.train_model", "build_predictor(config)"),
        ("neural_lam.train_model", "--graph"),
        ("neural_lam.models.module", "ForecasterModule"),
        ("neural_lam.models.module", "ForecasterModule(loss)"),
        ("neural_lam.models.module", "ForecasterModule.training_step"),
        ("neural_lam.models", "MODELS"),
    ],
)
def test_names_of_each_kind(names, name):
    assert name in names


@pytest.mark.neural_lam
def test_no_name_that_a_module_has_imported(names):
    assert ("neural_lam.train_model", "ArgumentParser") not in names
    assert ("neural_lam.train_model", "ForecasterModule") not in names


@pytest.mark.neural_lam
def test_the_marker_of_the_newest_release_would_have_been_found(names):
    newest = MARKERS[0]
    assert ((newest.module, newest.name) in names) is newest.present
