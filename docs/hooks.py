"""Hooks of the documentation's build: ``nox -s docs``."""

import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

README = Path(__file__).parents[1] / "README.md"
# The README is shown on a package index too, where relative links are dead.
ABSOLUTE = re.compile(
    r"https://(?:github\.com/mllam/pytest-nlam-compat/blob/main"
    r"|raw\.githubusercontent\.com/mllam/pytest-nlam-compat/main)"
    r"/docs/(?=[\w/]+\.(?:md|png)\b)"
)
# What a browser loads by itself.
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
# Links that a browser follows only if the reader does.
FOLLOWED = {"canonical", "edit", "next", "prev"}

log = get_plugin_logger("docs")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the first page from the README, whose links are then checked."""
    text = README.read_text(encoding="utf-8")
    page = ABSOLUTE.sub("", text)
    files.append(File.generated(config, "index.md", content=page))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn of what is loaded from the network; strict builds then fail."""
    parser = _Loads()
    parser.feed(output)
    for url in parser.urls:
        log.warning(f"{page.file.src_uri} is not readable offline: {url}")
    return output


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        given = dict(attrs)
        url = given.get(LOADED.get(tag, "")) or ""
        if given.get("rel") not in FOLLOWED and "//" in url:
            self.urls.append(url)
