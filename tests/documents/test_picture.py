"""The picture of the README shows what the real neural-lam computes."""

import subprocess
import sys

import pytest
from blocks import ROOT, text_of
from PIL import Image

IMAGES = ROOT / "docs" / "images"


def described(file):
    with Image.open(file) as image:
        return image.text["Description"], image.size


@pytest.mark.neural_lam
@pytest.mark.slow
def test_the_picture_is_what_its_script_draws(tmp_path):
    drawn = tmp_path / "drawn.png"
    script = IMAGES / "silent_break.py"
    subprocess.run([sys.executable, script, drawn], check=True, cwd=tmp_path)
    text, size = described(drawn)
    assert (text, size) == described(IMAGES / "silent_break.png")
    assert text in " ".join(text_of("README.md").split())
