import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pytest_nlam_compat.upgrade.output import UPGRADED, OutputFile
from pytest_nlam_compat.upgrade.request import UpgradeRequest
from pytest_nlam_compat.upgrade.upgrade import upgrade

SCRIPT = Path(__file__).with_name("killed_upgrades.py")
MOMENTS = 50


@pytest.mark.slow
def test_a_killed_upgrade_leaves_the_old_or_the_new_file(owned, tmp_path):
    file = tmp_path / "model.ckpt"
    # 32 tensors of 512 kB: long enough in the writing to be met there.
    old = owned("0.6.0-graph_lam").checkpoint
    content = torch.load(old, weights_only=False)
    content["extra"] = [torch.rand(131_072) for _ in range(32)]
    torch.save(content, file)
    new = tmp_path / "new.ckpt"
    upgrade(OutputFile(file, new, UPGRADED), UpgradeRequest(origin="0.6.0"))
    done = subprocess.run(
        [sys.executable, SCRIPT, file, new, str(MOMENTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    old_files, new_files = map(int, done.stdout.split())
    assert old_files + new_files == MOMENTS
    assert old_files
