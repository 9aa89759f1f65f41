"""A whole release into an archive, and what is refused."""

import datetime
import hashlib
import platform
from importlib.metadata import version

import pytest
from packaging.version import Version

from pytest_nlam_compat import __version__
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.recording.cases import CASES, Case
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import (
    ReleaseArchive,
    write_archive,
)

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.usefixtures("current_adapter"),
]
R7 = Version("0.7.0")
VOID = Case(
    "hi_lam",
    "hi_lam",
    CASES[0].grid,
    void={"0.7.0": "it can't run (#1)"},
)


@pytest.fixture
def record(fixtures, monkeypatch):
    """Record one case and a void one; returns what it reports."""
    from pytest_nlam_compat.recording import release_recorder

    monkeypatch.setattr(
        release_recorder, "cases_of", lambda _: [CASES[0], VOID]
    )
    lines = []

    def recording(wanted=R7):
        path = release_recorder.record_release(wanted, fixtures, lines.append)
        return path, lines

    return recording


def error_of(record, wanted=R7):
    with pytest.raises(CompatError) as raised:
        record(wanted)
    return str(raised.value)


@pytest.fixture
def state(fixtures):
    def everything():
        return {path.name: path.read_bytes() for path in fixtures.iterdir()}

    before = everything()
    yield
    assert everything() == before, "a refusal leaves everything as it was"


@pytest.mark.slow
def test_a_release_is_recorded(record, fixtures, capfd):
    path, lines = record()
    assert path == fixtures / "0.7.0.zip"
    archive = ReleaseArchive(path)
    assert archive.release == R7
    assert archive.cases == ["graph_lam"]
    assert archive.void == {"hi_lam": "it can't run (#1)"}
    reference = Reference(archive, "graph_lam")
    assert reference.id == "0.7.0-graph_lam"
    assert reference.description["optimizer_steps"] == 2
    assert path.stat().st_size < 150_000
    # Listed, so that the store finds it.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert registry.read(fixtures / "registry.txt") == {R7: digest}
    # One line a case, and nothing else on the terminal.
    kilobytes = sum(
        len(archive.read("graph_lam", name.partition("/")[2]))
        for name in archive.index["members"]
    )
    done, void = lines
    assert done.startswith(f"graph_lam: {kilobytes / 1000:.0f} kB unpacked, ")
    assert done.endswith(" s")
    assert void == "hi_lam: void, it can't run (#1)"
    assert capfd.readouterr() == ("", "")


def test_provenance(record):
    provenance = ReleaseArchive(record()[0]).index["provenance"]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    day = datetime.date.fromisoformat(provenance.pop("date"))
    assert today - day in (datetime.timedelta(0), datetime.timedelta(1))
    assert provenance == {
        "command": "nlam-compat record 0.7.0",
        "tool": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {
            name: version(name)
            for name in (
                "neural-lam",
                "torch",
                "pytorch-lightning",
                "torch-geometric",
                "numpy",
            )
        },
    }


@pytest.mark.usefixtures("state")
def test_another_release_than_the_installed_one(record, current_adapter):
    assert error_of(record, Version("0.6.0")) == (
        "neural-lam 0.6.0 is not the installed release.\n"
        "  installed: 0.7.0\n"
        f"  path: {current_adapter.current.path}\n"
        "Run `nox -s record -- 0.6.0`, which installs that release "
        "separately."
    )


def test_an_archive_that_is_there(record, fixtures):
    path = fixtures / "0.7.0.zip"
    path.write_bytes(b"published")
    assert error_of(record) == (
        "neural-lam 0.7.0 is recorded already. References are frozen and "
        "never overwritten.\n"
        f"  file: {path}\n"
        "If it was never published, delete it and its line in registry.txt by "
        "hand."
    )
    assert path.read_bytes() == b"published"
    assert (fixtures / "registry.txt").read_text() == "# Archives.\n"


def test_an_archive_that_is_listed_and_not_there(record, fixtures):
    line = f"0.7.0.zip sha256:{'a' * 64}\n"
    (fixtures / "registry.txt").write_text(line)
    assert error_of(record) == (
        "neural-lam 0.7.0 is recorded already. References are frozen and "
        "never overwritten.\n"
        f"  listed: sha256 {'a' * 64}\n"
        f"  missing: {fixtures / '0.7.0.zip'}\n"
        "Restore the archive from git. If it was never published, delete it "
        "and its line in registry.txt by hand."
    )
    assert (fixtures / "registry.txt").read_text() == line
    assert not (fixtures / "0.7.0.zip").exists()


