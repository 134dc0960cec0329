"""Numbers of a run as curves for TensorBoard or Weights & Biases, made from the journal.

Owns ``tensorboard/`` and ``wandb/`` of a run's folder.  What fails here is said once and costs the
run nothing.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fhi_al.report.journal import Entry

log = logging.getLogger(__name__)

TENSORBOARD, WANDB = "tensorboard", "wandb"
FLUSH_S = 30


@dataclass(frozen=True)
class Scalar:
    """A point of a curve.

    Parameters
    ----------
    tag : str
        Of the curve; what stands before a slash is its group.
    axis : str
        What ``step`` counts.
    step : int
    value : float
    """

    tag: str
    axis: str
    step: int
    value: float


# kind of entry -> field -> what the curve is called
_OF_EPOCHS = {
    "ensemble": {
        "training_loss": "training loss",
        "mae_forces": "force MAE (eV/A)",
        "mae_stress": "stress MAE (eV/A^3)",
        "n_training": "training points",
    },
    "epoch": {
        "learning_rate": "learning rate",
        "mae_forces": "force MAE (eV/A)",
        "mae_energy_per_atom": "energy MAE (eV/atom)",
    },
}
_OF_MD = {
    "check": {"uncertainty": "uncertainty (eV/A)", "threshold": "threshold (eV/A)"},
    "sanity": {"mae_forces": "true force MAE (eV/A)", "uncertainty": "uncertainty there (eV/A)"},
    "final test": {"mae_forces": "force MAE in the final test (eV/A)"},
}


def scalars(entry: Entry) -> Iterator[Scalar]:
    """The points that an entry of the journal adds to curves."""
    kind = entry["kind"]
    if kind in _OF_EPOCHS:
        who = f", {entry['member_name']}" if "member_name" in entry else ""
        group, axis, step = f"{entry['phase']}{who}", "epoch", entry["epoch"]
        names = _OF_EPOCHS[kind]
    elif kind in _OF_MD:
        group, axis, step = f"MD, trajectory {entry['trajectory']}", "MD step", entry["md_step"]
        names = _OF_MD[kind]
    else:
        return
    for field, name in names.items():
        value = entry.get(field)
        if isinstance(value, int | float) and math.isfinite(value):
            yield Scalar(f"{group}/{name}", axis, int(step), float(value))


class Curves(Protocol):
    """Where points of curves go."""

    def add(self, point: Scalar) -> None:
        """Add a point."""
        ...

    def close(self) -> None:
        """No more points come."""
        ...


class TensorBoardCurves:
    """Curves in the files that TensorBoard reads.

    Parameters
    ----------
    folder : Path
        ``tensorboard/``; what an earlier launch wrote there goes, for the journal has it.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder), flush_secs=FLUSH_S)

    def add(self, point: Scalar) -> None:
        """Add a point."""
        value = self._summary.Value(tag=point.tag, simple_value=point.value)
        self._writer.add_event(
            self._event(
                wall_time=time.time(), step=point.step, summary=self._summary(value=[value])
            )
        )

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandbCurves:
    """Curves in a run of Weights & Biases; offline, unless WANDB_MODE says otherwise.

    Each launch is a run of its own with all that the journal has, in one group.

    Parameters
    ----------
    folder : Path
        The run's.
    name : str
        ``GENERAL.name_exp``.
    settings : mapping
        Of the run, by key.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project="fhi-al",
            group=name,
            dir=str(folder),
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            # Neither output nor code nor the machine's load is ours to give away.
            settings=wandb.Settings(
                console="off", disable_git=True, save_code=False, silent=True, x_disable_stats=True
            ),
        )
        self._known: set[str] = set()

    def add(self, point: Scalar) -> None:
        """Add a point."""
        if point.tag not in self._known:
            self._run.define_metric(point.tag, step_metric=point.axis)
            self._known.add(point.tag)
        self._run.log({point.tag: point.value, point.axis: point.step})

    def close(self) -> None:
        """No more points come; a process of the library's writes what is left and ends."""
        self._run.finish()


class Metrics:
    """Adds what the journal says to curves, as long as that works.

    Parameters
    ----------
    make : callable
        Opens the curves.
    """

    def __init__(self, make: Callable[[], Curves]) -> None:
        self._curves: Curves | None = None
        self._curves = self._guarded(make)

    def add(self, entry: Entry) -> None:
        """Hear of an entry of the journal."""
        for point in scalars(entry):
            if self._curves is not None:
                self._guarded(partial(self._curves.add, point))

    def close(self) -> None:
        """Write what is left."""
        if self._curves is not None:
            self._guarded(self._curves.close)
        self._curves = None

    def _guarded(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # of a library that runs threads, processes and networks
            log.warning(
                "MISC.logger: %s: %s: no more curves of this launch; the run goes on",
                type(error).__name__,
                error,
            )
            self._curves = None
            return None
