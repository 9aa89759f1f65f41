"""What neural-lam and Lightning say, and when they may say it again."""

import logging
import warnings

import pytest

from pytest_nlam_compat.adapters.silence import silenced

pytestmark = pytest.mark.neural_lam


@pytest.fixture
def heard():
    """Collect what neural-lam logs."""
    from loguru import logger

    heard = []
    handle = logger.add(heard.append, format="{message}")
    yield heard
    logger.remove(handle)


def say(what):
    from loguru import logger

    module = {"__name__": "neural_lam.utils", "logger": logger}
    exec(f"logger.info({what!r})", module)


def test_neural_lam_may_log_again_afterwards(heard):
    with silenced():
        say("hushed")
    say("spoken")
    assert heard == ["spoken\n"]


def test_the_inner_one_does_not_end_the_outer_one(heard):
    with silenced():
        with silenced():
            say("within")
        say("hushed")
    assert heard == []


def test_lightning_may_log_and_warn_again_afterwards():
    lightning = logging.getLogger("pytorch_lightning")
    level = lightning.level
    with silenced():
        assert not lightning.isEnabledFor(logging.WARNING)
        warnings.warn("hushed", stacklevel=1)
    assert lightning.level == level
    with pytest.warns(UserWarning, match="spoken"):
        warnings.warn("spoken", stacklevel=1)
