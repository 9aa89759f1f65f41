"""The page with all releases, and the line of the changelog."""

import pytest
from listed_releases import FIXTURES, RELEASES

from pytest_nlam_compat.releasing.pages import matrix_page, with_change

PAGE = FIXTURES.parent / "docs" / "matrix.md"


def test_the_page_says_what_the_files_say():
    assert PAGE.read_text(encoding="utf-8") == matrix_page(FIXTURES)


def rows():
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_each_release_has_a_row_and_a_column():
    cases = next(row for row in rows() if row[0] == "case")
    assert cases[1:] == RELEASES
    assert {row[0] for row in rows()} >= {*RELEASES}


def test_what_is_in_its_cells():
    by_name = {row[0]: row[1:] for row in rows()}
    assert by_name["0.5.0"][:4] == ["", "19 of 19", "12 of 19", "17 of 19"]
    assert by_name["`hi_lam`"][3:6] == ["migrated", "native", "void"]
    assert by_name["`graph_efm`"][5] == ""


NEW = "- References of neural-lam 0.8.0."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "# C\n\n## [Unreleased]\n\n## [0.1]\n\n### Added\n\n- a\n",
            "# C\n\n## [Unreleased]\n\n### Added\n\n{}\n\n"
            "## [0.1]\n\n### Added\n\n- a\n",
        ),
        (
            "## [Unreleased]\n\n### Added\n\n- a\n  b\n\n### Fixed\n\n- c\n",
            "## [Unreleased]\n\n### Added\n\n{}\n- a\n  b\n\n"
            "### Fixed\n\n- c\n",
        ),
        (
            "## [Unreleased]\n\n### Fixed\n\n- c\n\n## [0.1]\n",
            "## [Unreleased]\n\n### Added\n\n{}\n\n### Fixed\n\n- c\n\n"
            "## [0.1]\n",
        ),
        (
            "## [Unreleased]\n\n### Added\n\n- a\n",
            "## [Unreleased]\n\n### Added\n\n{}\n- a\n",
        ),
        ("## [Unreleased]\n", "## [Unreleased]\n\n### Added\n\n{}\n"),
    ],
)
def test_a_line_of_the_changelog(before, after):
    assert with_change(before, NEW) == after.format(NEW)
