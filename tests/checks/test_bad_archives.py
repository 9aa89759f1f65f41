"""References that are not what the registry says, in a checkout of their own.

The real case 0.7.0-graph_lam, spoilt in one way each.
"""

import hashlib
import json
import shutil
import struct
import zipfile

import pytest
from nlam_runs import CHECKS, FIXTURES, error_lines, failed, shows_no_traceback

from pytest_nlam_compat.references.release_archive import SCHEMA, write_archive

CASE = "graph_lam"


@pytest.fixture(scope="module")
def recorded_case():
    """Return index and members of the recorded case."""
    with zipfile.ZipFile(FIXTURES / "0.7.0.zip") as archive:
        index = json.loads(archive.read("release.json"))
        members = {
            name.removeprefix(f"{CASE}/"): archive.read(name)
            for name in archive.namelist()
            if name.startswith(f"{CASE}/")
        }
    kept = {name: index[name] for name in ("release", "provenance")}
    return {**kept, "void": {}}, members


@pytest.fixture
def checkout(project, recorded_case):
    """Have a checkout whose only archive holds the one case."""
    fixtures = project.package().parent / "fixtures"
    fixtures.mkdir()
    index, members = recorded_case
    write_archive(fixtures / "0.7.0.zip", index, {CASE: members})
    publish(fixtures)
    return project, fixtures


def publish(fixtures):
    """List the archives with the hashes that they have now."""
    lines = [
        f"{file.name} sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"
        for file in fixtures.glob("*.zip")
    ]
    (fixtures / "registry.txt").write_text("".join(lines))
    for name in ("native_routes.txt", "release_evidence.json"):
        shutil.copy(FIXTURES / name, fixtures)


def rewrite(path, change):
    """Write an archive anew, its members by name after a change."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    publish(path.parent)


def damage(path, name):
    """Overwrite the middle of a compressed member."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
    content = bytearray(path.read_bytes())
    lengths = struct.unpack_from("<HH", content, entry.header_offset + 26)
    start = entry.header_offset + 30 + sum(lengths)
    middle = start + entry.compress_size // 2
    content[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(content)
    publish(path.parent)


def refused(result):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return error_lines(result)


def test_checkout_of_one_case_is_green_as_long_as_nothing_is_spoilt(checkout):
    project, fixtures = checkout

    result = project.run("--nlam-compat")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "nlam-compat: 1 reference of 0.7.0, from fixtures/ of the checkout "
            f"{fixtures.parent}"
        ]
    )


def test_line_without_its_archive_is_an_error(checkout):
    project, fixtures = checkout
    (fixtures / "0.7.0.zip").unlink()

    assert refused(project.run("--nlam-compat")) == [
        "ERROR: Archives that the registry lists are missing.",
        f"  registry: {fixtures / 'registry.txt'}",
        "  missing: 0.7.0.zip",
        "Restore them from git. A source distribution has no archives: use a "
        "checkout or an installed package.",
    ]


def test_archive_without_its_line_is_an_error(checkout):
    project, fixtures = checkout
    (fixtures / "registry.txt").write_text("# nothing\n")

    assert refused(project.run("--nlam-compat")) == [
        "ERROR: The registry doesn't list all archives of its folder.",
        f"  registry: {fixtures / 'registry.txt'}",
        "  not listed: 0.7.0.zip",
        "Add a line for each to the registry, or move them.",
    ]


def test_archive_that_is_not_the_published_one_is_an_error(checkout):
    project, fixtures = checkout
    registry = (fixtures / "registry.txt").read_text()
    damage(fixtures / "0.7.0.zip", f"{CASE}/tensors.safetensors")
    found = hashlib.sha256((fixtures / "0.7.0.zip").read_bytes()).hexdigest()
    (fixtures / "registry.txt").write_text(registry)

    assert refused(project.run("--nlam-compat")) == [
        "ERROR: The archive 0.7.0.zip is not the one in the registry.",
        f"  file: {fixtures / '0.7.0.zip'}",
        f"  expected: sha256 {registry.split(':')[1].strip()}",
        f"  found: sha256 {found}",
        "Restore it from git: a reference never changes.",
    ]


