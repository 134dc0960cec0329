"""Where a run stands: everything decisions depend on, as frozen data.  Pure: standard library.

Weights, sets, phase-space points and random streams are saved beside it; see ``snapshot``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fhi_al.core.calibration import Pairs
from fhi_al.core.convergence import ConvergenceState
from fhi_al.core.improvement import BestError
from fhi_al.core.reported_errors import ReportedErrors
from fhi_al.core.threshold import MovingAverage
from fhi_al.core.trajectory import TrajectoryState


class Stage(StrEnum):
    """What a run is at; in this order."""

    INITIAL_SAMPLING = "initial sampling"
    INITIAL_CONVERGENCE = "initial convergence"
    INITIAL_DONE = "initial dataset done"
    ACTIVE_LEARNING = "active learning"
    FINAL_CONVERGENCE = "final convergence"
    FINAL_TEST = "final test"
    DONE = "done"

    @property
    def is_initial(self) -> bool:
        """Whether the initial dataset is still being built."""
        return self in (Stage.INITIAL_SAMPLING, Stage.INITIAL_CONVERGENCE)


Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Frame:
    """A structure of a trajectory: the MD step, positions and cell (zeros for a molecule) in A."""

    step: int
    positions: tuple[Vector, ...]
    cell: tuple[Vector, ...]


@dataclass(frozen=True)
class PendingPoint:
    """A point of the initial dataset whose label is still to come.

    Parameters
    ----------
    trajectory : int or None
        None for a displaced structure, whose step is its number in the list of them.
    frame : Frame
    source : str
        See :class:`fhi_al.core.label.Origin`.
    system : int
        Of a displaced structure.
    """

    trajectory: int | None
    frame: Frame
    source: str = ""
    system: int = 0


@dataclass(frozen=True)
class SamplingState:
    """Initial dataset after a whole step: a sampled point, or a round's training.

    Parameters
    ----------
    rounds, epochs : int
        Rounds done, epochs trained.
    trajectories : tuple of TrajectoryState
        Of the sampling, which take turns; empty before it begins.
    sampled : tuple of int
        Points sampled so far, of each source: they say whose turn it is; empty before it begins.
    n_displaced : int
        Structures of the list of displaced ones that were taken, whatever became of them.
    systems : tuple of int
        Those that are sampled, which were added to a run; empty: all.
    points : tuple of str
        Label keys of the points sampled in the round under way.
    pending : tuple of PendingPoint
        Points of that round whose labels are still to come.
    epochs_due : int
        Epochs of the training round under way; the members' states are those before it.
    mae_forces : float or None
        Members' mean validation force MAE in eV/A, of the worst system where that counts, the
        lowest one since points were last added; None before the first validation.
    helped : bool
        The last round of training has lowered it so far that the next one needs no new points, and
        that active learning does not begin.
    """

    rounds: int = 0
    epochs: int = 0
    trajectories: tuple[TrajectoryState, ...] = ()
    sampled: tuple[int, ...] = ()
    n_displaced: int = 0
    systems: tuple[int, ...] = ()
    points: tuple[str, ...] = ()
    pending: tuple[PendingPoint, ...] = ()
    epochs_due: int = 0
    mae_forces: float | None = None
    helped: bool = False


class SweepStage(StrEnum):
    """What a sweep does next; in this order."""

    MOVE = "move"
    LABEL = "label"
    TRAIN = "train"


@dataclass(frozen=True)
class PendingLabel:
    """A label that is still to come, and what the ensemble predicted for the structure.

    Parameters
    ----------
    trajectory : int
    frame : Frame
        The structure; the trajectory may have moved on.
    epochs : int
        Epochs trained in this phase when it was requested.
    uncertainty, threshold : float
        In eV/A; the threshold is None while it warms up.
    crossed, is_sanity_check : bool
        Why the label is wanted: one of them, or both.
    forces : tuple of (x, y, z)
        The ensemble's mean force on each atom in eV/A.
    stress : tuple of three rows or None
        The ensemble's mean stress in eV/A^3; None where labels have none.
    """

    trajectory: int
    frame: Frame
    epochs: int
    uncertainty: float
    threshold: float | None
    crossed: bool
    is_sanity_check: bool
    forces: tuple[Vector, ...]
    stress: tuple[Vector, ...] | None = None


@dataclass(frozen=True)
class ActiveLearningState:
    """Active learning after a whole step: a move of all trajectories, a label, or a training round.

    Parameters
    ----------
    sweep : int
        Sweeps done.
    stage : SweepStage
        What the sweep under way does next.
    pending : tuple of PendingLabel
        Labels that are still to come, in the order they were requested.
    next_round : int
        In the TRAIN stage: trajectories with a lower index have had their training round.
    epochs : int
        Epochs trained in this phase.
    trajectories : tuple of TrajectoryState
    uncertainties, true_errors : tuple of MovingAverage
        One per system, in eV/A.
    n_points, n_validation : int
        Points added in this phase, and those of them that went to validation.
    n_test : int
        Points that went to the test set instead, in this phase.
    n_duplicates : int
        Labels not requested because there is a point like the structure already.
    n_withdrawn : int
        Labels withdrawn because the ensemble had learnt the structure meanwhile.
    rescored : int
        Epochs trained when the waiting structures were last predicted again.
    mae_forces : float or None
        Members' mean validation force MAE in eV/A as last measured in this phase.
    mae_to_reach : float or None
        That, or that of the worst system where it is what counts.
    plateaus : tuple of BestError
        One per member: is its validation error still falling?
    pairs : tuple of Pairs
        One per system: uncertainties and true errors of its sanity checks.
    """

    sweep: int
    stage: SweepStage
    pending: tuple[PendingLabel, ...]
    next_round: int
    epochs: int
    trajectories: tuple[TrajectoryState, ...]
    uncertainties: tuple[MovingAverage, ...]
    true_errors: tuple[MovingAverage, ...]
    n_points: int
    n_validation: int
    n_test: int
    n_duplicates: int
    n_withdrawn: int
    rescored: int
    mae_forces: float | None
    mae_to_reach: float | None
    plateaus: tuple[BestError, ...]
    pairs: tuple[Pairs, ...]


@dataclass(frozen=True)
class Candidate:
    """A structure of the final models' own MD, and how far the members disagree on it in eV/A."""

    trajectory: int
    frame: Frame
    uncertainty: float


