"""Each command of docs/pinning.md, run in a folder like that of its reader."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from nlam_runs import CHECKOUT, run
from test_pin import releases

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

BLOCK = re.compile(
    r"^<!-- with: (\S+) -->\n```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks():
    text = (CHECKOUT / "docs" / "pinning.md").read_text(encoding="utf-8")
    return [match.groups() for match in BLOCK.finditer(text)]


def test_no_block_is_left_out():
    text = (CHECKOUT / "docs" / "pinning.md").read_text(encoding="utf-8")
    assert text.count("```bash") == len(blocks()) >= 4


@pytest.mark.parametrize(
    "old", ["0.5.0"] if "0.5.0" in releases() else ["0.7.0"]
)
def test_the_commands_of_the_document(old, centre, tmp_path):
    """Without 0.5.0 at hand, both environments have the newest release."""
    first = releases().get(old, "")
    trained = centre.trained(first, "hi_lam", "hierarchical", 3)
    folder = Path(shutil.copytree(trained, tmp_path / "work"))
    shutil.rmtree(folder / "pinned", ignore_errors=True)
    ran = []
    for release, commands in blocks():
        path = first if release == "0.5.0" else ""
        for line in commands.splitlines():
            name, *words = line.replace("0.5.0-", f"{old}-").split()
            ran.append(name)
            if name == "pytest":
                result = run(words, folder)
                assert int(result.ret) == 0, result.stdout.str()
                continue
            if words[0] == "upgrade" and old == "0.7.0":
                # There is nothing to upgrade.
                continue
            if "production-0.7.ckpt" in words and old == "0.7.0":
                continue
            done = centre.compat(path, folder, *words)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert ran.count("nlam-compat") >= 4
    assert sys.executable