@pytest.fixture
def archive(fixtures):
    """Write an archive with one case, as if it had been recorded."""
    path = fixtures / "0.7.0.zip"
    index = {"release": "0.7.0", "void": {}, "provenance": {"date": "then"}}
    write_archive(path, index, {"graph_lam-std": {"b": b"1", "a/c": b"2"}})
    digest = registry.sha256_of(path)
    registry.add(fixtures / "registry.txt", R7, digest)
    return path


@pytest.fixture
def add(fixtures, monkeypatch):
    from pytest_nlam_compat.recording import release_recorder

    def adding(*cases):
        monkeypatch.setattr(release_recorder, "cases_of", lambda _: cases)
        lines = []
        path = release_recorder.add_missing_cases(R7, fixtures, lines.append)
        return path, lines

    return adding


STD = Case("graph_lam-std")


def test_missing_cases_are_added_and_the_others_stay(add, archive, fixtures):
    before = archive.read_bytes()
    path, lines = add(STD, CASES[0], VOID)
    assert path == archive
    assert [line.partition(":")[0] for line in lines] == ["graph_lam", "hi_lam"]
    found = ReleaseArchive(path)
    assert found.cases == ["graph_lam", "graph_lam-std"]
    assert found.names("graph_lam-std") == ["a/c", "b"]
    assert found.read("graph_lam-std", "a/c") == b"2"
    assert found.read("graph_lam-std", "b") == b"1"
    assert found.void == {"hi_lam": "it can't run (#1)"}
    assert found.index["provenance"] == {"date": "then"}
    (added,) = found.index["added"]
    assert added["cases"] == ["graph_lam"]
    assert added["command"] == "nlam-compat record 0.7.0 --add"
    assert added["versions"]["torch"] == version("torch")
    listed = registry.read(fixtures / "registry.txt")
    assert listed == {R7: registry.sha256_of(path)}
    assert {file.name for file in fixtures.iterdir()} == {
        "0.7.0.zip",
        "registry.txt",
    }
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda path: None, "has all cases"),
        (lambda path: path.write_bytes(b"PK"), "can't be read"),
        (lambda path: path.unlink(), "can't be read"),
    ],
)
def test_nothing_is_added(add, archive, fixtures, change, what):
    change(archive)
    before = {path: path.read_bytes() for path in fixtures.iterdir()}
    with pytest.raises(CompatError, match=what):
        add(STD)
    assert {path: path.read_bytes() for path in fixtures.iterdir()} == before


def test_nothing_is_added_to_another_archive(add, archive, fixtures):
    line = f"0.7.0.zip sha256:{'a' * 64}\n"
    (fixtures / "registry.txt").write_text(line)
    with pytest.raises(CompatError, match="not the archive that is listed"):
        add(CASES[0])
    assert ReleaseArchive(archive).cases == ["graph_lam-std"]


@pytest.mark.usefixtures("state")
def test_an_archive_that_can_not_be_listed_is_not_kept(record, monkeypatch):
    """It would stop every run: only listed archives may be there."""

    def add(path, release, digest):
        raise CompatError("Read-only.", remedy="Make it writable.")

    monkeypatch.setattr(registry, "add", add)
    assert error_of(record).startswith("Read-only.")


@pytest.mark.usefixtures("state")
def test_a_weak_case_leaves_no_archive(record, monkeypatch):
    from pytest_nlam_compat.recording import release_recorder

    def weak(case, adapter, folder):
        raise CompatError("Too weak.", remedy="Make it stronger.")

    monkeypatch.setattr(release_recorder, "record", weak)
    assert error_of(record) == "Too weak.\nMake it stronger."


def test_neural_lam_may_log_again_afterwards():
    from loguru import logger

    from pytest_nlam_compat.recording.release_recorder import quietly

    heard = []
    handle = logger.add(heard.append, format="{message}")
    module = {"__name__": "neural_lam.utils", "logger": logger}
    with quietly():
        exec("logger.info('hushed')", module)
    exec("logger.info('spoken')", module)
    logger.remove(handle)
    assert heard == ["spoken\n"]
