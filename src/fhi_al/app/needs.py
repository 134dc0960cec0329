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
    initial_data : bool
        Data and models of the user's own, in the place of an initial dataset.
    sampling : bool
        What drives the MD of the initial dataset, such as a foundation model.
    labels : bool
        The reference engine.
    cluster : bool
        What sends its calculations to a cluster, if the settings name one.
    models : bool
        The device of the models, and what else training and prediction take.
    """

    initial_data: bool
    sampling: bool
    labels: bool
    cluster: bool
    models: bool

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing left to do."""
        return not (self.sampling or self.labels or self.models)


# Of a run that begins.
EVERYTHING = Needs(initial_data=False, sampling=True, labels=True, cluster=True, models=True)


def needs_of(command: Command, stage: Stage | None, *, tests: bool) -> Needs:
    """What a command needs for what it still has to do.

    Parameters
    ----------
    command : Command
    stage : Stage or None
        Of the run in the folder; None if there is none.
    tests : bool
        Whether labels are computed for a test of the final models.
    """
    stage = stage or Stage.INITIAL_SAMPLING
    # It samples nothing.
    initial_data = command is Command.ACTIVE_LEARNING and stage.is_initial
    sampling = stage is Stage.INITIAL_SAMPLING and not initial_data
    no_labels = {Stage.DONE} if tests else {Stage.FINAL_CONVERGENCE, Stage.FINAL_TEST, Stage.DONE}
    learns = command is not Command.INITIAL_DATASET and stage not in no_labels
    finished = stage is Stage.DONE or (command is Command.INITIAL_DATASET and not stage.is_initial)
    labels = sampling or learns
    return Needs(
        initial_data=initial_data,
        sampling=sampling,
        labels=labels,
        cluster=labels,
        models=not finished,
    )
