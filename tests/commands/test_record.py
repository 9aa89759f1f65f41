"""``nlam-compat record``: its arguments, and what it prints."""

import pytest
from packaging.version import Version

from pytest_nlam_compat.cli import main
from pytest_nlam_compat.recording.cases import CASES


@pytest.mark.neural_lam
@pytest.mark.usefixtures("current_adapter")
def test_it_prints_a_line_for_each_case(fixtures, monkeypatch, capsys):
    from pytest_nlam_compat.recording import release_recorder

    monkeypatch.setattr(release_recorder, "cases_of", lambda _: CASES[:1])
    monkeypatch.chdir(fixtures.parent)
    assert main(["record", "v0.7.0"]) == 0
    out, err = capsys.readouterr()
    first, case, archive, routes = out.splitlines()
    assert first == "Recording neural-lam 0.7.0"
    assert case.startswith("  graph_lam: ")
    size = (fixtures / "0.7.0.zip").stat().st_size
    assert archive == f"fixtures/0.7.0.zip: {size / 1000:,.0f} kB"
    assert routes == (
        "fixtures/native_routes.txt: its own loader loads 1 of 1 references"
    )
    assert err == ""

    # The archive stays as it is; only what the loader loads is tried again.
    before = (fixtures / "0.7.0.zip").read_bytes()
    (fixtures / "native_routes.txt").write_text("0.6.0 0.5.0-graph_lam\n")
    assert main(["record", "0.7.0", "--native-routes"]) == 0
    assert capsys.readouterr().out.splitlines() == [routes]
    assert (fixtures / "0.7.0.zip").read_bytes() == before
    lines = (fixtures / "native_routes.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "0.6.0 0.5.0-graph_lam",
        "0.7.0 0.7.0-graph_lam",
    ]


@pytest.mark.parametrize("text", ["newest", "0.7.x", "main", ""])
def test_a_release_that_is_not_one(fixtures, capsys, text):
    assert main(["record", text, "--fixtures", str(fixtures)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"argument RELEASE: invalid Version value: {text!r}" in err


def test_a_folder_without_a_registry(tmp_path, capsys):
    assert main(["record", "0.7.0", "--fixtures", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{tmp_path} has no registry.txt.\n")
    assert "--fixtures" in err


def test_fixtures_are_those_of_the_current_folder(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["record", "0.7.0"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("fixtures has no registry.txt.\n")


@pytest.mark.neural_lam
@pytest.mark.usefixtures("current_adapter")
@pytest.mark.parametrize(
    ("release", "what"),
    [
        ("0.6.0", "neural-lam 0.6.0 is not the installed release."),
        (
            "0.7.0.dev1",
            "neural-lam 0.7.0.dev1 is not the installed release.",
        ),
    ],
)
def test_another_release(fixtures, capsys, release, what):
    assert main(["record", release, "--fixtures", str(fixtures)]) == 1
    out, err = capsys.readouterr()
    assert out == f"Recording neural-lam {Version(release)}\n"
    assert err.startswith(f"{what}\n  installed: 0.7.0\n")


@pytest.mark.neural_lam
def test_an_archive_that_is_there(fixtures, capsys):
    (fixtures / "0.7.0.zip").write_bytes(b"published")
    assert main(["record", "0.7.0", "--fixtures", str(fixtures)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("neural-lam 0.7.0 is recorded already. ")
    assert (fixtures / "0.7.0.zip").read_bytes() == b"published"


def test_the_release_is_required(capsys):
    assert main(["record"]) == 2
    assert capsys.readouterr().err.endswith(
        "the following arguments are required: RELEASE\n"
    )
