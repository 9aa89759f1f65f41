"""Options that can't be met: one clear error each, and status 4."""

import shutil

import pytest
from nlam_runs import ONE, error_lines

NO_CUDA = {"CUDA_VISIBLE_DEVICES": ""}
OWN = """
def test_own(nlam_reference):
    pass
"""


def refused(result):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return error_lines(result)


def test_impossible_device_names_those_there_are(project):
    result = project.run("--nlam-compat", "--nlam-compat-device=tpu")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*error: argument --nlam-compat-device: invalid choice: 'tpu' "
            "(choose from *cpu*, *cuda*, *auto*)"
        ]
    )


def test_cuda_that_is_not_there_is_an_error(project):
    result = project.run(*ONE, "--nlam-compat-device=cuda", **NO_CUDA)

    what, version, built, devices, remedy = refused(result)
    assert what == "ERROR: CUDA is not available."
    assert version.startswith("  torch: ")
    assert built.startswith("  built for CUDA: ")
    assert devices == "  devices: 0"
    assert remedy == (
        "Use --nlam-compat-device=cpu, or run it where torch finds a GPU."
    )


def test_automatic_device_is_the_cpu_where_there_is_no_cuda(project):
    result = project.run(
        *ONE, "--nlam-compat-device=auto", "--collect-only", **NO_CUDA
    )

    assert result.ret == 0
    result.stdout.fnmatch_lines(["nlam-compat: torch * on cpu"])


@pytest.mark.parametrize("found", ["0.6.0", "newest", ">=0.6;<0.7"])
def test_release_that_is_no_specifier_is_an_error(project, found):
    result = project.run("--nlam-compat", f"--nlam-compat-release={found}")

    assert refused(result) == [
        "ERROR: --nlam-compat-release is not a version specifier.",
        "  expected: a version specifier (PEP 440), such as '>=0.5' or "
        "'==0.6.0'",
        f"  found: {found}",
        "Correct it, or leave it out for all releases.",
    ]


def test_nothing_selected_is_an_error_that_shows_the_selection(project):
    result = project.run(
        "--nlam-compat",
        "--nlam-compat-release=>=0.6",
        "--nlam-compat-case=graph_efficientnet",
    )

    what, releases, *rest = refused(result)
    assert what == "ERROR: No reference is selected."
    assert releases.startswith("  releases: ")
    assert releases.endswith("0.4.0, 0.5.0, 0.6.0, 0.7.0")
    assert rest == [
        "  current code: neural-lam 0.7.0",
        "  --nlam-compat-release: >=0.6",
        "  --nlam-compat-case: graph_efficientnet",
        "Correct the options; without them, all are selected.",
    ]


def test_void_case_alone_is_an_error_that_says_why_it_is_void(project):
    result = project.run(
        "--nlam-compat",
        "--nlam-compat-release===0.6.0",
        "--nlam-compat-case=hi_lam",
    )

    lines = refused(result)
    assert lines[0] == "ERROR: No reference is selected."
    assert lines[-2].startswith(
        "  0.6.0-hi_lam is void: neural-lam 0.6 can't run hierarchical models"
    )


def test_two_references_of_one_name_are_refused(project, pinned_like):
    pinned = pinned_like("0.7.0-graph_lam")
    again = shutil.copytree(pinned, project.folder / "again")
    options = [f"--nlam-compat-references={each}" for each in (pinned, again)]

    assert refused(project.run("--nlam-compat", *options)) == [
        "ERROR: Two references have the same name.",
        "  name: 0.7.0-production",
        f"  pinned in: {pinned}, {again}",
        "Leave a folder out, or pin one of the two again under another --name.",
    ]


@pytest.mark.parametrize("flag", ["--regen-all", "--force-regen"])
def test_regenerating_what_is_frozen_is_refused(project, flag):
    assert refused(project.run(*ONE, flag)) == [
        f"ERROR: {flag} can't be used with references of neural-lam: they are "
        "frozen.",
        f"Leave {flag} out, or deselect the tests that use nlam_reference.",
    ]


