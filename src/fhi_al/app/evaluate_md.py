"""``FHI_AL-evaluate --on md``: structures of an independent MD of the run's engine, with labels.

Owns ``evaluation/md.xyz`` and ``md.json`` beside it, which says what they are of.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fhi_al.active_learning.final_test import canonical
from fhi_al.app import checks
from fhi_al.app.evaluate_data import EvaluatedData, formula_of
from fhi_al.app.evaluate_models import EvaluatedModels
from fhi_al.app.evaluate_order import MDOrder
from fhi_al.app.evaluate_reference import EngineInputs, ReferenceCalculations, label_seconds
from fhi_al.app.options import md_conditions
from fhi_al.app.systems import conditions_of
from fhi_al.core.errors import EngineError, InputError
from fhi_al.core.final_test import shared_out
from fhi_al.core.label import Label, Origin
from fhi_al.core.schedule import highest
from fhi_al.engines.fingerprint import identity_number, plain
from fhi_al.evaluation.independent_md import SampledTrajectory, sample
from fhi_al.evaluation.predictions import Labelled
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.labels.xyz import write_records
from fhi_al.md.conditions import MDConditions
from fhi_al.md.evaluation import Evaluation, MovingStructure
from fhi_al.md.point import MDFailure, MDPoint
from fhi_al.md.system import MDSystem
from fhi_al.report.command_status import CommandProgress
from fhi_al.report.pulse import Pulse
from fhi_al.report.status import Bar
from fhi_al.report.status_file import duration
from fhi_al.storage.atomic_file import write_atomically

log = logging.getLogger(__name__)

STRUCTURES, PLAN = "md.xyz", "md.json"
# Of what progress is told.
STEPS, TAKEN = "MD steps", "structures"


@dataclass(frozen=True, eq=False)
class MDWork:
    """An MD that is planned.

    Parameters
    ----------
    engine : EngineInputs
    order : MDOrder
    trajectories : tuple of SampledTrajectory
    """

    engine: EngineInputs
    order: MDOrder
    trajectories: tuple[SampledTrajectory, ...]

    @property
    def n_calculations(self) -> int:
        """Of the engine, if none is stored."""
        return sum(each.n_steps + 1 for each in self.trajectories)

    def described(self) -> list[str]:
        """Lines that say what is ahead."""
        lines = [
            f"independent MD: {self.name_of(each)}, {each.n_structures} structures, one every"
            f" {each.steps_between * each.moved.conditions.timestep:g} fs after"
            f" {each.steps_before * each.moved.conditions.timestep:g} fs"
            for each in self.trajectories
        ]
        if self.is_done:
            return [*lines, f"{self.engine.state / STRUCTURES} has them already"]
        n, each_s = self.n_calculations, label_seconds(self.engine.folder)
        about = ""
        if each_s is not None:
            about = f", {duration(n * each_s)} one after the other by what the run's labels took"
        return [*lines, f"at most {n} calculations of the engine{about}"]

    def name_of(self, each: SampledTrajectory) -> str:
        """System and temperature."""
        system = self.engine.inputs.each[each.system]
        name = system.name or formula_of(system.structure)
        return f"{name}, {highest(each.moved.conditions.temperature):g} K"

    @property
    def is_done(self) -> bool:
        """Whether the structures are there, of this very plan."""
        path = self.engine.state / PLAN
        if not (path.is_file() and (self.engine.state / STRUCTURES).is_file()):
            return False
        try:
            return bool(json.loads(path.read_text())["fingerprint"] == self.fingerprint)
        except (ValueError, KeyError, TypeError):
            return False

    @property
    def fingerprint(self) -> str:
        """Equal where structures and labels are."""
        content = {
            "seed": self.order.seed,
            "trajectories": [self._identity(each) for each in self.trajectories],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def _identity(self, each: SampledTrajectory) -> dict[str, Any]:
        spec = self.engine.specs[each.system]
        start = each.moved.starts[0] if each.moved.starts else None
        positions, cell = start or (each.moved.structure.positions, each.moved.structure.cell)
        conditions = asdict(each.moved.conditions)
        return {
            "engine": identity_number(spec, stress=spec.wants_stress),
            "conditions": {name: repr(value) for name, value in conditions.items()},
            "start": plain([positions, cell]),
            "steps": [each.n_structures, each.steps_before, each.steps_between],
        }


def plan_md(engine: EngineInputs, order: MDOrder, models: EvaluatedModels) -> MDWork:
    """Which trajectories there will be.

    Parameters
    ----------
    engine : EngineInputs
    order : MDOrder
    models : EvaluatedModels
        Which must know all elements.

    Raises
    ------
    InputError
        If more is asked for than may be computed, or makes no sense.
    """
    settings, inputs = engine.settings, engine.inputs
    problems = _order_problems(order)
    for one in inputs.each:
        missing = models.missing(one.structure.numbers)
        if missing:
            problems.append(
                f"{one.geometry.path}: has {', '.join(missing)}, which not every model knows:"
                " expected models of all its elements. Take others."
            )
    if problems:
        raise InputError(problems)
    limits, blocks = checks.geometry_limits(settings), md_conditions(settings)
    moved: list[tuple[int, MDSystem]] = []
    for at in conditions_of(settings, inputs):
        one = inputs.each[at.system]
        for conditions in _conditions([blocks[k] for k in at.blocks], order):
            moved.append(
                (at.system, MDSystem(one.structure, conditions, limits, one.name, one.starts))
            )
    counts = shared_out(order.n_structures, [1] * len(moved))
    work = MDWork(
        engine,
        order,
        tuple(
            SampledTrajectory(
                system,
                each,
                count,
                round(order.equilibration_fs / each.conditions.timestep),
                max(1, round(order.spacing_fs / each.conditions.timestep)),
            )
            for (system, each), count in zip(moved, counts, strict=True)
            if count
        ),
    )
    if work.n_calculations > order.most_calculations and not work.is_done:
        raise InputError(
            [
                f"--on md: would take {work.n_calculations} calculations of the engine: expected at"
                f" most {order.most_calculations} (--most-calculations). Allow more, or ask for"
                " fewer --structures, a shorter --spacing or --equilibration."
            ]
        )
    return work


def _order_problems(order: MDOrder) -> list[str]:
    positive = [("--structures", order.n_structures), ("--spacing", order.spacing_fs)]
    positive += [("--temperature", value) for value in order.temperatures]
    problems = [
        f"{name} {value:g}: expected more than 0." for name, value in positive if not value > 0
    ]
    if not order.equilibration_fs >= 0 or order.seed < 0:
        problems.append("--equilibration and --seed: expected 0 or more.")
    return problems


def _conditions(blocks: Sequence[MDConditions], order: MDOrder) -> list[MDConditions]:
    """Those of the run, with a thermostat that samples well; at other temperatures if wanted."""
    if not order.temperatures:
        return [canonical(one) for one in blocks]
    first = canonical(blocks[0])
    return [replace(first, temperature=value) for value in order.temperatures]


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
        content = {"fingerprint": work.fingerprint, "what": work.described()[:-1]}
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
        self._n_done = 0
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
        self._n_done += len(records)
        self._progress.reach(STEPS, self._n_done)
        return {
            place: Evaluation(record.forces, record.stress)
            if isinstance(record, Label)
            else MDFailure(f"no label: {record.reason}")
            for place, record in zip(pending, records, strict=True)
        }
