"""A release with an argument more, from its wheel to the tests of a copy."""

import json
import subprocess

import pytest
from simulated import (
    CHECKOUT,
    ONE_ARGUMENT_MORE,
    clone,
    command,
    content,
    offline,
    record_only,
    wheel,
)

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

# What the tests of the copy name, and one of the other models.
CASES = (
    "graph_lam",
    "graph_lam-clamp",
    "graph_lam-deep",
    "graph_lam-mae",
    "graph_lam-multiscale",
    "graph_lam-shallow",
    "graph_lam-weights",
    "graph_lam-window00",
    "graph_lam-window21",
    "hi_lam",
)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Release 0.8.0 in a copy of this project, and return what came of it."""
    folder = tmp_path_factory.mktemp("released")
    project = clone(folder / "project")
    record_only(project, f"case.name in {CASES}")
    package = wheel(folder, "0.8.0", ONE_ARGUMENT_MORE)
    before = content(project)
    done = subprocess.run(
        command("0.8.0", "--neural-lam", str(package), "--json"),
        cwd=project,
        env=offline(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return project, before, json.loads(done.stdout)


def run(project, *arguments):
    """Run Python with the release and the copy of the project."""
    python = project / ".release" / "0.8.0" / "environment" / "bin" / "python"
    return subprocess.run(
        [python, *arguments],
        cwd=project,
        env=offline(project),
        capture_output=True,
        text=True,
    )


def test_every_file_that_names_releases_is_written(released):
    project, before, result = released
    after = content(project)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {*result["written"]}
    assert changed == {
        "CHANGELOG.md",
        "docs/matrix.md",
        "fixtures/0.8.0.zip",
        "fixtures/native_routes.txt",
        "fixtures/registry.txt",
        "fixtures/release_evidence.json",
    }
    assert before.keys() - after.keys() == set()
    # The lines of other releases stay.
    for name in ("fixtures/native_routes.txt", "fixtures/registry.txt"):
        assert set(before[name].splitlines()) <= set(after[name].splitlines())


def test_what_the_release_can_be_told_by_was_found(released):
    assert released[2] | {"references": 0, "written": []} == {
        "release": "0.8.0",
        "marker": "models.module.ForecasterModule(max_grad_norm)",
        "files": {
            kind: {"added": ["max_grad_norm"], "removed": []}
            for kind in ("args", "hyper_parameters")
        },
        "references": 0,
        "lost": [],
        "written": [],
    }


def test_the_new_references_count_under_the_new_release(released):
    project, _, _ = released
    one = ("--nlam-compat-release===0.8.0", "--nlam-compat-case=graph_lam*")
    options = ("--nlam-compat", "-pno:cacheprovider", *one)
    ini = ".release/0.8.0/project/pytest.ini"
    done = run(project, "-m", "pytest", *options, "-c", ini)
    assert done.returncode == 0, done.stdout
    assert "neural-lam 0.8.0 (detected by models.module.Fore" in done.stdout
    assert "references of 0.8.0, from" in done.stdout
    assert "left out" not in done.stdout


def test_the_release_before_is_still_what_it_was(released):
    """Its own code, and its own files."""
    project, _, _ = released
    inspected = project / "0.7.0.ckpt"
    archive = (
        "from pytest_nlam_compat.references.release_archive import "
        "ReleaseArchive as A\n"
        "open('0.7.0.ckpt', 'wb').write("
        "A('fixtures/0.7.0.zip').read('graph_lam', 'checkpoint.ckpt'))\n"
        "from pytest_nlam_compat.adapters.probe import probe\n"
        "print(probe().release)"
    )
    here = command()[0]
    found = subprocess.run(
        [here, "-c", archive],
        cwd=project,
        env=offline(project),
        capture_output=True,
        text=True,
    )
    assert found.stdout.splitlines()[-1:] == ["0.7.0"], found.stderr
    inspect = ("-m", "pytest_nlam_compat", "inspect", "--json")
    report = json.loads(run(project, *inspect, str(inspected)).stdout)
    assert report["origin"]["release"] == "0.7.0"


def test_the_tests_that_iterate_releases_pass_on_the_copy(released):
    project, _, _ = released
    done = run(
        project,
        *("-m", "pytest", "-q", "-pno:cacheprovider", "-m", "not slow"),
        "tests/references/test_recorded.py",
        "tests/references/test_recorded_files.py",
        "tests/references/test_release_evidence.py",
        "tests/references/test_native_routes.py",
        "tests/migrations/test_layout.py",
        "tests/migrations/test_origin.py",
        "tests/adapters/test_probe.py",
        "tests/releasing/test_matrix_page.py",
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "0.8.0" not in (CHECKOUT / "fixtures" / "registry.txt").read_text()


def test_a_release_is_added_once(released):
    project, _, _ = released
    before = content(project)
    done = subprocess.run(
        command("0.8.0"),
        cwd=project,
        env=offline(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("neural-lam 0.8.0 is recorded already.")
    assert content(project) == before
