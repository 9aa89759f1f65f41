"""What holds for each command: its help, ``--json``, and Ctrl-C."""

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import argcomplete
import interrupting
import made_results
import mdp_dataset
import pytest
import reference_page
from bisections import BAD, GOOD, Bisected
from nlam_runs import CHECKOUT, FIXTURES, forked
from owned_runs import facts_of

from pytest_nlam_compat import cli

# Each but the long ones ends with status 0 in the folder that `place` gives.
RUNS = {
    "bisect": ["--good", "main~2", "--bad", "main", "--clone", "clone"],
    "check": ["newest/checkpoint.ckpt", "--graph", "newest/graph/1level"],
    "fetch": ["--release", ">0.5", "--cache", "cache", "--url", "{url}"],
    "inspect": ["run.ckpt"],
    "migration": ["new", "output-mlp"],
    "pin": ["production.ckpt", "--datastore", "config.yaml"],
    "record": ["0.7.0"],
    "release": ["0.8.0"],
    "report": ["results.json", "-o", "report.json"],
    "stamp": ["run.ckpt", "--from=0.6.0", "--statistics=facts.json"],
    "statistics": ["--datastore", "mdp/config.yaml", "-o", "new.json"],
    "status": ["--clone", "clone"],
    "suggest": ["--release", "==0.7.0", "--case", "graph_lam"],
    "upgrade": ["run.ckpt"],
    "verify": ["pinned/0.7.0-production.zip"],
}
# They take minutes; tests/releasing interrupts a release.
LONG = {"pin", "release", "verify"}
# In a process that imports torch and the rest itself, and is interrupted then.
WHOLE = {"check"}
# What would take minutes, made smaller.
SMALLER = {
    "bisect": "from bisections import RecordedGrader\n"
    "from pytest_nlam_compat.bisect import bisect\n"
    "bisect.CommitGrader = RecordedGrader",
    "record": "from pytest_nlam_compat.recording import release_recorder as r\n"
    "from pytest_nlam_compat.recording.cases import CASES\n"
    "r.cases_of = lambda _: CASES[:1]",
}
# The verdicts of a bisect; what neural-lam itself makes of a dataset.
KEPT = ("cache/bisect/", "mdp/datastore.zarr/")


def wrong(command):
    """Return arguments that a command refuses, before it does anything."""
    found = RUNS[command]
    for good, bad in (
        ("{url}", "ftp://x/"),
        ("output-mlp", "Output"),
        ("==0.7.0", "0.7"),
    ):
        found = [each.replace(good, bad) for each in found]
    return found


def with_json(command, arguments):
    first = 1 if command == "migration" else 0
    return [command, *arguments[:first], "--json", *arguments[first:]]


def test_all_commands_are_here():
    assert set(RUNS) == set(cli.COMMANDS)


def test_the_list_of_commands_fits_on_a_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    first = [line.split()[0] for line in lines if line and line[0] != " "]
    audiences = list(dict.fromkeys(cli.COMMANDS.values()))
    assert [word for word in first if word in audiences] == audiences


