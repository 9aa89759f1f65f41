"""The figures of docs/policy.md are those of this project."""

import re

from blocks import text_of
from nlam_runs import FIXTURES

from pytest_nlam_compat.migrations import HISTORY
from pytest_nlam_compat.references import native_routes, registry
from pytest_nlam_compat.references.release_archive import ReleaseArchive

PAGE = " ".join(text_of("docs/policy.md").split())


def test_the_figures_are_those_of_the_references():
    *older, newest = sorted(registry.read(FIXTURES / "registry.txt"))
    archives = [ReleaseArchive(FIXTURES / f"{r}.zip") for r in older]
    routes = native_routes.read(FIXTURES / native_routes.FILE_NAME)
    loaded = {
        name for name in routes[newest] if not name.startswith(f"{newest}-")
    }
    count = sum(len(archive.cases) for archive in archives)
    void = sum(len(archive.void) for archive in archives)

    assert f"has {count} checkpoints of 0.1.0 to {older[-1]}" in PAGE
    assert f"loads {len(loaded)} of them with the right numbers" in PAGE
    [(errors, wrong)] = re.findall(r"(\d+) raise an error\. (\d+) load", PAGE)
    assert len(loaded) + int(errors) + int(wrong) == count
    # The command that the page shows says which these are.
    assert int(wrong) == PAGE.count(" wrong/")
    assert f"{void} recorded cases are" in PAGE


def test_the_readme_counts_the_references():
    releases = registry.read(FIXTURES / "registry.txt")
    count = sum(
        len(ReleaseArchive(FIXTURES / f"{release}.zip").cases)
        for release in releases
    )
    assert f"{count} frozen references of neural-lam" in text_of("README.md")


def test_the_figures_are_those_of_the_history():
    needy = [step for step in HISTORY if step.needs]
    assert f"of the {len(HISTORY)} changes since 0.1.0" in PAGE
    assert f"{len(needy)} need the graph directory or the statistics" in PAGE
