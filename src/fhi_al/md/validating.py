"""An ASE calculator that checks structures before, and forces after, each calculation of MD."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes

from fhi_al.core.plausible import GeometryLimits, geometry_problem
from fhi_al.core.structure import Structure
from fhi_al.md.atoms import radii_of


class MDFailure(RuntimeError):
    """The block ended in a structure that makes no sense, or its forces could not be had."""


class ValidatingCalculator(Calculator):
    """Hands a structure to the real calculator only if it makes sense, and checks the forces.

    Parameters
    ----------
    calculator : ase calculator
        Called directly, never through its cache: its forces may change between blocks.
    structure : Structure
    limits : GeometryLimits
    between : callable
        Called before each force calculation.
    """

    implemented_properties = ["forces"]  # noqa: RUF012 (ASE's own interface)

    def __init__(
        self,
        calculator: BaseCalculator,
        structure: Structure,
        limits: GeometryLimits,
        between: Callable[[], None],
    ) -> None:
        super().__init__()
        self._calculator = calculator
        self._pbc = structure.pbc
        self._radii = radii_of(structure)
        self._limits = limits
        self._between = between
        self._copy: Atoms | None = None

    def check(self, atoms: Atoms) -> None:
        """Raise MDFailure if a structure makes no sense."""
        problem = geometry_problem(
            atoms.positions, atoms.cell.array, self._pbc, self._radii, self._limits
        )
        if problem is not None:
            raise MDFailure(problem)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE asks three times in every step.

        Its own comparison of all that atoms have takes twice as long as the integrator.
        """
        if self.atoms is None:
            return list(all_changes)
        same = (atoms.positions == self.atoms.positions).all() and (
            atoms.cell.array == self.atoms.cell.array
        ).all()
        return [] if same else ["positions", "cell"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Forces of a structure; ASE calls it.

        Raises
        ------
        MDFailure
            If the structure makes no sense, or its forces are not finite.
        """
        assert atoms is not None
        if self._copy is None:
            # Without the constraints, which ASE's own copy would take along.
            self._copy = Atoms(atoms.numbers, cell=atoms.cell, pbc=atoms.pbc)
        # The same object in every step: making a new one takes half as long as the integrator.
        self._copy.positions[:] = atoms.positions
        self._copy.cell[:] = atoms.cell.array
        self.atoms = self._copy
        self._between()
        self.check(self.atoms)
        self._calculator.calculate(self.atoms, ["forces"], all_changes)
        forces = np.array(self._calculator.results["forces"])
        if not np.isfinite(forces).all():
            raise MDFailure("the forces are not finite")
        self.results = {"forces": forces}
