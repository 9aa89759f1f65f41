import json
import os
import pkgutil
import subprocess
import sys
from importlib.metadata import entry_points
from types import ModuleType

import pytest

from pytest_nlam_compat import __version__, cli, commands
from pytest_nlam_compat.commands import CommandResult
from pytest_nlam_compat.errors import CompatError

RUN = [sys.executable, "-m", "pytest_nlam_compat"]


@pytest.fixture
def command(monkeypatch):
    """A subcommand ``try`` whose ``run`` a test replaces."""
    module = ModuleType("pytest_nlam_compat.commands.try", "Try something.")

    def add_arguments(parser):
        parser.add_argument("--number")

    module.add_arguments = add_arguments
    module.run = lambda arguments: CommandResult({})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cli, "COMMANDS", {"try": "anyone"})
    return module


def test_the_script_is_installed():
    (script,) = entry_points(group="console_scripts", name="nlam-compat")
    assert script.load() is cli.main


def test_every_module_of_the_room_is_a_command():
    modules = {each.name for each in pkgutil.iter_modules(commands.__path__)}
    assert set(cli.COMMANDS) == modules


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr() == (f"nlam-compat {__version__}\n", "")


def test_python_m_is_the_same():
    result = subprocess.run(
        [*RUN, "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"nlam-compat {__version__}\n"


def test_help_names_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from pytest_nlam_compat.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'pooch', 'requests', 'filelock',\n"
        "         'pytest', 'safetensors', 'neural_lam'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "usage: nlam-compat [-h] [--version] COMMAND ..."
    assert set(cli.COMMANDS) <= set(result.stdout.split())
    assert lines[-1] == "[]"


def test_a_command_receives_its_arguments_and_returns_the_status(
    command, capsys
):
    command.run = lambda arguments: CommandResult(
        {"number": arguments.number}, ["a", "b"], int(arguments.number)
    )
    assert cli.main(["try", "--number", "3"]) == 3
    assert capsys.readouterr() == ("a\nb\n", "")
    assert cli.main(["try", "--number", "3", "--json"]) == 3
    assert capsys.readouterr() == ('{\n "number": "3"\n}\n', "")


def test_what_is_printed_meanwhile_does_not_spoil_the_json(command, capsys):
    def run(arguments):
        print("Loading.")
        return CommandResult({})

    command.run = run
    assert cli.main(["try", "--json"]) == 0
    assert capsys.readouterr() == ("{}\n", "Loading.\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["--no-such-option"], "the following arguments are required: COMMAND"),
        (["try", "--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_a_usage_error_is_reported(command, capsys, argv, message):
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"nlam-compat: error: {message}"
    assert cli.main([*argv, "--json"]) == 2
    out, err = capsys.readouterr()
    assert message in json.loads(out)["problem"]
    assert err == ""


def test_an_empty_path_is_wrong_usage(capsys):
    """As of a shell variable that is not set: not the current folder."""
    assert cli.main(["upgrade", ""]) == 2
    assert "argument OLD: the path is empty" in capsys.readouterr().err
    assert cli.main(["upgrade", "old.ckpt", "-o", ""]) == 2
    assert "argument -o: the path is empty" in capsys.readouterr().err


def test_a_file_where_a_directory_is_needed(command, tmp_path, capsys):
    def run(arguments):
        (tmp_path / "a.txt").touch()
        (tmp_path / "a.txt").mkdir(exist_ok=True)

    command.run = run
    assert cli.main(["try"]) == 1
    assert (
        "a.txt\n  cause: File exists, and is not a" in capsys.readouterr().err
    )


@pytest.mark.skipif(
    not os.path.exists("/dev/full"),
    reason="only Linux has a device that is always full",
)
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "<&- >&-"])
@pytest.mark.parametrize("option", ["", "--json"])
def test_a_result_that_stdout_does_not_take(redirection, option, tmp_path):
    run = f"{sys.executable} -m pytest_nlam_compat migration new x-y"
    command = f"cd {tmp_path}; {run} {option} {redirection}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "stdout does not take its output.\n  cause: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "x_y.py" in done.stderr
    assert len(list(tmp_path.rglob("*x_y.py"))) == 2


def test_an_error_is_printed(command, capsys):
    def run(arguments):
        raise CompatError("It broke.", facts={"found": 1}, remedy="Fix it.")

    command.run = run
    assert cli.main(["try"]) == 1
    assert capsys.readouterr() == ("", "It broke.\n  found: 1\nFix it.\n")
    assert cli.main(["try", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "problem": "It broke.",
        "facts": {"found": "1"},
        "remedy": "Fix it.",
    }
    assert err == ""


def test_an_interrupt_is_one_line(command, capsys):
    def run(arguments):
        raise KeyboardInterrupt

    command.run = run
    assert cli.main(["try"]) == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")
    assert cli.main(["try", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["problem"] == "Interrupted."
    assert err == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("argument", ["", "--json", "--nope"])
def test_a_closed_pipe_is_no_error(unbuffered, size, argument):
    code = (
        "import sys\n"
        "from pytest_nlam_compat.cli import main\n"
        "from pytest_nlam_compat.commands import CommandResult, fetch\n"
        "def run(arguments):\n"
        f"    return CommandResult({{'x': 'x' * {size}}}, ['x' * {size}])\n"
        "fetch.run = run\n"
        f"sys.exit(main('fetch {argument}'.split()))"
    )
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as pipe:
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=pipe,
            # What is said of wrong usage goes into a closed pipe as well.
            stderr=pipe if argument == "--nope" else subprocess.PIPE,
            text=True,
        )
    assert (result.returncode, result.stderr or "") == (141, "")


@pytest.mark.parametrize(
    ("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)]
)
def test_a_signal_ends_it_as_an_interrupt(name, status):
    code = (
        "import os, signal, sys\n"
        "from pytest_nlam_compat.cli import main\n"
        "from pytest_nlam_compat.commands import fetch\n"
        # Whoever runs the tests in the background, or with nohup, ignores it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "def run(arguments):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "        signal.pause()\n"
        "    finally:\n"
        "        print('cleaned up')\n"
        "fetch.run = run\n"
        "sys.argv[1:] = ['fetch']\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (
        status,
        "cleaned up\n",
        "Interrupted.\n",
    )


def test_too_little_memory_is_an_error(command, capsys):
    def run(arguments):
        raise MemoryError

    command.run = run
    assert cli.main(["try"]) == 1
    assert "not enough memory" in capsys.readouterr().err
