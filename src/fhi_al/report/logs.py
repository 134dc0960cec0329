"""Logging: terminal, ``initial_dataset.log`` and ``AL.log``; other libraries to ``log_dir``."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OURS = "fhi_al"
LINE = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
ALARM = logging.Formatter("%(asctime)s %(levelname)s: %(message)s", "%Y-%m-%d %H:%M:%S")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return (LINE if record.levelno == logging.INFO else ALARM).format(record)


@contextmanager
def terminal_log(level: str) -> Iterator[None]:
    """Send our messages to standard output, and no other library's."""
    ours = logging.getLogger(OURS)
    with _with_handlers(ours, level, logging.StreamHandler(sys.stdout)), _warnings_logged():
        # MACE logs through the root logger at INFO; those lines go to log_dir only.
        propagated, ours.propagate = ours.propagate, False
        try:
            yield
        finally:
            ours.propagate = propagated


class _Through:
    """A stream whose text another one writes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def write(self, text: str) -> None:
        self._write(text)

    def flush(self) -> None:
        """Nothing waits here."""


@contextmanager
def terminal_log_through(write: Callable[[str], None]) -> Iterator[None]:
    """Let something else write our messages to the terminal, which has lines of its own there."""
    ours = logging.getLogger(OURS)
    handlers = [each for each in ours.handlers if type(each) is logging.StreamHandler]
    before = [each.setStream(_Through(write)) for each in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream)


def log_to_file(path: Path) -> logging.Handler:
    """Send our messages to a file too, appending; returns the handler, for ``stop_log``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _add(logging.getLogger(OURS), logging.FileHandler(path))


@contextmanager
def library_log(path: Path) -> Iterator[None]:
    """Send what MACE and the other libraries log, and Python's warnings, to a file only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _with_handlers(logging.getLogger(), "INFO", logging.FileHandler(path)):
        yield


def stop_log(handler: logging.Handler) -> None:
    """Stop writing to a log file."""
    logging.getLogger(OURS).removeHandler(handler)
    handler.close()


@contextmanager
def _with_handlers(logger: logging.Logger, level: str, handler: logging.Handler) -> Iterator[None]:
    """Give a logger this handler and no other, and this level; put back what it had."""
    handlers, level_before = list(logger.handlers), logger.level
    logger.handlers.clear()
    logger.setLevel(level)
    _add(logger, handler)
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level_before)
        handler.close()


@contextmanager
def _warnings_logged() -> Iterator[None]:
    """Python's warnings go to the loggers, unless they do so anyway."""
    before = warnings.showwarning
    logging.captureWarnings(True)
    ours = warnings.showwarning is not before
    try:
        yield
    finally:
        if ours:
            logging.captureWarnings(False)


def _add(logger: logging.Logger, handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(_Lines())
    logger.addHandler(handler)
    return handler