@dataclass(frozen=True)
class CandidateStatistics:
    """Number of candidates of a system, and their mean uncertainty in eV/A."""

    system: int
    n_candidates: int
    mean_uncertainty: float


@dataclass(frozen=True)
class FinalTestState:
    """The test of the final models after a whole step: a block of their MD, or some labels.

    Parameters
    ----------
    n_labels : int
        To be computed.
    trajectories : tuple of TrajectoryState
        As they began.
    blocks : int
        Blocks of MD done.
    failures : int
        Times that a trajectory ended in a structure that makes no sense.
    candidates : tuple of Candidate
        Met in MD; empty once those that get labels are chosen.
    pending : tuple of Candidate
        Chosen, and not labelled yet.
    has_chosen : bool
    met : tuple of CandidateStatistics
        Of the candidates of each system that had any, once some are chosen.
    labelled : tuple of (key, uncertainty)
        Of the labels that are there.
    """

    n_labels: int
    trajectories: tuple[TrajectoryState, ...]
    blocks: int = 0
    failures: int = 0
    candidates: tuple[Candidate, ...] = ()
    pending: tuple[Candidate, ...] = ()
    has_chosen: bool = False
    met: tuple[CandidateStatistics, ...] = ()
    labelled: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class DataFile:
    """A file with labels of the user's, as it was when a run took them in.

    Parameters
    ----------
    name : str
        Its path, relative to the run's folder if it is there.
    sha256 : str
        Of its content.
    n_labels : int
        That were taken from it.
    """

    name: str
    sha256: str
    n_labels: int


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Parameters
    ----------
    stage : Stage
    sampling : SamplingState
    active : ActiveLearningState or None
        None before active learning.
    convergence : ConvergenceState or None
        None unless one is under way.
    final_mae_forces : float or None
        Members' mean validation force MAE in eV/A of the weights that are kept.
    errors : ReportedErrors or None
        Of the weights that are kept, and what they are to be compared with.
    stop_reason : str
        Why active learning ended.
    seconds : dict
        Activity -> wall seconds spent so far, over all launches.
    label_failures_in_row : int
        Labels discarded since the last good one.
    given : tuple of str or None
        Keys of the computed labels, discarded ones included, that the run has been given: they
        count for ``label_budget``.  None in the state of a program that did not keep them.
    test : tuple of str
        Label keys of the points that are kept for the test at the end.
    test_mae_forces : float or None
        Force MAE in eV/A of the ensemble's mean on them; None as long as it is not measured.
    events : int
        How far the record of what ends in the background is used up.
    training_failures_in_row : tuple of int
        For each member: training rounds since one last stayed finite; empty before the first.
    final_test : FinalTestState or None
        None before the test of the final models.
    initial_data : tuple of DataFile
        Whose labels were the first points.
    """

    stage: Stage = Stage.INITIAL_SAMPLING
    sampling: SamplingState = field(default_factory=SamplingState)
    active: ActiveLearningState | None = None
    convergence: ConvergenceState | None = None
    final_mae_forces: float | None = None
    errors: ReportedErrors | None = None
    stop_reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    label_failures_in_row: int = 0
    given: tuple[str, ...] | None = ()
    test: tuple[str, ...] = ()
    test_mae_forces: float | None = None
    events: int = 0
    training_failures_in_row: tuple[int, ...] = ()
    final_test: FinalTestState | None = None
    initial_data: tuple[DataFile, ...] = ()
