"""``FHI_AL-evaluate --on md``: which independent MD of the run's engine there will be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fhi_al.active_learning.final_test import canonical
from fhi_al.app import checks
from fhi_al.app.evaluate.data import formula_of
from fhi_al.app.evaluate.models import EvaluatedModels
from fhi_al.app.evaluate.order import MDOrder
from fhi_al.app.evaluate.reference import EngineInputs, label_seconds
from fhi_al.app.options import md_conditions
from fhi_al.app.systems import conditions_of
from fhi_al.core.errors import InputError
from fhi_al.core.final_test import shared_out
from fhi_al.core.schedule import highest
from fhi_al.engines.fingerprint import identity_number, plain
from fhi_al.evaluation.independent_md import SampledTrajectory
from fhi_al.md.conditions import MDConditions
from fhi_al.md.system import MDSystem
from fhi_al.report.status_file import duration

STRUCTURES, PLAN = "md.xyz", "md.json"
# An MD that takes longer is told with one that takes less: structures are more alike then.
LONG_S = 1800.0
SHORT = MDOrder(n_structures=20, spacing_fs=10.0, equilibration_fs=100.0)


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

    @property
    def what(self) -> list[str]:
        """A line for each trajectory."""
        return [
            f"independent MD: {self.name_of(each)}, {each.n_structures} structures, one every"
            f" {each.steps_between * each.moved.conditions.timestep:g} fs after"
            f" {each.steps_before * each.moved.conditions.timestep:g} fs"
            for each in self.trajectories
        ]

    def described(self) -> list[str]:
        """Lines that say what is ahead."""
        if self.is_done:
            return [*self.what, f"{self.engine.state / STRUCTURES} has them already"]
        return [*self.what, *self._cost(label_seconds(self.engine.folder))]

    def _cost(self, each_s: float | None) -> Iterator[str]:
        """Calculations, and how long they take; what would take less, if that is long."""
        n = self.n_calculations
        if each_s is None:
            yield f"at most {n} calculations of the engine"
            return
        took = "one after the other by what the run's labels took"
        yield f"at most {n} calculations of the engine, {duration(n * each_s)} {took}"
        if n * each_s > LONG_S:
            timesteps = [each.moved.conditions.timestep for each in self.trajectories]
            counts = shared_out(SHORT.n_structures, [1] * len(timesteps))
            n_short = sum(
                round((SHORT.equilibration_fs + count * SHORT.spacing_fs) / timestep) + 1
                for count, timestep in zip(counts, timesteps, strict=True)
            )
            yield (
                f"--structures {SHORT.n_structures} --spacing {SHORT.spacing_fs:g} --equilibration"
                f" {SHORT.equilibration_fs:g} would take {n_short}, {duration(n_short * each_s)}"
            )

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
