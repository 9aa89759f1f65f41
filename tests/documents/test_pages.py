"""Whatever README and docs show is done as they say, page by page."""

import ast
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
import tomllib
import yaml
from blocks import PAGES, ROOT, blocks_of, spoken_of, text_of, words_of
from lent_environment import served
from nlam_runs import FIXTURES
from workspace import Workspace

from pytest_nlam_compat.cli import COMMANDS

# Commands that can't be run here, and why. Of those that are ours, names and
# options are checked.
NOT_RUN = {
    "pip install *": "the package and neural-lam are installed here",
    "python3 -m venv *": "what .ci/run does, word for word",
    ".venv/bin/nox*": "makes an environment of its own",
    "nox *": "makes an environment of its own",
    "nlam-compat * old.ckpt --migrations *": "docs/migrations.md has some",
    "from neural_lam.migrations import *": "no release has it yet (#701)",
}
# Blocks that are no commands: what they are.
SHOWN = {
    "docs/architecture.md": {"": "diagrams, and a listing of folders"},
}
# Pages whose blocks are run by a test of their own, which needs more.
ELSEWHERE = {
    "docs/pinning.md": "recording/test_pinning_document.py",
}
LOADERS = {
    "ini": ConfigParser().read_string,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "json": json.loads,
    "python": ast.parse,
}


def is_not_run(block):
    commands = [command for command, _ in block.commands()]
    lines = commands or block.content.splitlines()[:1]
    return any(
        fnmatchcase(line, pattern) for line in lines for pattern in NOT_RUN
    )


@cache
def help_of(*words):
    """Return the help that the real parser prints."""
    done = subprocess.run(
        [sys.executable, "-m", *words, "--help"],
        capture_output=True,
        text=True,
        cwd=Path(sys.prefix),
    )
    return done.stdout if done.returncode == 0 else ""


def unknown(command):
    """Return what a command of ours names and its parser does not know."""
    program, *words = words_of(command)
    program = program.rpartition("/")[2]
    if program == "nox":
        noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
        after = words[words.index("-s") + 1 :] if "-s" in words else []
        sessions = after[: after.index("--")] if "--" in after else after
        return [n for n in sessions if f"\ndef {n}(" not in noxfile]
    if program == "pytest":
        text = help_of("pytest")
    elif program == "nlam-compat":
        named = words[:2] if words[:1] == ["migration"] else words[:1]
        text = help_of("pytest_nlam_compat", *named)
        if not text:
            return named
    else:
        return []
    options = (w.partition("=")[0] for w in words if re.match("--?[a-z]", w))
    return [
        o for o in options if not re.search(rf"(?<![\w-]){o}(?![\w-])", text)
    ]


@pytest.fixture(scope="module")
def url():
    with served(FIXTURES) as url:
        yield url


def has_blocks(page):
    return page not in ELSEWHERE and any(
        block.directive or block.language in ("bash", "console", "python")
        for block in blocks_of(page)
    )


@pytest.mark.neural_lam
@pytest.mark.slow
@pytest.mark.parametrize("page", [*filter(has_blocks, PAGES)])
def test_a_page_followed_from_top_to_end(page, url, tmp_path):
    workspace = Workspace(tmp_path, url)
    for block in blocks_of(page):
        if not is_not_run(block):
            workspace.do(block)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page):
    named = [c for block in blocks_of(page) for c, _ in block.commands()]
    found = {c: unknown(c) for c in (*named, *spoken_of(page))}
    assert not {c: names for c, names in found.items() if names}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_parsed_or_listed(page):
    for block in blocks_of(page):
        if block.language in SHOWN.get(page, {}) or block.directive:
            continue
        if load := LOADERS.get(block.language):
            load(block.content)
        else:
            assert block.language in ("bash", "console"), str(block)


def test_the_list_of_what_is_not_run_holds_nothing_else():
    blocks = [block for page in PAGES for block in blocks_of(page)]
    lines = [c for block in blocks for c, _ in block.commands()]
    lines += [block.content.splitlines()[0] for block in blocks]
    for pattern in NOT_RUN:
        assert any(fnmatchcase(line, pattern) for line in lines), pattern
    for page, kinds in SHOWN.items():
        assert set(kinds) <= {block.language for block in blocks_of(page)}


def test_ci_runs_the_command_of_the_readme():
    [_, tests] = [
        command
        for block in blocks_of("README.md")
        for command, _ in block.commands()
        if command.startswith("python3 -m venv")
    ]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert tests in script.splitlines()


def test_the_red_run_is_one_screen():
    [red] = [
        block
        for block in blocks_of("docs/contributor.md")
        if block.content.startswith("$ pytest --nlam-compat\n")
    ]
    assert len(red.content.splitlines()) <= 60


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 150


def test_every_option_and_command_has_a_place_in_the_docs():
    pages = "\n".join(map(text_of, PAGES))
    options = set(re.findall(r"--nlam-compat[\w-]*", help_of("pytest")))
    assert "--nlam-compat-case" in options
    named = [*options, *(f"nlam-compat {command}" for command in COMMANDS)]
    assert not [n for n in named if not re.search(rf"{n}\b(?!-)", pages)]
