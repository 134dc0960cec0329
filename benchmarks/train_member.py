"""Train one member on given labels with the program's own convergence, and judge it meanwhile."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from fhi_al.active_learning.convergence import Convergence
from fhi_al.active_learning.options import ConvergenceOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.training_rounds import TrainingOptions, TrainingRounds
from fhi_al.core.label import Label
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.training import SerialTrainingPool
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal
from fhi_al.settings.active_learning import ActiveLearning
from fhi_al.settings.mace import MaceSettings

PHASE = "final convergence"


def split(
    labels: Sequence[Label], valid_ratio: float, seed: int
) -> tuple[list[Label], list[Label]]:
    """Training and validation points, drawn with a seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    n_validation = max(2, round(valid_ratio * len(labels)))
    validation = set(order[:n_validation].tolist())
    return (
        [label for place, label in enumerate(labels) if place not in validation],
        [label for place, label in enumerate(labels) if place in validation],
    )


def run_convergence(
    ensemble: Ensemble,
    options: ConvergenceOptions,
    members: Sequence[int],
    progress: Progress,
    step: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[dict[str, Any]]:
    """Converge members as the program does; the entries of its journal."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.jsonl")
        n_atoms = len(ensemble.members[members[0]].training[0].numbers)
        rounds = TrainingRounds(
            ensemble,
            SerialTrainingPool(ensemble, options.epochs_per_round),
            progress,
            journal,
            Clock(),
            TrainingOptions(3, "PerAtomMAE", n_atoms, tuple(map(str, range(len(ensemble))))),
        )
        Convergence(progress, rounds, step, options).run(PHASE, members)
        return list(journal.entries())


def default_options(settings: MaceSettings) -> ConvergenceOptions:
    """The program's, where a user's file says nothing."""
    al = ActiveLearning()
    return ConvergenceOptions(
        al.patience,
        al.max_final_epochs,
        al.margin,
        al.valid_skip,
        settings.training.second_stage_start(al.max_final_epochs),
        settings.training.energies_improve,
    )


def converge(
    settings: MaceSettings,
    options: ConvergenceOptions,
    sets: tuple[list[Label], list[Label]],
    test: Sequence[Label],
    seed: int,
    judged_every: int = 0,
    start: Path | None = None,
) -> dict[str, Any]:
    """Converge one member as the program does; what it came to.

    Parameters
    ----------
    judged_every : int
        Epochs between two looks at the independent structures; 0: only at the end.
    start : Path or None
        A model whose weights it starts from; None: from initial ones.

    Returns
    -------
    dict
        ``mae`` (eV/A) and ``rmse_energy`` (eV/atom) on the independent structures, ``epochs``,
        ``seconds`` of CPU time without the looks, ``validations`` (epoch, force MAE, energy MAE,
        loss) and ``curve`` (epoch, force MAE on the independent structures).
    """
    training, validation = sets
    # The second member only keeps the first from being alone, which a run refuses to go on with.
    ensemble = Ensemble(settings, sorted(set(training[0].numbers.tolist())), (seed, seed + 1))
    member = ensemble.members[0]
    member.add_training(training)
    member.add_validation(validation)
    if start is None:
        member.fit_normalisation()
        member.freeze_normalisation()
    else:
        member.load_exported(start)
    curve: list[tuple[int, float]] = []
    looked = 0.0

    @contextmanager
    def step() -> Iterator[None]:
        nonlocal looked
        yield
        state = progress.state.convergence
        if judged_every and state is not None and state.course.epoch % judged_every == 0:
            begun = time.process_time()
            curve.append((state.course.epoch, member.errors_on(test).mae_forces))
            looked += time.process_time() - begun

    progress = Progress()
    begun = time.process_time()
    entries = run_convergence(ensemble, options, [0], progress, step)
    seconds = time.process_time() - begun - looked
    validations = [
        (e["epoch"], e["mae_forces"], e["mae_energy_per_atom"], e["training_loss"])
        for e in entries
        if e["kind"] == "epoch" and e["mae_forces"] is not None
    ]
    errors = member.errors_on(test)
    return {
        "mae": errors.mae_forces,
        "rmse_energy": errors.rmse_energy_per_atom,
        "epochs": max(epoch for epoch, *_ in validations),
        "seconds": seconds,
        "n_training": len(training),
        "validations": validations,
        "curve": curve,
    }
