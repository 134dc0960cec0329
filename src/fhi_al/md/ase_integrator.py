"""A user's own integrator in ASE's form: moves its trajectories one after the other.

ASE's integrators ask for forces in the midst of a step, so that no batch can be made of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from fhi_al.core.plausible import geometry_problem
from fhi_al.md.atoms import atoms_of
from fhi_al.md.checks import cell_problem, heat_problems
from fhi_al.md.evaluation import ForceFunction, MovingStructure
from fhi_al.md.integrator import Integrator
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint
from fhi_al.md.state import state_of
from fhi_al.md.system import MDSystem


def is_ase_integrator(given: Any) -> bool:
    """Whether an own integrator is a function that makes ASE's."""
    return given is not None and not isinstance(given, Integrator)


def advance_alone(
    trajectory: LiveTrajectory,
    system: MDSystem,
    n_steps: int,
    place: int,
    forces: ForceFunction,
    step_before: int = 0,
) -> MDPoint | MDFailure:
    """Advance one trajectory; see :func:`fhi_al.md.engine.advance`.

    What a schedule says of the first step holds for all of them: ASE's integrators have no common
    way to follow one.
    """
    point, structure = trajectory.point, system.structure
    atoms = atoms_of(structure, point.positions)
    if structure.pbc:
        atoms.set_cell(point.cell)
    atoms.set_momenta(point.momenta, apply_constraint=False)
    validating = _Validating(system, place, forces)
    atoms.calc = validating
    md = system.conditions.at(step_before)
    assert md.own_integrator is not None
    dynamics = md.own_integrator(atoms, md, trajectory.generator)
    try:
        # Not run(): it asks for the forces once more after each step, for observers.
        for _ in range(n_steps):
            dynamics.step()
        validating.check(atoms)
    except MDFailure as failure:
        return failure
    cell = np.array(atoms.cell) if structure.pbc else point.cell
    end = MDPoint(atoms.positions.copy(), atoms.get_momenta(), cell)
    hot = heat_problems([system], state_of([end], {}), system.constants)
    return MDFailure(hot[0]) if hot else end


class _Validating(Calculator):
    """Hands a structure on only if it makes sense, and checks the forces."""

    implemented_properties = ["forces", "stress"]  # noqa: RUF012 (ASE's own interface)

    def __init__(self, system: MDSystem, place: int, forces: ForceFunction) -> None:
        super().__init__()
        self._system, self._place, self._forces = system, place, forces

    def check(self, atoms: Atoms) -> None:
        """Raise MDFailure if a structure makes no sense."""
        cell = atoms.cell.array
        system = self._system
        problem = cell_problem(system, cell) or geometry_problem(
            atoms.positions, cell, system.structure.pbc, system.radii, system.limits
        )
        if problem is not None:
            raise MDFailure(problem)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Forces of a structure; ASE calls it."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        self.check(self.atoms)
        system = self._system
        structure = MovingStructure(
            self._place,
            system.structure.numbers,
            self.atoms.positions.copy(),
            self.atoms.cell.array.copy(),
            system.structure.pbc,
            system.needs_stress,
        )
        answer = self._forces({self._place: structure})[self._place]
        if isinstance(answer, MDFailure):
            raise answer
        if not np.isfinite(answer.forces).all():
            raise MDFailure("the forces are not finite")
        self.results = {"forces": answer.forces}
        if answer.stress is not None:
            self.results["stress"] = answer.stress
