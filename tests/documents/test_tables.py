"""The tables of docs/migrations.md have a row for each step and operation."""

import re

from blocks import text_of

PAGE = "docs/migrations.md"


def test_the_table_of_steps_is_the_history():
    from pytest_nlam_compat.migrations import HISTORY

    text = text_of(PAGE)
    section = text.split("## The history\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\S+)` \| .+ \| (.+) \|$", section, re.MULTILINE)
    assert [name for name, _ in rows] == [step.id for step in HISTORY]
    for (_, source), step in zip(rows, HISTORY, strict=True):
        assert source in step.reason or source == step.since


def test_every_operation_is_in_the_document():
    from pytest_nlam_compat.migrations.operations import __all__ as operations

    text = text_of(PAGE)
    section = text.split("## Operations\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)[`(]", section))
    assert set(operations) - {"Operation"} <= named


def test_every_operation_has_its_api():
    from pytest_nlam_compat.migrations import operations

    text = text_of("docs/api/migrations.md").split("\n")
    for name in operations.__all__:
        module = getattr(operations, name).__module__
        assert f"::: {module}" in text, name
