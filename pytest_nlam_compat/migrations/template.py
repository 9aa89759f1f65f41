"""What a new step, and its test, look like before somebody fills them in."""

from __future__ import annotations

from pytest_nlam_compat.migrations.lint import PLACEHOLDER

STEP = '''"""A step of neural-lam's layout, for runs saved before it."""

from pytest_nlam_compat.migrations import Migration, Rename

MIGRATIONS = [
    Migration(
        # For good: files that were upgraded name it.
        id="{id}",
        # First release with the change. All runs of older ones get the step.
        since="{since}",
        reason="{placeholder}: what changed and why, with the pull request.",
        # In order, for weights and optimizer alike. Where only some models
        # are concerned, say which: when=holds("old_name").
        operations=(
            Rename(
                "forecaster.predictor.old_name",
                "forecaster.predictor.new_name",
            ),
        ),
    ),
]
'''

TEST = '''"""The step of {stem}.py, on weights as they were saved."""

from pathlib import Path

import torch

from pytest_nlam_compat.migrations import SavedRun, read_steps

[STEP] = read_steps(Path(__file__).with_name("{stem}.py"))


def test_{stem}():
    weight = torch.tensor([[1.0, 2.0]])
    old = SavedRun({{"forecaster.predictor.old_name.0.weight": weight}}, {{}})
    new = STEP.apply(old).state_dict
    assert list(new) == ["forecaster.predictor.new_name.0.weight"]
    assert torch.equal(new["forecaster.predictor.new_name.0.weight"], weight)
'''


def step_text(name: str, since: str) -> str:
    """Write the file of a step.

    Parameters
    ----------
    name : str
        Words joined by hyphens.
    since : str
        First release with the change.

    Returns
    -------
    str
        With a reason that lint does not accept.
    """
    return STEP.format(
        id=f"{since}-{name}", since=since, placeholder=PLACEHOLDER
    )


def test_text(stem: str) -> str:
    """Write the file of its test.

    Parameters
    ----------
    stem : str
        Of the file of the step.

    Returns
    -------
    str
    """
    return TEST.format(stem=stem)
