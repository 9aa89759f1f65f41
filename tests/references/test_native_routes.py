"""The list of what each release loads with its own loader."""

from pathlib import Path

import pytest
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import native_routes, registry
from pytest_nlam_compat.references.release_archive import ReleaseArchive

FIXTURES = Path(__file__).parents[2] / "fixtures"
R6, R7 = Version("0.6.0"), Version("0.7.0")


@pytest.fixture
def path(tmp_path):
    return tmp_path / native_routes.FILE_NAME


@pytest.fixture(scope="module")
def published():
    return native_routes.read(FIXTURES / native_routes.FILE_NAME)


def test_each_release_since_0_4_0_loads_all_that_it_wrote(published):
    """Else a case was recorded and its native route was not."""
    releases = registry.read(FIXTURES / "registry.txt")
    since = [each for each in releases if each >= Version("0.4.0")]
    assert list(published) == since
    for release in since:
        archive = ReleaseArchive(FIXTURES / registry.archive_name(release))
        own = {f"{release}-{case}" for case in archive.cases}
        assert own <= published[release]


def test_only_references_that_exist_are_listed(published):
    known = {
        f"{release}-{case}"
        for release in registry.read(FIXTURES / "registry.txt")
        for case in ReleaseArchive(FIXTURES / f"{release}.zip").cases
    }
    assert known > frozenset().union(*published.values())


def test_0_7_0_loads_what_0_5_0_wrote_but_for_square_grids(published):
    archive = ReleaseArchive(FIXTURES / "0.5.0.zip")
    own = {f"0.5.0-{case}" for case in archive.cases}
    square = {name for name in own if name.endswith("-square")}
    assert len(square) == 2
    assert own - published[R7] == square
    assert not any(name < "0.5.0" for name in published[R7])


def test_lines_of_one_release_are_replaced_and_others_kept(path):
    native_routes.replace(path, R7, ["0.7.0-b", "0.7.0-a"])
    native_routes.replace(path, R6, ["0.6.0-a"])
    native_routes.replace(path, R7, ["0.7.0-c"])
    assert native_routes.read(path) == {R6: {"0.6.0-a"}, R7: {"0.7.0-c"}}
    native_routes.replace(path, R7, ["0.7.0-c"])
    assert path.read_text().splitlines()[-2:] == [
        "0.6.0 0.6.0-a",
        "0.7.0 0.7.0-c",
    ]


@pytest.mark.parametrize("line", ["0.7.0", "0.7.x a", "0.7.0 a b", "a 0.7.0"])
def test_line_that_is_none(path, line):
    path.write_text(f"# Comment.\n\n{line}\n")
    with pytest.raises(CompatError) as raised:
        native_routes.read(path)
    assert raised.value.facts["found"] == line


@pytest.mark.parametrize(
    ("current", "release", "loads"),
    [
        ("0.5.0", None, set()),
        ("0.6.0", R6, {"a"}),
        ("0.6.5", R6, {"a"}),
        ("0.8.0", R7, {"b"}),
    ],
)
def test_newest_release_that_is_not_above_the_code(current, release, loads):
    routes = {R6: frozenset("a"), R7: frozenset("b")}
    found = native_routes.expected_of(routes, Version(current))
    assert found == (release, loads)
