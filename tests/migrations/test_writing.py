"""Where new migrations are written, and how."""

import re

import pytest

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.repository import (
    RepositorySetup,
    read_steps,
)
from pytest_nlam_compat.migrations.writing import (
    Destination,
    add_to,
    destination,
    folder_for_new,
    from_here,
    write_new,
)

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
\"\"\"Migrations of ours.\"\"\"

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
    file = root / "new" / "steps.py"
    add_to(file, [STEP.format("0.8.0-x"), STEP.format("0.8.0-y")])
    assert [step.id for step in read_steps(file)] == ["0.8.0-x", "0.8.0-y"]
    add_to(file, [STEP.format("0.8.0-z")])
    assert [step.id for step in read_steps(file)] == [
        *("0.8.0-x", "0.8.0-y", "0.8.0-z")
    ]
    assert [path.name for path in root.rglob("*.part")] == []


def test_what_is_there_stays_and_imports_are_added(root):
    file = root / "steps.py"
    file.write_text(LISTED)
    add_to(file, [STEP.format("0.8.0-x")])
    assert [step.id for step in read_steps(file)] == ["0.8.0-a", "0.8.0-x"]
    _, tail = LISTED.split("\n\nMIGRATIONS")
    text = file.read_text()
    assert "import Drop, Migration, Rename\n" in text
    assert text.count("import ") == LISTED.count("import ")
    assert tail.removesuffix("\n]\n") in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("]\n", "]  # type: list[Migration]\n"),
        ("))\n]", ")),  # the first\n]"),
        ("))\n]", "))  # the first, of many\n]"),
        ("))\n]", ")),\n    # Migration(),\n]"),
        ("))\n]", "))]"),
        ("Migration(", "# ä\n    Migration("),
    ],
)
def test_comments_stay(root, old, new):
    file = root / "steps.py"
    file.write_text(LISTED.replace(old, new), encoding="utf-8")
    comment = re.findall("#.*", new)
    add_to(file, [STEP.format("0.8.0-x")])
    assert [step.id for step in read_steps(file)] == ["0.8.0-a", "0.8.0-x"]
    text = file.read_text(encoding="utf-8")
    assert re.findall("#.*", text) == comment


def test_what_a_file_is_stays(root):
    file, link = root / "steps.py", root / "link.py"
    file.write_bytes(b"\xef\xbb\xbf" + LISTED.replace("\n", "\r\n").encode())
    file.chmod(0o600)
    link.symlink_to(file.name)
    part = root / "steps.py.part"
    part.write_text("mine")
    add_to(link, [STEP.format("0.8.0-x")])
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    raw = file.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert part.read_text() == "mine"
    assert [step.id for step in read_steps(file)] == ["0.8.0-a", "0.8.0-x"]


@pytest.mark.parametrize("source", ["../elsewhere", "linked", "/elsewhere"])
def test_nothing_is_written_outside_of_the_repository(root, source):
    repository, elsewhere = root / "repository", root / "elsewhere"
    repository.mkdir()
    elsewhere.mkdir()
    (repository / "linked").symlink_to(elsewhere)
    source = source.replace("/else", f"{root}/else", source.startswith("/"))
    setup = RepositorySetup(repository, source)
    with pytest.raises(CompatError, match="outside of the repository"):
        folder_for_new(setup)
    with pytest.raises(CompatError, match="outside of the repository"):
        destination(setup, None)


@pytest.mark.parametrize(
    "text",
    [
        "MIGRATIONS = []\nprint()\n",
        "MIGRATIONS = [\n",
        "MIGRATIONS = list([])[:]\n",
        "STEPS = []\n",
        "",
    ],
)
def test_a_file_that_can_not_be_added_to_stays(root, text):
    file = root / "steps.py"
    file.write_text(text)
    with pytest.raises(CompatError, match="does not end with its list") as e:
        add_to(file, [STEP.format("0.8.0-x")])
    assert e.value.facts == {"file": file}
    assert "MIGRATIONS = [..., Migration(...)]" in e.value.remedy
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "pyproject.toml",
            "     [tool.pytest.ini_options]\n"
            '     nlam_compat_migrations = "tests/migrations"',
        ),
        (
            None,
            "     [pytest]\n     nlam_compat_migrations = tests/migrations",
        ),
    ],
)
def test_without_a_key(root, name, lines):
    setup = RepositorySetup(root, "", root / name if name else None)
    found = destination(setup, None)
    assert found.file == root / "tests/migrations/suggested.py"
    assert found.unread == ()
    assert found.advice == (
        f"Tell pytest where they are, in {name or 'pytest.ini'}:\n{lines}"
    )
    assert folder_for_new(setup) == root / "tests/migrations"
    assert str(from_here(found.file)) == "tests/migrations/suggested.py"


def test_migrations_that_pytest_does_not_read_are_known(root):
    folder = root / "tests" / "migrations"
    folder.mkdir(parents=True)
    (folder / "ours.py").write_text(LISTED)
    (root / "other.py").write_text(LISTED.replace("0.8.0-a", "0.8.0-b"))
    setup = RepositorySetup(root)
    [step] = destination(setup, None).unread
    assert step.id == "0.8.0-a"
    found = destination(setup, root / "other.py")
    assert [step.id for step in found.unread] == ["0.8.0-b"]
    assert found.advice.startswith(
        "other.py holds migrations, but no ini key nlam_compat_migrations "
        "names it.\nTell pytest where they are, in pytest.ini:\n"
    )
    assert found.advice.endswith("nlam_compat_migrations = other.py")


@pytest.mark.parametrize("wanted", [None, "steps/ours.py"])
def test_a_file(root, wanted):
    file = root / "steps" / "ours.py"
    file.parent.mkdir()
    file.write_text(LISTED)
    wanted = root / wanted if wanted else None
    setup = RepositorySetup(root, "steps/ours.py")
    assert destination(setup, wanted) == Destination(file)
    with pytest.raises(CompatError, match="names one file"):
        folder_for_new(setup)


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
    setup = RepositorySetup(root, "steps")
    assert destination(setup, None) == Destination(folder / chosen)


def test_a_folder_in_which_nothing_comes_last(root):
    folder = root / "steps"
    folder.mkdir()
    (folder / "zz.py").write_text(LISTED)
    setup = RepositorySetup(root, "steps")
    with pytest.raises(CompatError, match="No new file would come last"):
        destination(setup, None)
    wanted = folder / "zzz.py"
    assert destination(setup, wanted) == Destination(wanted)


def test_a_link_to_nothing_leads_nowhere(root):
    repository, elsewhere = root / "repository", root / "elsewhere.py"
    folder = repository / "tests" / "migrations"
    folder.mkdir(parents=True)
    for name in ("suggested.py", "new_name.py"):
        (folder / name).symlink_to(elsewhere)
    with pytest.raises(CompatError, match="exists already"):
        write_new(folder, "new-name", "0.8.0")
    (folder / "new_name.py").unlink()
    with pytest.raises(CompatError, match="outside of the repository"):
        destination(RepositorySetup(repository, "tests/migrations"), None)
    assert not elsewhere.exists()
