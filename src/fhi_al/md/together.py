"""Advance several trajectories at the same time, so that their forces are computed in batches.

ASE's integrators ask for forces in the midst of a step.  Each runs in a greenlet, which is left
where it needs forces; when all do, these are computed together and handed back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from greenlet import getcurrent, greenlet

from fhi_al.core.structure import Array
from fhi_al.md.driver import Driver, MDPoint
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.validating import MDFailure

# Place of a trajectory -> its structure; and place -> forces (n_atoms, 3) in eV/A.
Forces = Callable[[Mapping[int, Atoms]], Mapping[int, Array]]


class BatchedForceCalculator(Calculator):
    """The calculator of drivers that are advanced together: asks whoever advances them."""

    implemented_properties = ["forces"]  # noqa: RUF012 (ASE's own interface)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Leave the integrator here until there are forces; called by the driver."""
        hub = getcurrent().parent
        if hub is None:
            raise RuntimeError(
                "a driver with a BatchedForceCalculator is advanced by advance_together() only"
            )
        self.results = {"forces": hub.switch(atoms)}


def advance_together(
    trajectories: Sequence[LiveTrajectory],
    drivers: Sequence[Driver],
    n_steps: Sequence[int],
    forces: Forces,
    known: Sequence[Array | None] | None = None,
) -> list[MDPoint | MDFailure]:
    """Advance trajectories; those that end sooner drop out, the others go on.

    Parameters
    ----------
    trajectories : sequence of LiveTrajectory
        Of any systems.  They stay where they are, but their random streams go on.
    drivers : sequence of Driver
        One each, with a :class:`BatchedForceCalculator`.
    n_steps : sequence of int
        MD steps of each.
    forces : callable
        Called with the structures of all that still move, by their places among the trajectories;
        returns their driving forces, (n_atoms, 3) in eV/A.
    known : sequence of (n_atoms, 3) or None, optional
        Driving forces in eV/A where the trajectories are; they are not computed again.

    Returns
    -------
    list
        For each where it has come to, or why it ended in a structure that makes no sense.
        Each is what :meth:`fhi_al.md.driver.Driver.advance` alone would give, bit for bit if the
        forces are.
    """
    places = range(len(trajectories))
    ended: dict[int, MDPoint | MDFailure] = {}
    moving = {place: greenlet(_advance) for place in places}
    starts = zip(drivers, trajectories, n_steps, strict=True)
    answers: dict[int, object] = dict(enumerate(starts))
    unused = dict(enumerate(known or [None] * len(trajectories)))
    try:
        while answers:
            pending: dict[int, Atoms] = {}
            for place, answer in answers.items():
                message = moving[place].switch(answer)
                given = unused.pop(place, None)
                if given is not None and _starts_at(trajectories[place].point, message):
                    message = moving[place].switch(given)
                if isinstance(message, Atoms):
                    pending[place] = message
                else:
                    ended[place] = message
            answers = dict(forces(pending)) if pending else {}
    finally:
        for one in moving.values():
            if not one.dead:
                one.throw()
    return [ended[place] for place in places]


def is_at(atoms: Atoms, positions: Array, cell: Array) -> bool:
    """Whether a structure is the one with these positions and, for a crystal, this cell (A)."""
    if not np.array_equal(atoms.positions, positions):
        return False
    return not atoms.pbc.any() or np.array_equal(atoms.cell.array, cell)


def _starts_at(point: MDPoint, message: object) -> bool:
    """Whether the first forces that an integrator wants are those where it began."""
    return isinstance(message, Atoms) and is_at(message, point.positions, point.cell)


def _advance(start: tuple[Driver, LiveTrajectory, int]) -> MDPoint | MDFailure:
    driver, trajectory, n_steps = start
    try:
        return driver.advance(trajectory.point, n_steps, trajectory.generator)
    except MDFailure as failure:
        return failure
