"""Active learning from what a user brings: ``data/initial/`` and the models in ``model/``."""

from __future__ import annotations

import logging
from pathlib import Path

from fhi_al.active_learning.errors import NothingToStartFrom
from fhi_al.active_learning.run import Run
from fhi_al.core.label import Label
from fhi_al.core.run_state import Stage
from fhi_al.report.error_table import mean
from fhi_al.report.export import TEST, read_labels

log = logging.getLogger(__name__)


def import_initial(run: Run) -> None:
    """Take sets and models of an initial phase from the disk into a run that has none.

    Raises
    ------
    NothingToStartFrom
        Naming each file that is missing.
    ValueError
        If a file does not hold what it should.
    """
    restart = run.folder / "restart"
    if run.state.sampling.md_steps > 0:
        raise NothingToStartFrom(
            f"{restart}: the initial dataset there is not finished: expected a finished one. "
            "Run FHI_AL-initial-ds (or FHI_AL) again: it goes on where it was."
        )
    export = run.report.export
    folder = export.dataset_folder / "initial"
    models = run.ensemble.model_paths(export.model_folder, export.name)
    needed = [
        *(
            _set_path(run, folder, kind, i)
            for kind in ("training", "validation")
            for i in _all(run)
        ),
        *models,
    ]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        raise NothingToStartFrom(
            f"{restart}: holds no finished initial dataset, and of the files to start from "
            f"these are missing: {', '.join(missing)}. Run FHI_AL-initial-ds first, or put the "
            "files there (GENERAL.seed and GENERAL.name_exp decide their names)."
        )
    for index in _all(run):
        member = run.ensemble.members[index]
        member.add_training(_stored(run, _set_path(run, folder, "training", index)))
        member.add_validation(_stored(run, _set_path(run, folder, "validation", index)))
        run.ensemble.load_exported(models[index], index)
    test = folder / TEST / "combined.xyz"
    if test.is_file():
        for label in _stored(run, test):
            run.held_out().keep(label)
    mae = mean([member.validate().mae_forces for member in run.ensemble.members])
    run.progress.update(stage=Stage.INITIAL_DONE, final_mae_forces=mae)
    log.info("starting from %s and %s: force MAE %.4f eV/A", folder, export.model_folder, mae)
    run.save()


def _all(run: Run) -> range:
    return range(len(run.ensemble.members))


def _set_path(run: Run, folder: Path, kind: str, index: int) -> Path:
    return folder / kind / f"{run.report.export.member_names[index]}.xyz"


def _stored(run: Run, path: Path) -> list[Label]:
    """The labels of a file, in the store from now on; a structure known already keeps its label."""
    numbers = run.dynamics.systems[0].numbers
    labels = []
    for label in read_labels(path):
        if not (len(label.numbers) == len(numbers) and (label.numbers == numbers).all()):
            raise ValueError(
                f"{path}: structure {label.origin.step}: other atoms than geometry.in: expected "
                "the same elements in the same order."
            )
        if label.key not in run.store:
            run.store.append(label)
        labels.append(run.store.label(label.key))
    return labels
