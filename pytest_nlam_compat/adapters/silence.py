"""Keep what neural-lam and Lightning say of each model off the terminal."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LIGHTNING = ("lightning_fabric", "pytorch_lightning")
# They log with loguru: neural-lam from 0.4 on, and its datasets.
_LOGURU = ("neural_lam", "mllam_data_prep")
_is_silent = False


@contextmanager
def silenced() -> Iterator[None]:
    """Silence logs and warnings; within itself it does nothing."""
    global _is_silent
    if _is_silent:
        yield
        return
    loggers = [logging.getLogger(name) for name in _LIGHTNING]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # About unused GPUs, workers and checkpoints, disabled on purpose.
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        _switch_loguru(on=False)
        _is_silent = True
        try:
            yield
        finally:
            _is_silent = False
            _switch_loguru(on=True)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _switch_loguru(*, on: bool) -> None:
    with suppress(ImportError):  # up to neural-lam 0.3
        from loguru import logger

        for package in _LOGURU:
            (logger.enable if on else logger.disable)(package)