def test_regenerating_is_refused_without_the_flag_too(project):
    project.write("test_own.py", OWN)

    result = project.run(*ONE[1:], "--regen-all")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR collecting test_own.py _*",
            "--regen-all can't be used with references of neural-lam: they "
            "are frozen.",
            "Leave --regen-all out, or deselect the tests that use "
            "nlam_reference.",
        ]
    )
    assert "Traceback" not in result.stdout.str()


WITHIN = "from pytest_nlam_compat.checks import *\n"
NO_RELEASES = "--nlam-compat-release=foo"


def test_impossible_option_ends_a_run_without_the_flag_the_same(project):
    project.write("test_compat.py", WITHIN)
    project.write("test_own.py", "def test_own():\n    pass\n")

    result = project.run(NO_RELEASES)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes(errors=1)
    assert [line for line in result.errlines if line] == [
        "ERROR: --nlam-compat-release is not a version specifier.",
        "  expected: a version specifier (PEP 440), such as '>=0.5' or "
        "'==0.6.0'",
        "  found: foo",
        "Correct it, or leave it out for all releases.",
    ]


@pytest.mark.parametrize("option", ["--continue-on-collection-errors", "-n1"])
def test_other_tests_run_where_pytest_is_to_go_on(project, option):
    project.write("test_compat.py", WITHIN)
    project.write("test_own.py", "def test_own():\n    pass\n")

    result = project.run(NO_RELEASES, option)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1, passed=1)


def test_address_that_is_none_is_an_error(project):
    result = project.run(*ONE, "--nlam-compat-url=ftp://example.org/")

    what, *facts, remedy = refused(result)
    assert what == "ERROR: The URL of the reference archives is invalid."
    assert "  found: ftp://example.org/" in facts
    assert remedy.startswith("Correct it, or leave it out for https://")


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("--junitxml={}/new.xml", "--junitxml"),
        ("--log-file={}/0.7.0.zip", "--log-file"),
        ("--debug={}/debug.log", "--debug"),
        ("-o cache_dir={}/cache", "cache_dir"),
        ("-o log_file={}/new.log", "log_file"),
    ],
)
def test_nothing_is_written_beside_the_references(project, option, shown):
    # A cache, so that a failure of this test can't harm the references.
    cache = project.folder / "cache"
    cache.mkdir()
    (cache / "0.7.0.zip").write_bytes(b"precious")
    options = option.format(cache).split()
    if shown == "--debug":
        # pytest opens this one before any plugin is asked.
        options = [f"--debug={cache}/../cache/debug.log"]
    result = project.run(
        *ONE,
        "--nlam-compat-url=http://127.0.0.1:9",
        *options,
        NLAM_COMPAT_CACHE=str(cache),
    )
    what, path, references, remedy = refused(result)[-4:]
    assert what == (
        f"ERROR: {shown} would write where the references are, which are "
        "frozen."
    )
    assert path.startswith(f"  path: {cache}/")
    assert references == f"  references: {cache}"
    assert remedy == "Choose another path."
    left = {file.name for file in cache.iterdir()}
    assert left - {"debug.log"} == {"0.7.0.zip"}
    assert (cache / "0.7.0.zip").read_bytes() == b"precious"


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("below", ["", "temporary/below"])
def test_no_folder_of_references_is_cleared(project, below, workers):
    # Each run here has --basetemp=temporary.
    cache = project.folder / below
    precious = cache / "0.7.0.zip"
    precious.parent.mkdir(parents=True, exist_ok=True)
    precious.write_bytes(b"precious")
    result = project.run(
        *ONE,
        workers,
        "--nlam-compat-url=http://127.0.0.1:9",
        NLAM_COMPAT_CACHE=str(cache),
    )
    assert refused(result)[0].startswith("ERROR: --basetemp would write where")
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize(
    ("off", "missing"),
    [
        ("no:regressions", "pytest_regressions.plugin"),
        ("no:pytest-datadir", "pytest_datadir.plugin"),
    ],
)
def test_a_plugin_that_is_off_is_named(project, flag, off, missing):
    project.write("test_checks.py", WITHIN)
    args = ONE if flag else (*ONE[1:], "test_checks.py")
    result = project.run(*args, "-p", off)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert f"  off: {missing}\n" in text
    assert f"Add -p {missing}, or leave out" in text
    assert "fixture '" not in text
