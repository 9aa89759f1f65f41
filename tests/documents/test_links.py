"""Links to files of this repository lead somewhere.

``nox -s docs`` checks those between pages; these are those that it can't see.
"""

import re

import pytest
from blocks import PAGES, ROOT, text_of

OURS = re.compile(
    r"https://(?:github\.com/mllam/pytest-nlam-compat/blob/main"
    r"|raw\.githubusercontent\.com/mllam/pytest-nlam-compat/main)"
    r"/([^\s)#]+)(?:#([\w-]+))?"
)
RELATIVE = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#([\w-]+))?\)")


def anchors(text):
    """Return the anchors that GitHub and the built pages both make."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in headings
    }


def targets(page):
    text = text_of(page)
    yield from ((ROOT / name, anchor) for name, anchor in OURS.findall(text))
    folder = (ROOT / page).parent
    for name, anchor in RELATIVE.findall(text):
        yield folder / name, anchor


@pytest.mark.parametrize("page", PAGES)
def test_links_to_this_repository_lead_somewhere(page):
    for file, anchor in targets(page):
        assert file.is_file(), file
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), file


def test_links_of_the_readme_work_on_a_package_index():
    assert not RELATIVE.findall(text_of("README.md"))
