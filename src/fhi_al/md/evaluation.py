"""What the MD engine asks for, and what it is answered: forces of moving structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, all_changes
from numpy.typing import NDArray

from fhi_al.core.structure import Array
from fhi_al.md.point import MDFailure, MDPoint


@dataclass(frozen=True, eq=False, slots=True)
class MovingStructure:
    """Where a trajectory is; its arrays are never changed.

    Parameters
    ----------
    place : int
        Of the trajectory among those that move together.
    numbers : (n_atoms,)
        Atomic numbers.
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A; of a molecule zeros.
    pbc : bool
    needs_stress : bool
        Whether the scheme that moves it needs the stress, too.
    """

    place: int
    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    pbc: bool
    needs_stress: bool

    def is_at(self, point: MDPoint) -> bool:
        """Whether it is at a point, bit by bit."""
        same: bool = np.array_equal(self.positions, point.positions)
        return same and (not self.pbc or bool(np.array_equal(self.cell, point.cell)))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What acts on a structure.

    Parameters
    ----------
    forces : (n_atoms, 3)
        In eV/A.
    stress : (3, 3) or None
        In eV/A^3, ASE's sign.
    """

    forces: Array
    stress: Array | None = None

    def required_stress(self) -> Array:
        """The stress.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.stress is None:
            raise ValueError("MD at constant pressure: expected forces with a stress, got none")
        return self.stress


# Place of a trajectory -> its structure; and place -> its forces, or why there are none.
ForceFunction = Callable[[Mapping[int, MovingStructure]], Mapping[int, Evaluation | MDFailure]]


def not_finite(evaluations: Mapping[int, Evaluation]) -> dict[int, MDFailure]:
    """Failures of those with a force or a stress that is not finite."""
    if not evaluations:
        return {}
    every = list(evaluations.values())
    stresses = [one.stress for one in every if one.stress is not None]
    # All at once: one by one it takes as long as the integrator.
    if np.isfinite(np.concatenate([*(one.forces for one in every), *stresses])).all():
        return {}
    found = {}
    for place, one in evaluations.items():
        if not np.isfinite(one.forces).all():
            found[place] = MDFailure("the forces are not finite")
        elif one.stress is not None and not np.isfinite(one.stress).all():
            found[place] = MDFailure("the stress is not finite")
    return found


def forces_of_calculator(
    calculator: BaseCalculator, before: Callable[[], None] = lambda: None
) -> ForceFunction:
    """Forces from an ASE calculator, of one structure after the other.

    Parameters
    ----------
    calculator : ase calculator
        Called directly, never through its cache: its forces may change between blocks.
    before : callable
        Called before each calculation.
    """

    def forces(pending: Mapping[int, MovingStructure]) -> dict[int, Evaluation | MDFailure]:
        return {place: _evaluated(calculator, one, before) for place, one in pending.items()}

    return forces


def _evaluated(
    calculator: BaseCalculator, structure: MovingStructure, before: Callable[[], None]
) -> Evaluation | MDFailure:
    before()
    cell: Any = structure.cell if structure.pbc else None
    atoms = Atoms(structure.numbers, structure.positions, cell=cell, pbc=structure.pbc)
    wanted = ["forces", "stress"] if structure.needs_stress else ["forces"]
    try:
        calculator.calculate(atoms, wanted, all_changes)
    except MDFailure as failure:
        return failure
    stress = None
    if structure.needs_stress:
        stress = _full(np.array(calculator.results["stress"]))
    return Evaluation(np.array(calculator.results["forces"]), stress)


def _full(stress: Array) -> Array:
    """(3, 3) of six numbers in Voigt's order, as ASE has them."""
    if stress.shape == (3, 3):
        return stress
    return stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