def module(name):
    return import_module(f"pytest_nlam_compat.commands.{name}")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_names_the_exit_statuses(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert " ".join(cli.EXIT_STATUS.split()) in out
    assert " ".join(module(command).__doc__.split()) in out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_an_error_has_the_same_status_as_json(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, *wrong(command)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert cli.main(with_json(command, wrong(command))) == 1
    out, said = capsys.readouterr()
    found = json.loads(out)
    assert list(found) == ["problem", "facts", "remedy"]
    assert err.startswith(found["problem"])
    assert err.endswith(found["remedy"] + "\n")
    assert said == ""


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_wrong_usage_as_json(command, capsys):
    assert cli.main([command, "--nope", "--json"]) == 2
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == ["problem", "facts", "remedy"]
    assert err == ""


@pytest.fixture
def url():
    """The address of the real archives, on a real server."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Handler, directory=FIXTURES)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def place(reference_of, tmp_path):
    """Make a folder in which all runs succeed; return a function for more."""
    made = tmp_path / "made"
    made.mkdir()
    reference = reference_of("0.6.0-graph_lam")
    reference.write(made).rename(made / "run.ckpt")
    (made / "facts.json").write_bytes(facts_of(reference).to_bytes(".json"))
    reference_of("0.7.0-graph_lam").write(made / "newest")
    (made / "mdp").mkdir()
    mdp_dataset.write(made / "mdp")
    (made / "fixtures").mkdir()
    (made / "fixtures" / "registry.txt").write_text("# Archives.\n")
    Bisected(made / "clone").line(GOOD, BAD)
    (made / "pytest.ini").write_text("[pytest]\n")
    (made / "results.json").write_text(json.dumps(made_results.results()))
    subprocess.run(["git", "-C", made / "clone", "tag", "v0.7.0"], check=True)

    def copy(name):
        shutil.copytree(made, tmp_path / name)
        (tmp_path / f"{name}-temporary").mkdir()
        return tmp_path / name

    return copy


def run(folder, command, url, at=0):
    """Run it with --json, interrupted at an event or not at all."""
    temporary = folder.with_name(f"{folder.name}-temporary")
    arguments = [each.replace("{url}", url) for each in RUNS[command]]
    counted = folder.with_name(f"{folder.name}-events")
    words = [counted, at, SMALLER.get(command, "")]
    words += with_json(command, arguments)
    variables = {
        "NLAM_COMPAT_CACHE": str(folder / "cache"),
        "TMPDIR": str(temporary),
    }
    if command in WHOLE:
        done = subprocess.run(
            [sys.executable, interrupting.__file__, *map(str, words)],
            cwd=folder,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
    else:
        path = [CHECKOUT / "tests"]
        done = forked(interrupting.interrupted, words, folder, path, variables)
    print(done.stderr)
    assert "Traceback" not in done.stderr
    left = [str(file) for file in temporary.rglob("*") if file.is_file()]
    # torch_geometric leaves some, whatever happens.
    assert [name for name in left if "_pyg" not in name] == []
    events = int(counted.read_text()) if at == 0 else 0
    return done.returncode, json.loads(done.stdout), events


def files(folder):
    names = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    return {
        name: content
        for name, content in names.items()
        if not name.startswith(KEPT)
    }


@pytest.mark.slow
@pytest.mark.neural_lam
@pytest.mark.parametrize("command", sorted({*cli.COMMANDS} - LONG))
def test_an_interrupt_is_clean(command, place, url):
    whole = place("whole")
    before = files(whole)
    status, found, events = run(whole, command, url)
    complete = files(whole)
    assert status == 0
    assert "problem" not in found
    # While it imports, in the midst of its work, and near its end. (While it
    # removes its own temporary files, some of them would stay.)
    for part in (0.2, 0.6, 0.9):
        folder = place(f"{part}")
        status, found, _ = run(folder, command, url, at=int(events * part))
        assert (status, found["problem"]) == (130, "Interrupted.")
        kept = files(folder)
        # What is complete may stay, and nothing else. A release that is
        # recorded twice has other bytes.
        assert set(before) <= set(kept) <= set(complete)
        if command == "record":
            listed = kept["fixtures/registry.txt"].count(b".zip")
            assert listed == len([*folder.glob("fixtures/*.zip")])
        else:
            assert kept.items() <= complete.items()


@pytest.mark.skipif(os.name != "posix", reason="bash completes")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nlam-compat upg", {"upgrade "}),
        ("nlam-compat upgrade --graph-", None),
        ("nlam-compat migration n", {"new "}),
    ],
)
def test_bash_completes(line, offered):
    scripts = Path(sys.executable).parent
    # What bash calls and sets when somebody presses the tab key.
    code = (
        # That register-python-argcomplete prints.
        f"{argcomplete.shellcode(['nlam-compat'])}\n"
        f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({line})\n"
        f"COMP_CWORD={len(line.split()) - 1} COMP_TYPE=9 COMP_KEY=9\n"
        "_python_argcomplete nlam-compat\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", code],
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    found = set(done.stdout.splitlines())
    if offered is None:
        offered = {"--graph-out", "--graph-root", "--graph-name-differs"}
        found = {each.strip() for each in found}
    assert found == offered, done.stderr


def test_the_page_is_written_from_the_parser():
    assert reference_page.PAGE.read_text(encoding="utf-8") == (
        reference_page.page()
    )
