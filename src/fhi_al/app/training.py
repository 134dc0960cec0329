"""What trains the members of a run, and what predicts with them: on rank 0 or on several."""

from __future__ import annotations

from mpi4py import MPI

from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.run import Report
from fhi_al.active_learning.training_rounds import TrainingOptions, TrainingRounds
from fhi_al.app.label_supply import LabelSupply
from fhi_al.app.rank_assignment import RankAssignment
from fhi_al.engines.inputs import Inputs
from fhi_al.labels.background_queue import BackgroundLabelQueue
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import Predictor
from fhi_al.models.remote.client import RemoteTrainingPool, TrainingPlacement
from fhi_al.models.remote.predictor import RemotePredictor
from fhi_al.models.training import SerialTrainingPool, TrainingPool
from fhi_al.settings import Settings


def training_rounds(
    settings: Settings,
    inputs: Inputs,
    ensemble: Ensemble,
    pool: TrainingPool,
    progress: Progress,
    report: Report,
    supply: LabelSupply,
) -> TrainingRounds:
    """Rounds of training, which go on while a label in the background is waited for."""
    assert settings.mace is not None
    worst_of: tuple[int, ...] = ()
    if settings.al.stop_on == "worst":
        worst_of = inputs.moving_places if len(inputs.moving) > 1 else ()
    options = TrainingOptions(
        max_failures_in_row=settings.al.max_training_failures,
        error_table=settings.mace.misc.error_table,
        n_atoms=max(len(system) for system in inputs.systems),
        member_names=report.export.member_names,
        worst_of=worst_of,
    )
    training = TrainingRounds(
        ensemble, pool, progress, report.journal, report.clock, options, supply.queue.pump
    )
    if isinstance(supply.queue, BackgroundLabelQueue):
        supply.queue.while_waiting = training.advance_background
    return training


def training_pool(
    ensemble: Ensemble, valid_skip: int, comm: MPI.Intracomm, assignment: RankAssignment
) -> TrainingPool:
    """Trains on this rank, or on those that the layout names."""
    ranks = assignment.layout.training
    if ranks == (0,):
        return SerialTrainingPool(ensemble, valid_skip)
    placements = {
        rank: TrainingPlacement(assignment.threads, assignment.local_index(rank))
        for rank in ranks
        if rank != 0
    }
    pool = RemoteTrainingPool(ensemble, valid_skip, comm, ranks, placements)
    pool.set_up()
    return pool


def predictor(ensemble: Ensemble, training: TrainingPool, precision: str) -> Predictor:
    """Of MD: on the ranks that train, where there are several."""
    dtype = ensemble.backend.dtype if precision == "training" else precision
    if isinstance(training, RemoteTrainingPool):
        return RemotePredictor(training, dtype)
    return ensemble.predictor(dtype)
