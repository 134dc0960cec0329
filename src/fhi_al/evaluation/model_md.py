"""Forces of MD on a surface, with the energies on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ase import Atoms

from fhi_al.evaluation.surfaces import Surface
from fhi_al.md.evaluation import Evaluation, MovingStructure
from fhi_al.md.point import MDFailure, MDPoint


class SurfaceForces:
    """What acts on trajectories at constant volume, and their potential energies.

    Parameters
    ----------
    surface : Surface
    between : callable
        Called before each evaluation.
    """

    def __init__(self, surface: Surface, between: Callable[[], None] = lambda: None) -> None:
        self._surface = surface
        self._between = between
        self._last: dict[int, tuple[MovingStructure, float]] = {}

    def __call__(self, pending: Mapping[int, MovingStructure]) -> dict[int, Evaluation | MDFailure]:
        """See :data:`fhi_al.md.evaluation.ForceFunction`."""
        self._between()
        atoms = [
            Atoms(one.numbers, one.positions, cell=one.cell if one.pbc else None, pbc=one.pbc)
            for one in pending.values()
        ]
        answers: dict[int, Evaluation | MDFailure] = {}
        for (place, structure), point in zip(pending.items(), self._surface(atoms), strict=True):
            self._last[place] = structure, point.energy
            answers[place] = Evaluation(point.forces)
        return answers

    def energy(self, place: int, point: MDPoint) -> float:
        """Potential energy in eV at a point that a trajectory has just come to.

        Raises
        ------
        ValueError
            If it was somewhere else last.
        """
        structure, energy = self._last[place]
        if not structure.is_at(point):
            raise ValueError(f"trajectory {place} was not at this point last")
        return energy
