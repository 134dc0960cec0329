"""Logging: terminal, ``initial_dataset.log`` and ``AL.log``; other libraries to ``log_dir``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

OURS = "fhi_al"
LINE = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
ALARM = logging.Formatter("%(asctime)s %(levelname)s: %(message)s", "%Y-%m-%d %H:%M:%S")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return (LINE if record.levelno == logging.INFO else ALARM).format(record)


def log_to_terminal(level: str) -> None:
    """Send our messages to standard output, and no other library's."""
    ours = logging.getLogger(OURS)
    ours.setLevel(level)
    # MACE logs through the root logger at INFO; those lines go to log_dir only.
    ours.propagate = False
    for handler in list(ours.handlers):
        ours.removeHandler(handler)
    _add(ours, logging.StreamHandler(sys.stdout))
    logging.captureWarnings(True)


def log_to_file(path: Path) -> logging.Handler:
    """Send our messages to a file too, appending; returns the handler, for ``stop_log``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _add(logging.getLogger(OURS), logging.FileHandler(path))


def log_libraries_to_file(path: Path) -> None:
    """Send what MACE and the other libraries log, and Python's warnings, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(logging.INFO)
    _add(root, logging.FileHandler(path))


def stop_log(handler: logging.Handler) -> None:
    """Stop writing to a log file."""
    logging.getLogger(OURS).removeHandler(handler)
    handler.close()


def _add(logger: logging.Logger, handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(_Lines())
    logger.addHandler(handler)
    return handler
