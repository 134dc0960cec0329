"""Physical checks of models, run: what they find, and their figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from fhi_al.app.evaluate.checks import ChecksWork
from fhi_al.app.evaluate.data import EvaluatedData
from fhi_al.app.evaluate.md import MDWork
from fhi_al.app.evaluate.models import EvaluatedModels
from fhi_al.app.evaluate.order import ChecksOrder
from fhi_al.app.evaluate.reference import ReferenceCalculations
from fhi_al.app.evaluate.report import Part
from fhi_al.core.label import Label, Origin
from fhi_al.evaluation.check import Finding
from fhi_al.evaluation.dimers import dimers, pairs_of
from fhi_al.evaluation.distances import FEWEST_STRUCTURES, distances
from fhi_al.evaluation.equation_of_state import equation_of_state
from fhi_al.evaluation.figures import Panel, draw
from fhi_al.evaluation.independent_md import SampledTrajectory, sample
from fhi_al.evaluation.limits import DISTANCES, Judgement
from fhi_al.evaluation.model_md import SurfaceForces
from fhi_al.evaluation.smoothness import smoothness
from fhi_al.evaluation.stability import stability
from fhi_al.evaluation.surfaces import Surface, SurfacePoint, surface_of
from fhi_al.evaluation.vibrations import vibrations
from fhi_al.md.point import MDFailure, MDPoint
from fhi_al.report.command_status import CommandProgress
from fhi_al.report.status import Bar

log = logging.getLogger(__name__)

# Of each MD, for distances.
MOST_STRUCTURES = 200


class Checks:
    """Looks at the physics of models.

    Parameters
    ----------
    work : ChecksWork
    order : ChecksOrder
    models : EvaluatedModels
    reference : ReferenceCalculations or None
        For what is planned with the engine.
    seed : int
    check_stop : callable
        Called now and then.
    """

    def __init__(
        self,
        work: ChecksWork,
        order: ChecksOrder,
        models: EvaluatedModels,
        reference: ReferenceCalculations | None,
        seed: int,
        check_stop: Callable[[], None],
    ) -> None:
        self._work = work
        self._order = order
        self._models = models
        self._reference = reference
        self._seed = seed
        self._surface = surface_of(models.predictor)
        self._forces = SurfaceForces(self._surface, check_stop)
        self._check_stop = check_stop

    def run(
        self,
        output: Path,
        md: MDWork | None,
        data: EvaluatedData | None,
        progress: CommandProgress,
    ) -> Part:
        """All checks; draws their figures.

        Parameters
        ----------
        output : Path
            Folder of the figures.
        md : MDWork or None
            The independent MD, if there is one.
        data : EvaluatedData or None
            Its structures.
        progress : CommandProgress
            Is told which check is under way.
        """
        findings: list[Finding] = []
        for number, name in enumerate(self._work.names):
            self._check_stop()
            log.info("check: %s", name)
            bar = Bar("checks", number, len(self._work.names), ends_stage=False)
            progress.begin(f"check: {name}", bar)
            if name == "rdf" and md is not None and data is not None:
                findings += self._distances(md, data)
            elif name == "dimers":
                findings += self._dimers()
            else:
                findings += self._of_subjects(name)
        _draw(output, findings)
        values: dict[str, Any] = {}
        for one in findings:
            values.setdefault(one.check, {})[one.system] = dict(one.values)
        lines = [line for one in findings for line in one.lines]
        lines += [f"note: {one}" for one in self._work.left_out]
        judgements = [judgement for one in findings for judgement in one.judgements]
        return Part(lines, {"checks": values}, judgements)

    def _of_subjects(self, name: str) -> list[Finding]:
        found = []
        for place, plain in enumerate(self._work.subjects):
            self._check_stop()
            one = replace(plain, reference=self._reference_of(name, place))
            if name == "eos" and one.structure.pbc:
                found.append(equation_of_state(one, self._surface))
            elif name == "vibrations" and not one.structure.pbc and len(one.structure) > 1:
                found.append(vibrations(one, self._surface))
            elif name == "stability" and len(one.structure) > 1:
                found.append(stability(one, self._forces, self._order.time_ps, self._seed))
            elif name == "smoothness":
                found.append(smoothness(one, self._surface, self._seed))
        return found

    def _dimers(self) -> list[Finding]:
        pairs = pairs_of(one.structure for one in self._work.subjects)
        cutoff = max(one.r_max for one in self._models.files)
        return [dimers(pairs, self._surface, cutoff)] if pairs else []

    def _reference_of(self, check: str, place: int) -> Surface | None:
        """The engine, for what is planned with it."""
        name, reference = self._work.subjects[place].name, self._reference
        if reference is None or (check, name) not in self._work.planned:
            return None

        def labelled(structures: Sequence[Atoms]) -> list[SurfacePoint]:
            wanted = [
                (place, atoms.positions, np.array(atoms.cell) * atoms.pbc.all())
                for atoms in structures
            ]
            records = reference.labels(wanted, Origin("test", 0, 0, system=name))
            return [
                SurfacePoint(one.energy, one.forces)
                if isinstance(one, Label)
                else SurfacePoint(np.nan, np.full((len(one.numbers), 3), np.nan))
                for one in records
            ]

        return labelled

    def _distances(self, md: MDWork, data: EvaluatedData) -> list[Finding]:
        findings, start = [], 0
        for each in md.trajectories:
            labels = [one.label for one in data.structures[start : start + each.n_structures]]
            findings.append(self._distances_of(each, labels, md.name_of(each)))
            start += each.n_structures
        return findings

    def _distances_of(
        self, trajectory: SampledTrajectory, labels: Sequence[Label], name: str
    ) -> Finding:
        """MD on the models under the conditions of the reference's, with another seed."""
        if trajectory.moved.needs_stress or len(labels) < FEWEST_STRUCTURES:
            why = (
                "its cell moves"
                if trajectory.moved.needs_stress
                else f"{len(labels)} structures, at least {FEWEST_STRUCTURES} are needed"
            )
            return Finding("rdf", name, [f"distances in MD of {name}: left out: {why}"])
        found: list[Atoms] = []

        def taken(place: int, number: int, point: MDPoint) -> None:
            found.append(_atoms(labels[0], point.positions))

        try:
            sample([trajectory], self._forces, self._seed + 1, taken)
        except MDFailure as failure:
            line = f"distances in MD of {name}: the models' MD failed: {failure}"
            return Finding("rdf", name, [line], {}, [Judgement(DISTANCES, np.inf, name)])
        step = -(-len(labels) // MOST_STRUCTURES)
        true = [_atoms(label, label.positions) for label in labels[::step]]
        return distances(name, found[::step], true)


def _atoms(label: Label, positions: Any) -> Atoms:
    cell = label.cell if label.pbc else None
    return Atoms(label.numbers, positions, cell=cell, pbc=label.pbc)


def _draw(output: Path, findings: Sequence[Finding]) -> None:
    panels: dict[str, list[Panel]] = {}
    for one in findings:
        for file, panel in one.panels.items():
            panels.setdefault(file, []).append(_titled(panel, one.system))
    for file, own in panels.items():
        draw(output / file, own)


def _titled(panel: Panel, title: str) -> Panel:
    def drawn(axes: Any) -> None:
        panel(axes)
        axes.set_title(title, fontsize="medium")

    return drawn
