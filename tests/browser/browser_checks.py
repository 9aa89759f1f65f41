"""Reports of real runs in headless Chromium, which has to be installed.

Not among the tests: `nox -s browser` runs this file, and so does CI.
"""

import json
import shutil

import pytest
from nlam_runs import Project
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CHOICE = ("--nlam-compat-release=>=0.6", "--nlam-compat-case=*_lam")
EDITS = (
    (
        "models/step_predictors/graph/hierarchical.py",
        "return mesh_rep_levels[0] ",
        "return 1.01 * mesh_rep_levels[0] ",
    ),
    (
        "weather_dataset.py",
        '("forcing_feature", "window")',
        '("window", "forcing_feature")',
    ),
)
# WCAG 2.2 AA for text of any size.
CONTRAST = 4.5
CONTRASTS = """
const linear = c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
const parts = c => c.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) =>
  .2126 * linear(r/255) + .7152 * linear(g/255) + .0722 * linear(b/255);
const behind = e => {
  for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
const found = {};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let n; n = walker.nextNode();) {
  const e = n.parentElement;
  if (!n.data.trim() || !e.checkVisibility()) continue;
  const pair = [light(parts(getComputedStyle(e).color)), light(behind(e))];
  const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
  found[n.data.trim().slice(0, 40)] = ratio;
}
return found;
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Draw the report of a green run, and that of a broken clone."""
    found = {}
    for name, edits in (("green", ()), ("red", EDITS)):
        project = Project(tmp_path_factory.mktemp(name))
        if edits:
            project.neural_lam(*edits)
        result = project.run(*CHOICE, "--nlam-compat-report=r.html")
        assert result.ret == bool(edits)
        found[name] = (project.folder / "r.html").as_uri()
    return found


@pytest.fixture(scope="module")
def chromium():
    """Start a browser without a window."""
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.fail(
            "Chromium and its driver are missing: apt-get install chromium "
            "chromium-driver",
            pytrace=False,
        )
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    yield driver
    driver.quit()


@pytest.fixture(params=["green", "red"])
def page(request, pages, chromium):
    """Open one of the reports on a wide, light screen."""
    look(chromium, 1280, "light")
    chromium.get(pages[request.param])
    chromium.kind = request.param
    return chromium


def look(driver, width, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1}
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {**size, "mobile": False}
    )


def open_all(driver):
    driver.execute_script(
        "document.querySelectorAll('details').forEach(e => e.open = true)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_page_fits_and_each_text_is_legible(page, width, scheme):
    look(page, width, scheme)
    open_all(page)
    root = "document.documentElement."
    assert page.execute_script(f"return {root}scrollWidth") <= width
    found = page.execute_script(CONTRASTS)
    assert len(found) > 50
    poor = {text: r for text, r in found.items() if r < CONTRAST}
    assert not poor, json.dumps(poor, indent=1)


def test_nothing_is_loaded_and_nothing_is_wrong(page):
    open_all(page)
    kinds = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [k for k in kinds if not k.startswith("data:")] == []
    assert page.find_elements(By.TAG_NAME, "script") == []
    assert page.get_log("browser") == []
    images = page.find_elements(By.TAG_NAME, "img")
    assert len(images) >= 9
    assert all(i.get_property("naturalWidth") >= 4 for i in images)


def test_content_is_there_without_scripts(page):
    page.execute_cdp_cmd(
        "Emulation.setScriptExecutionDisabled", {"value": True}
    )
    try:
        page.refresh()
        text = page.find_element(By.TAG_NAME, "main").text
        assert "Matrix" in text
        assert "0.7.0-hi_lam" in text
        said = "3 of 3 references failed", "3 references passed"
        assert said[page.kind == "green"] in text
    finally:
        page.execute_cdp_cmd(
            "Emulation.setScriptExecutionDisabled", {"value": False}
        )


def test_failures_alone_are_shown_by_the_keyboard(page):
    box = page.find_element(By.ID, "failures-only")
    cases = page.find_elements(By.TAG_NAME, "details")
    box.send_keys(Keys.SPACE)
    shown = [
        case.find_element(By.CLASS_NAME, "name").text
        for case in cases
        if case.is_displayed()
    ]
    red = ["0.6.0-graph_lam", "0.7.0-graph_lam", "0.7.0-hi_lam"]
    assert shown == (red if page.kind == "red" else [])
    box.send_keys(Keys.SPACE)
    assert all(case.is_displayed() for case in cases)


def test_case_opens_by_the_keyboard_and_from_the_matrix(page):
    case = page.find_elements(By.TAG_NAME, "details")[0]
    inside = case.find_element(By.CSS_SELECTOR, "table.checks")
    assert not inside.is_displayed()
    case.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert inside.is_displayed()

    page.refresh()
    link = page.find_element(By.CSS_SELECTOR, ".matrix td a")
    target = link.get_property("hash")
    inside = page.find_element(By.CSS_SELECTOR, f"{target} table.checks")
    assert not inside.is_displayed()
    link.send_keys(Keys.ENTER)
    assert inside.is_displayed()


def test_sign_and_word_stand_beside_each_colour(page):
    coloured = page.find_elements(By.CSS_SELECTOR, ".passed, .failed, .void")
    assert len(coloured) > 10
    signs = {"passed": "✓", "failed": "✗", "void": "∅"}
    open_all(page)
    for element in coloured:
        (kind,) = signs.keys() & set(element.get_attribute("class").split())
        sign, _, words = element.text.replace("\n", " ").partition(" ")
        assert sign == signs[kind]
        assert words


def test_matrix_is_aligned(page):
    rows = page.find_elements(By.CSS_SELECTOR, ".matrix tbody tr")
    columns = [
        [cell.rect["x"] for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in rows
    ]
    assert len(columns) == 2
    assert columns[0] == columns[1]
    # Nor does a text run over the next one.
    for cell in page.find_elements(By.CSS_SELECTOR, ".matrix td a > *"):
        assert cell.get_property("scrollWidth") <= (
            cell.get_property("clientWidth") + 1
        )
