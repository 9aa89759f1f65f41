"""The HTML report: whole in one file, and nothing in it is run."""

import re
from html.parser import HTMLParser

import pytest
from made_results import CAUSE, MAP, check, failed, native, red, reference
from made_results import results as made

from pytest_nlam_compat.reports.html import html

NASTY = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """Elements, ids and the links of a page; its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name):
        return [a[name] for _, a in self.elements if name in a]


def everywhere(value, text):
    """Put a text wherever results may hold one that comes from outside."""
    if isinstance(value, dict):
        return {k: everywhere(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [everywhere(v, text) for v in value]
    kept = ("failed", "passed", "0.7.0", CAUSE["key"], "cpu")
    return text if isinstance(value, str) and value not in kept else value


def test_values_of_results_are_text():
    found = everywhere(red(), NASTY)
    found["references"][0]["checks"].append(
        native("fails", native={"outcome": "fails", "cause": NASTY})
    )
    page = Page(html(found))

    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "link", "form"}
    assert not [n for _, a in page.elements for n in a if n.startswith("on")]
    assert "".join(page.text).count(NASTY) > 10


@pytest.mark.parametrize("found", [made(), red()])
def test_page_needs_no_other_file(found):
    text = html(found)
    page = Page(text)
    assert all(v.startswith("data:image/png;") for v in page.values("src"))
    assert not re.search(r"https?://|@import|url\(", text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href")
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_tables_have_captions_and_headers_and_the_page_a_language():
    found = red(other_checks=[check("test_registry", "own")])
    page = Page(html(found))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") > 5
    assert all("scope" in a for tag, a in page.elements if tag == "th")
    assert all(a.get("alt") for tag, a in page.elements if tag == "img")
    assert dict(page.elements)["html"] == {"lang": "en"}


def test_red_report_shows_cause_share_maps_and_growth():
    text = "".join(Page(html(red())).text)
    for part in (
        "1 of 1 reference failed",
        "LayerNorm gives different outputs",
        "2e+07 times",
        "0.7.0-hi_lam: the outputs differ.",
        "prediction of t2m, batch item 0, step 1",
        "obtained 1.5, golden 1",
        "obtained - golden",
        "allowed: 1e-09",
        "2378ed7edd",
    ):
        assert part in text, part


def test_each_map_has_a_pixel_for_each_node():
    import base64
    from io import BytesIO

    from matplotlib.image import imread

    found = red()
    page = Page(html(found))
    shapes = [
        imread(BytesIO(base64.b64decode(src.partition(",")[2]))).shape
        for src in page.values("src")
    ]
    assert shapes == [(2, 3, 4)] * 3


def test_map_of_equal_outputs_is_of_one_colour():
    same = {**MAP, "difference": [0.0] * 6, "growth": [0.0, 0.0]}
    found = made(reference("0.7.0-hi_lam", check(map=same)))
    sources = Page(html(found)).values("src")
    assert sources[0] == sources[1] != sources[2]


def test_incomplete_run_says_so_at_the_top():
    text = html(made(incomplete="3 of 9 checks were not run."))
    assert "This run is not whole" in text
    assert text.index("3 of 9 checks") < text.index("<h2>Matrix")
    assert 'class="verdict failed"' in text


def test_report_of_83_references_is_small():
    big = {**MAP, "grid": [27, 8]}
    big |= {"golden": [1.234567] * 216, "difference": [1.234e-15] * 216}
    checks = (
        *("test_opens", "test_native", "test_loads", "test_outputs"),
        *("test_outputs_float32", "test_batch", "test_loss", "test_resumes"),
        *("test_saves", "test_migrations"),
    )
    references = [
        reference(
            f"0.{n % 7}.0-case{n}",
            *(check(c, f"0.{n % 7}.0-case{n}", map=big) for c in checks),
        )
        for n in range(83)
    ]
    assert len(html(made(*references)).encode()) < 2_000_000


def test_failures_alone_can_be_shown_without_scripts():
    green = reference("0.6.0-graph_lam")
    found = red(references=[reference("0.7.0-hi_lam", failed()), green])
    page = Page(html(found))
    rows = [a for t, a in page.elements if t in ("tr", "details")]
    assert sum(a.get("class") == "no-failure" for a in rows) == 2
    text = html(found)
    assert "body:has(#failures-only:checked) .no-failure" in text