def test_archive_that_is_no_zip_is_an_error(checkout):
    project, fixtures = checkout
    (fixtures / "0.7.0.zip").write_bytes(b"no archive")
    publish(fixtures)

    what, file, cause, remedy = refused(project.run("--nlam-compat"))
    assert what == "ERROR: The archive 0.7.0.zip can't be read."
    assert file == f"  file: {fixtures / '0.7.0.zip'}"
    assert cause == "  cause: File is not a zip file"
    assert remedy.startswith("Restore it: from git in a checkout, ")


def test_missing_and_extra_members_are_an_error_that_names_them(checkout):
    project, fixtures = checkout

    def exchange(members):
        members[f"{CASE}/loss.json"] = members.pop(f"{CASE}/config.yaml")

    rewrite(fixtures / "0.7.0.zip", exchange)

    assert refused(project.run("--nlam-compat")) == [
        "ERROR: The archive 0.7.0.zip doesn't hold what its index lists.",
        f"  file: {fixtures / '0.7.0.zip'}",
        f"  missing: {CASE}/config.yaml",
        f"  extra: {CASE}/loss.json",
        "Restore it: from git in a checkout, with `nlam-compat fetch` "
        "elsewhere.",
    ]


def test_schema_of_another_version_is_an_error(checkout):
    project, fixtures = checkout

    def date_forward(members):
        index = json.loads(members["release.json"])
        index["schema"] = SCHEMA + 1
        members["release.json"] = json.dumps(index).encode()

    rewrite(fixtures / "0.7.0.zip", date_forward)

    what, *facts, remedy = refused(project.run("--nlam-compat"))
    assert what.startswith("ERROR: 0.7.0.zip has a format ")
    assert facts == [
        f"  expected: schema {SCHEMA}",
        f"  found: {SCHEMA + 1}",
    ]
    assert "`pip install -U pytest-nlam-compat`" in remedy


def test_damaged_description_is_an_error_before_anything_is_run(checkout):
    project, fixtures = checkout
    damage(fixtures / "0.7.0.zip", f"{CASE}/case.json")

    what, file, member, cause, remedy = refused(project.run("--nlam-compat"))
    assert what == "ERROR: The archive 0.7.0.zip is damaged."
    assert file == f"  file: {fixtures / '0.7.0.zip'}"
    assert member == f"  member: {CASE}/case.json"
    assert cause.startswith("  cause: ")
    assert remedy.startswith("Restore it: ")


@pytest.mark.parametrize(
    ("member", "needed_by"),
    [
        ("checkpoint.ckpt", CHECKS),
        ("state_dict.safetensors", {"test_opens", "test_resumes"}),
        ("tensors.safetensors", CHECKS - {"test_opens"}),
    ],
)
def test_damaged_member_fails_each_check_that_needs_it(
    checkout, member, needed_by
):
    project, fixtures = checkout
    damage(fixtures / "0.7.0.zip", f"{CASE}/{member}")

    result = project.run("--nlam-compat")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert shows_no_traceback(result)
    outcomes = result.parseoutcomes()
    assert not outcomes.keys() & {"skipped", "xfailed", "deselected"}
    assert failed(result) == needed_by
    result.stdout.fnmatch_lines(
        [
            "The archive 0.7.0.zip is damaged.",
            f"  file: {fixtures / '0.7.0.zip'}",
            f"  member: {CASE}/{member}",
            "  cause: *",
            "Restore it: from git in a checkout, with `nlam-compat fetch` "
            "elsewhere.",
        ]
    )


@pytest.mark.parametrize("line", ["0.7.0.zip", "0.7.0.zip md5:0123"])
def test_line_that_is_none_is_an_error_that_shows_it(checkout, line):
    project, fixtures = checkout
    (fixtures / "registry.txt").write_text(f"{line}\n")

    what, expected, found, remedy = refused(project.run("--nlam-compat"))
    assert what.startswith(
        f"ERROR: Line 1 of {fixtures / 'registry.txt'} is invalid: "
    )
    assert expected == "  expected: 0.6.0.zip sha256:<64 hex digits>"
    assert found == f"  found: {line}"
    assert remedy == "Fix the line, or restore the file from git."
