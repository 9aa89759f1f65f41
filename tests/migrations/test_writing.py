"""Where a suggested step is written, and how."""

import pytest

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.repository import read_steps
from pytest_nlam_compat.migrations.writing import Place, place_for, write

STEP = """\
Migration(
    id="{}",
    since="0.8.0",
    reason="Why.",
    operations=(
        Drop('old'),
    ),
)"""
LISTED = """\
\"\"\"Steps of ours.\"\"\"

from __future__ import annotations

from pytest_nlam_compat.migrations import Migration, Rename

MIGRATIONS = [
    Migration("0.8.0-a", "0.8.0", "A.", (Rename("a", "b"),))
]
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_file(root):
    file = root / "steps.py"
    write([STEP.format("0.8.0-x"), STEP.format("0.8.0-y")], file)
    assert [step.id for step in read_steps(file)] == ["0.8.0-x", "0.8.0-y"]
    write([STEP.format("0.8.0-z")], file)
    assert [step.id for step in read_steps(file)] == [
        *("0.8.0-x", "0.8.0-y", "0.8.0-z")
    ]
    assert [path.name for path in root.glob("*.part")] == []


def test_what_is_there_stays_and_imports_are_added(root):
    file = root / "steps.py"
    file.write_text(LISTED)
    write([STEP.format("0.8.0-x")], file)
    assert [step.id for step in read_steps(file)] == ["0.8.0-a", "0.8.0-x"]
    head, tail = LISTED.split("\n\nMIGRATIONS")
    text = file.read_text()
    assert text.startswith(
        f"{head}\nfrom pytest_nlam_compat.migrations import Drop\n"
    )
    assert tail.removesuffix("\n]\n") in text


@pytest.mark.parametrize(
    "text",
    [
        "MIGRATIONS = []\nprint()\n",
        "MIGRATIONS = []  # all of them\n",
        "MIGRATIONS = list([])[:]\n",
        "STEPS = []\n",
        "",
    ],
)
def test_a_file_that_can_not_be_added_to_stays(root, text):
    file = root / "steps.py"
    file.write_text(text)
    with pytest.raises(CompatError) as raised:
        write([STEP.format("0.8.0-x")], file)
    assert str(raised.value) == (
        "The steps can't be added to the file: it does not end with its list "
        f"of them.\n  file: {file}\n"
        "Add them by hand: MIGRATIONS = [..., Migration(...)]."
    )
    assert file.read_text() == text


def test_without_a_key(root):
    place = place_for("", root, None)
    assert place == Place(
        root / "nlam_compat_migrations.py",
        advice="Set pytest's ini key nlam_compat_migrations = "
        "nlam_compat_migrations.py",
    )
    assert str(place.shown) == "nlam_compat_migrations.py"


def test_steps_that_pytest_does_not_read_are_known(root):
    (root / "nlam_compat_migrations.py").write_text(LISTED)
    place = place_for("", root, None)
    assert [step.id for step in place.unnamed] == ["0.8.0-a"]


@pytest.mark.parametrize("wanted", [None, "steps/ours.py"])
def test_a_file(root, wanted):
    file = root / "steps" / "ours.py"
    file.parent.mkdir()
    file.write_text(LISTED)
    wanted = root / wanted if wanted else None
    assert place_for("steps/ours.py", root, wanted) == Place(file)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ([], "suggested.py"),
        (["encoding.py", "_last.py", "test_suggested.py"], "suggested.py"),
        (["suggested.py"], "suggested.py"),
        (["taken.py"], "then_suggested.py"),
        (["up.py"], "z_suggested.py"),
    ],
)
def test_in_a_folder_it_comes_last(root, there, chosen):
    folder = root / "steps"
    folder.mkdir()
    for name in there:
        (folder / name).write_text(LISTED)
    assert place_for("steps", root, None) == Place(folder / chosen)


def test_a_folder_in_which_nothing_comes_last(root):
    folder = root / "steps"
    folder.mkdir()
    (folder / "zz.py").write_text(LISTED)
    with pytest.raises(CompatError, match="no new file comes last"):
        place_for("steps", root, None)
    wanted = folder / "zzz.py"
    assert place_for("steps", root, wanted) == Place(wanted)


def test_a_module(root, monkeypatch):
    monkeypatch.syspath_prepend(root)
    package = root / "steps_of_a_module"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "ours.py").write_text(LISTED)
    named = "steps_of_a_module.ours"
    assert place_for(named, root, None) == Place(package / "ours.py")
    place = place_for("steps_of_a_module", root, None)
    assert place == Place(package / "suggested.py")
