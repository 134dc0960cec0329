"""Which curves a run draws besides its tables: ``MISC.logger``."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fhi_al.report.metrics import TENSORBOARD, WANDB, Metrics, TensorBoardCurves, WandbCurves
from fhi_al.settings import Settings

KEY = "MISC.logger"


def logger_problems(settings: Settings) -> Iterator[str]:
    """A logger whose package is not installed."""
    chosen = settings.misc.logger
    if chosen != "none" and importlib.util.find_spec(chosen) is None:
        message = f"is not installed. pip install 'fhi-al[{chosen}]', or set it to none"
        yield str(settings.problem("active_learning", KEY, message))


def metrics(settings: Settings, folder: Path) -> Metrics | None:
    """What hears of the journal's entries; None without a logger."""
    assert settings.mace is not None
    chosen = settings.misc.logger
    if chosen == TENSORBOARD:
        return Metrics(partial(TensorBoardCurves, folder / "tensorboard"))
    if chosen == WANDB:
        name = settings.mace.general.name_exp
        return Metrics(partial(WandbCurves, folder, name, settings.values()))
    return None
