"""The independent MD of ``FHI_AL-evaluate --on md``, run: structures with their labels.

Owns ``evaluation/md.xyz`` and ``md.json`` beside it, which says what they are of.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace

from fhi_al.app.evaluate.data import EvaluatedData
from fhi_al.app.evaluate.md import PLAN, STRUCTURES, MDWork
from fhi_al.app.evaluate.reference import ReferenceCalculations
from fhi_al.core.errors import EngineError
from fhi_al.core.label import Label, Origin
from fhi_al.evaluation.independent_md import sample
from fhi_al.evaluation.predictions import Labelled
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.labels.xyz import write_records
from fhi_al.md.evaluation import Evaluation, MovingStructure
from fhi_al.md.point import MDFailure, MDPoint
from fhi_al.report.command_status import CommandProgress
from fhi_al.report.pulse import Pulse
from fhi_al.report.status import Bar
from fhi_al.storage.atomic_file import write_atomically

log = logging.getLogger(__name__)

# Of what progress is told.
STEPS, TAKEN = "MD steps", "structures"


def structures_of_md(
    work: MDWork, reference: ReferenceCalculations | None, progress: CommandProgress
) -> EvaluatedData:
    """The structures of the MD with their labels: of the disk, or computed.

    Parameters
    ----------
    work : MDWork
    reference : ReferenceCalculations or None
        None if they are there.
    progress : CommandProgress
        Is told how far the MD has come.

    Raises
    ------
    EngineError
        If the MD ends in a structure that makes no sense, or a label cannot be had.
    Stopped
        If asked to stop; the next launch goes on.
    """
    path = work.engine.state / STRUCTURES
    if reference is not None:
        records = _sampled(work, reference, progress)
        write_records(path, records)
        content = {"fingerprint": work.fingerprint, "what": work.what}
        write_atomically(work.engine.state / PLAN, json.dumps(content, indent=2) + "\n")
        log.info("%s: %d structures", path, len(records))
    names = [work.name_of(each) for each in work.trajectories for _ in range(each.n_structures)]
    labels = read_labels(path)
    return EvaluatedData(
        str(path),
        tuple(
            Labelled(label, number, name)
            for number, (label, name) in enumerate(zip(labels, names, strict=True), start=1)
        ),
    )


def _sampled(
    work: MDWork, reference: ReferenceCalculations, progress: CommandProgress
) -> list[Label]:
    forces = _QueueForces(work, reference, progress)
    found: dict[tuple[int, int], Label] = {}
    n_wanted, pulse = sum(each.n_structures for each in work.trajectories), Pulse()

    def taken(place: int, number: int, point: MDPoint) -> None:
        label = forces.label(place, point)
        step = work.trajectories[place].step_of(number)
        found[place, number] = replace(label, origin=replace(forces.origin(place), step=step))
        progress.reach(TAKEN, len(found))
        if pulse.is_due():
            log.info("independent MD: %d of %d structures", len(found), n_wanted)

    try:
        sample(work.trajectories, forces, work.order.seed, taken)
    except MDFailure as failure:
        raise EngineError(
            f"independent MD: {failure}: expected an MD of the engine that stays sane. Start from"
            " another geometry, or take a lower --temperature or a shorter MD.timestep."
        ) from failure
    return [found[key] for key in sorted(found)]


class _QueueForces:
    """Forces on all trajectories from the engine; every label is kept."""

    def __init__(
        self, work: MDWork, reference: ReferenceCalculations, progress: CommandProgress
    ) -> None:
        self._work = work
        self._reference = reference
        self._progress = progress
        # Of the structures so far: one where a block ends and the next begins is asked for twice.
        self._keys: set[str] = set()
        n_wanted = sum(each.n_structures for each in work.trajectories)
        progress.begin(
            "independent MD, by labels that are there",
            Bar(STEPS, 0, work.n_calculations),
            Bar(TAKEN, 0, n_wanted, ends_stage=False),
        )

    def origin(self, place: int) -> Origin:
        """Of the labels of a trajectory, but for their step."""
        moved = self._work.trajectories[place].moved
        return Origin("test", place, 0, moved.conditions.name, "aimd", moved.name)

    def label(self, place: int, point: MDPoint) -> Label:
        """Of a point that the trajectory has been at: it is in the store."""
        system = self._work.trajectories[place].system
        (record,) = self._reference.labels(
            [(system, point.positions, point.cell)], self.origin(place)
        )
        assert isinstance(record, Label)
        return record

    def __call__(self, pending: Mapping[int, MovingStructure]) -> dict[int, Evaluation | MDFailure]:
        """Label all structures, as many at a time as there are ranks for."""
        wanted = [
            (self._work.trajectories[place].system, one.positions, one.cell)
            for place, one in pending.items()
        ]
        n_before = self._reference.n_computed
        records = self._reference.labels(wanted, self.origin(min(pending)))
        if n_before == 0 < self._reference.n_computed:
            # What takes time begins here.
            self._progress.begin("independent MD", *self._progress.now.bars)
        self._keys |= {record.key for record in records}
        self._progress.reach(STEPS, len(self._keys))
        return {
            place: Evaluation(record.forces, record.stress)
            if isinstance(record, Label)
            else MDFailure(f"no label: {record.reason}")
            for place, record in zip(pending, records, strict=True)
        }
