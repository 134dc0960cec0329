"""Active learning from what a user brings: data and models of an initial phase, into a run."""

from __future__ import annotations

import logging

from fhi_al.active_learning.imported_frames import same_label
from fhi_al.active_learning.initial_data import InitialData
from fhi_al.active_learning.run import Run
from fhi_al.core.label import Label
from fhi_al.core.run_state import Stage
from fhi_al.labels.store import LabelStore
from fhi_al.report.error_table import mean

log = logging.getLogger(__name__)


def import_initial(run: Run, data: InitialData) -> None:
    """Take sets and models of an initial phase into a run that has none.

    Parameters
    ----------
    run : Run
    data : InitialData
        Read and checked: nothing of it is stored before all of it is known to be in order.
    """
    take_in(run, data)
    for index, path in enumerate(data.models):
        run.ensemble.load_exported(path, index)
    mae = mean([member.validate().mae_forces for member in run.ensemble.members])
    run.progress.update(stage=Stage.INITIAL_DONE, final_mae_forces=mae)
    log.info("force MAE of the models %.4f eV/A", mae)
    run.save()


def take_in(run: Run, data: InitialData) -> None:
    """Store labels, and put them into the sets of members that have none."""
    for line in data.described():
        log.info("%s", line)
    store_imported(run.store, data)
    stored = run.store.label
    for index, member in enumerate(run.ensemble.members):
        member.add_training([stored(label.key) for label in data.training[index]])
        member.add_validation([stored(label.key) for label in data.validation[index]])
    for label in data.test:
        run.held_out().keep(stored(label.key))
    run.progress.update(initial_data=data.files)


def store_imported(store: LabelStore, data: InitialData) -> None:
    """Make the store hold the labels of the files: these, and no others that were imported before.

    An import that was stopped or that went wrong may have left some; a label that differs from the
    stored one takes its place, and the log says so.  If the run ends in between, the next one does
    the rest: nothing uses the labels before all are there.
    """
    labels: dict[str, Label] = {}
    for label in data.labels():
        labels.setdefault(label.key, label)
    gone = [r.key for r in store if r.origin.phase == "imported" and r.key not in labels]
    for key in gone:
        store.forget(key, "not in the imported files any more")
    if gone:
        log.warning(
            "%s: %d labels of an earlier import are not in the files any more: they do not count",
            store.path,
            len(gone),
        )
    replaced = 0
    for label in labels.values():
        known = store.get(label.key)
        if known is None:
            store.append(label)
        elif not (isinstance(known, Label) and same_label(known, label)):
            replaced += 1
            store.replace(label)
    if replaced:
        log.warning(
            "%s: %d labels differed from those in the imported files: what counts is the files",
            store.path,
            replaced,
        )
