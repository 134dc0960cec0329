"""What a command still needs from outside its folder, given where its run stands.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fhi_al.core.run_state import Stage


class Command(StrEnum):
    """The commands that work on a run."""

    ALL = "FHI_AL"
    INITIAL_DATASET = "FHI_AL-initial-ds"
    ACTIVE_LEARNING = "FHI_AL-al"


@dataclass(frozen=True)
class Needs:
    """What has to be there: libraries, packages, files and networks that a run may have lost.

    Parameters
    ----------
    sampling : bool
        What drives the MD of the initial dataset, such as a foundation model.
    labels : bool
        The reference engine.
    cluster : bool
        What sends its calculations to a cluster, if the settings name one.
    models : bool
        The device of the models, and what else training and prediction take.
    """

    sampling: bool
    labels: bool
    cluster: bool
    models: bool

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing left to do."""
        return not (self.sampling or self.labels or self.models)


EVERYTHING = Needs(sampling=True, labels=True, cluster=True, models=True)


def needs_of(command: Command, stage: Stage | None) -> Needs:
    """What a command needs for what it still has to do.

    Parameters
    ----------
    command : Command
    stage : Stage or None
        Of the run in the folder; None if there is none.
    """
    stage = stage or Stage.INITIAL_SAMPLING
    # FHI_AL-al samples nothing: it takes data and models of the user's own where there are none.
    sampling = stage is Stage.INITIAL_SAMPLING and command is not Command.ACTIVE_LEARNING
    learns = command is not Command.INITIAL_DATASET and stage not in (
        Stage.FINAL_CONVERGENCE,
        Stage.DONE,
    )
    finished = stage is Stage.DONE or (command is Command.INITIAL_DATASET and not stage.is_initial)
    labels = sampling or learns
    return Needs(sampling=sampling, labels=labels, cluster=labels, models=not finished)
