"""Files with neural-lam's own stamp, which no release known here writes."""

import os

import pytest
import torch

from pytest_nlam_compat.cli import main

STAMP = "neural_lam_checkpoint_version"
UNKNOWN = (
    "The checkpoint was written by a neural-lam that this pytest-nlam-compat "
    "does not know."
)
NO_NUMBER = "The stamp of the checkpoint is not a number."


@pytest.mark.parametrize(
    ("stamp", "what", "fact"),
    [
        (
            99,
            UNKNOWN,
            f"  {STAMP}: 99\n"
            "  expected: none, as of each release up to 0.7.0\n",
        ),
        ("2", NO_NUMBER, f"  {STAMP}: '2'\n"),
        (None, NO_NUMBER, f"  {STAMP}: None\n"),
    ],
)
class TestAStampOfNeuralLam:
    @pytest.fixture
    def file(self, stamp, owned, tmp_path):
        written = owned("0.7.0-graph_lam").checkpoint
        content = torch.load(written, weights_only=False)
        file = tmp_path / "newer.ckpt"
        torch.save(content | {STAMP: stamp}, file)
        return file

    @pytest.mark.parametrize("options", [[], ["--from", "0.7.0"]])
    def test_no_upgrade(self, options, file, what, fact, capsys):
        before = file.read_bytes()
        assert main(["upgrade", str(file), *options]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(f"{what}\n{fact}")
        assert captured.out == ""
        assert os.listdir(file.parent) == [file.name]
        assert file.read_bytes() == before

    def test_inspect_shows_the_content_anyway(self, file, what, fact, capsys):
        assert main(["inspect", str(file)]) == 0
        out = capsys.readouterr().out
        assert f"written by: neural-lam unknown\n  {what}\n{fact}" in out
        assert "model: graph_lam, " in out

    @pytest.mark.parametrize("options", [[], ["--from", "0.7.0"]])
    def test_no_stamp_of_ours(self, options, file, what, fact, owned, capsys):
        facts = owned("0.7.0-graph_lam").statistics
        arguments = ("--statistics", str(facts), *options)
        assert main(["stamp", str(file), *arguments]) == 1
        assert capsys.readouterr().err.startswith(f"{what}\n{fact}")
        assert os.listdir(file.parent) == [file.name]
