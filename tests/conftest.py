"""What tests of several rooms share: the real references and neural-lam."""

from functools import cache
from pathlib import Path

import pytest
from nlam_runs import Project

FIXTURES = Path(__file__).parents[1] / "fixtures"


def pytest_collection_modifyitems(items):
    """Begin with the files whose tests are slow: processes end together."""
    slow = {each.path for each in items if each.get_closest_marker("slow")}
    items.sort(key=lambda each: each.path not in slow)


@pytest.fixture(scope="session")
def recorded():
    """Return the archive of a release, opened once: ``recorded("0.7.0")``."""
    from pytest_nlam_compat.references.release_archive import ReleaseArchive

    @cache
    def archive(release):
        return ReleaseArchive(FIXTURES / f"{release}.zip")

    return archive


@pytest.fixture(scope="session")
def reference_of(recorded):
    """Return a real reference by its id: ``reference_of("0.7.0-hi_lam")``."""
    from pytest_nlam_compat.references.reference import Reference

    @cache
    def reference(name):
        release, _, case = name.partition("-")
        return Reference(recorded(release), case)

    return reference


@pytest.fixture
def fixtures(tmp_path):
    """Return a folder like that of this project, without archives."""
    folder = tmp_path / "fixtures"
    folder.mkdir()
    (folder / "registry.txt").write_text("# Archives.\n")
    return folder


@pytest.fixture
def pinned_like(recorded, tmp_path):
    """Return a folder with one of our references, as if it was pinned."""
    from pytest_nlam_compat.references import registry
    from pytest_nlam_compat.references.release_archive import write_archive

    def pinned(name):
        release, _, case = name.partition("-")
        archive, folder = recorded(release), tmp_path / "pinned"
        members = {n: archive.read(case, n) for n in archive.names(case)}
        folder.mkdir()
        weights = folder / f"{release}-production.ckpt"
        weights.write_bytes(members.pop("checkpoint.ckpt"))
        del members["state_dict.safetensors"]
        path = weights.with_suffix(".zip")
        index = {"release": release, "void": {}}
        write_archive(path, index, {"production": members})
        (folder / "registry.txt").write_text("# ours\n")
        hashes = {p.name: registry.sha256_of(p) for p in (path, weights)}
        registry.append(folder / "registry.txt", hashes)
        return folder

    return pinned


@pytest.fixture(scope="session")
def current_adapter():
    """Probe the installed neural-lam; its import takes seconds, once."""
    import torch

    # Models are small: more threads would wait for each other.
    torch.set_num_threads(1)
    from pytest_nlam_compat.adapters.probe import probe, select_adapter

    return select_adapter(probe())


@pytest.fixture
def project(tmp_path):
    """Return a repository in which pytest can be run, in another process."""
    return Project(tmp_path)
