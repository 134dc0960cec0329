"""Options of the parts of the loop, small and frozen, in eV and A.  Pure: no settings, no files.

``app.options`` makes them from the settings; a program may make them itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fhi_al.core.stopping import StopRules
from fhi_al.core.threshold import ThresholdRule
from fhi_al.core.trajectory import Limits
from fhi_al.core.uncertainty import Measure

# The source of structures without MD.
DISPLACED = "displaced"
# No initial dataset at all.
NO_SAMPLING = "none"


@dataclass(frozen=True)
class SamplingOptions:
    """How the initial dataset is sampled.

    Parameters
    ----------
    sources : tuple of str
        Where points come from, in equal shares: what drives the MD, or :data:`DISPLACED`.
    labelled_at_once : frozenset of str
        Sources that wait for the label of each point; of the others points are labelled in the
        background.  In ab initio MD the forces on a point, and with them its label, are there
        already.
    skip_step : int
        MD steps between two points.
    max_rollbacks_in_row : int
        Returns to the same good point that end the run.
    """

    sources: tuple[str, ...]
    labelled_at_once: frozenset[str]
    skip_step: int
    max_rollbacks_in_row: int


@dataclass(frozen=True)
class InitialDatasetOptions:
    """How the initial dataset grows, and when it is complete.

    Parameters
    ----------
    sampling : SamplingOptions
    points_per_member : int
        In each round.
    target : float
        Mean validation force MAE in eV/A at which it is complete.
    epochs_per_round, max_epochs : int
    gain : float or None
        New points are labelled only when a round lowers the error by less than this share; None:
        after every round.  Not in the background, where they are labelled meanwhile.
    label_budget : float
        No round of points begins with which there would be more labels.
    calls_per_point : float
        Reference calculations, in the mean over the sources.
    train_in_background : bool
        A round is trained beside the sampling of the next one.
    scheduler : bool
        Lower the learning rate where a member's error stops falling.
    converge : bool
        Converge the members on it.
    """

    sampling: SamplingOptions
    points_per_member: int
    target: float
    epochs_per_round: int
    max_epochs: int
    gain: float | None
    label_budget: float
    calls_per_point: float
    train_in_background: bool
    scheduler: bool
    converge: bool


@dataclass(frozen=True)
class SplitOptions:
    """Where points go.

    Parameters
    ----------
    valid_ratio : float
        Share that members are validated on.
    test_ratio : float
        Share that is held out, which nothing is decided by.
    sanity_checks_are_unbiased : bool
        Whether those that join no set may be test points: not if the others were picked by their
        error.
    shared : bool
        Every point is every member's, to train on or, in a fold of each member's own, to validate
        on; else a member has its own points of the initial dataset, and all validate on the same
        points of active learning.
    bootstrap : bool
        A member takes shared points several times, once or not at all, as drawn with replacement.
    """

    valid_ratio: float
    test_ratio: float = 0.0
    sanity_checks_are_unbiased: bool = True
    shared: bool = False
    bootstrap: bool = False


@dataclass(frozen=True)
class ConvergenceOptions:
    """When a convergence ends.

    Parameters
    ----------
    patience, max_epochs : int
        Epochs without improvement, and in all.
    margin : float
        Smallest drop of the validation force MAE that is an improvement, in eV/A.
    epochs_per_round : int
        Between validations.
    second_stage_start : int or None
        Epoch at which the second stage begins at the latest; None: there is none.
    with_energies : bool
        Whether energy errors, too, say when to stop and which weights are best: not if nothing
        makes them fall.
    with_stress : bool
        Whether errors of the stress, too, say which weights are best: if it is trained on.
    """

    patience: int
    max_epochs: int
    margin: float
    epochs_per_round: int
    second_stage_start: int | None = None
    with_energies: bool = True
    with_stress: bool = False


@dataclass(frozen=True)
class CalibrationOptions:
    """How uncertainties are compared with true errors.

    Parameters
    ----------
    error_limit : float or None
        True error in eV/A above which a structure needs a label; None: record only.
    warmup : int
        Sanity checks before the scale is used.
    window : int
        Sanity checks that it is estimated from: the last ones.
    """

    error_limit: float | None
    warmup: int
    window: int


@dataclass(frozen=True)
class Criterion:
    """When a structure needs a label.

    Parameters
    ----------
    uncertainty : callable
        Forces of the members, (n_members, n_atoms, 3) in eV/A -> float in eV/A; one of
        :data:`fhi_al.core.uncertainty.MEASURES`, or any other.
    rule : ThresholdRule
        As long as the uncertainty is not calibrated.
    calibration : CalibrationOptions or None
        None: true errors are not recorded.
    with_stress : bool
        Labels have a stress: the members' spread of it is recorded.
    stress_limit : float or None
        Spread in eV/A^3 above which a structure needs a label, too; None: the forces alone decide.
    """

    uncertainty: Measure
    rule: ThresholdRule
    calibration: CalibrationOptions | None = None
    with_stress: bool = False
    stress_limit: float | None = None


@dataclass(frozen=True)
class LabellingOptions:
    """Which structures get labels besides those of the criterion, and which of these do not.

    Parameters
    ----------
    sanity_skip : int or None
        MD steps between sanity checks; None: there are none.
    sanity_action : {"record", "add", "add_all"}
        Which of them join the sets: none, those whose true error is over the moving average, all.
    rescore : bool
        Take back what the ensemble has learnt while it waited for an engine.
    duplicate_distance : float
        A structure no farther than this from a stored point gets no label; 0: all do.
    farthest_first : bool
        The most different structure first, instead of the order of the trajectories.
    max_excess_energy : float, "auto" or None
        Above the mean of the initial dataset, in eV per atom: from a label with a higher energy
        its trajectory goes back; see :mod:`fhi_al.active_learning.excess_energy`.
    """

    sanity_skip: int | None
    sanity_action: Literal["record", "add", "add_all"]
    rescore: bool
    duplicate_distance: float
    farthest_first: bool
    max_excess_energy: float | Literal["auto"] | None = None


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep does.

    Parameters
    ----------
    skip_step : int
        MD steps between two checks.
    mean_forces : bool
        The mean of the members drives MD; else one member does, which changes at every check.
    epochs_per_round : int
    margin : float
        Smallest drop of the validation force MAE that is an improvement, in eV/A.
    train_while_waiting : bool
    """

    skip_step: int
    mean_forces: bool
    epochs_per_round: int
    margin: float
    train_while_waiting: bool


@dataclass(frozen=True)
class ActiveLearningOptions:
    """What active learning goes by.

    Parameters
    ----------
    limits : Limits
        Of each trajectory.
    stop : StopRules
    criterion : Criterion
    labelling : LabellingOptions
    sweep : SweepOptions
    converge : {"all", "best"} or None
        The members that are converged at the end.
    share_all : bool
        They train on all labels then, but on those that they validate on.
    converge_anew : bool
        They are trained from initial weights, on all labels.
    figures : Path or None
        Folder of the figure of the calibration.
    compile_models : bool
        Whether the final models are written as TorchScript, too.
    final_test : int or "auto"
        Labels for the test of the final models; see :func:`fhi_al.core.final_test.n_test_labels`.
    """

    limits: Limits
    stop: StopRules
    criterion: Criterion
    labelling: LabellingOptions
    sweep: SweepOptions
    converge: Literal["all", "best"] | None
    share_all: bool
    converge_anew: bool
    figures: Path | None
    compile_models: bool
    final_test: int | Literal["auto"]


@dataclass(frozen=True)
class LoopOptions:
    """What the two procedures go by."""

    initial: InitialDatasetOptions
    active_learning: ActiveLearningOptions
    convergence: ConvergenceOptions
    split: SplitOptions
