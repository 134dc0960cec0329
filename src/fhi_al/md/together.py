"""Advance several trajectories at the same time, so that their forces are computed in batches.

ASE's integrators ask for forces in the midst of a step.  Each runs in a greenlet, which is left
where it asks; when all have asked, they are answered together and go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from greenlet import getcurrent, greenlet

from fhi_al.core.structure import Array
from fhi_al.md.driver import Driver, MDPoint
from fhi_al.md.validating import MDFailure

# Place of a block -> its structure; and place -> forces (n_atoms, 3) in eV/A.
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
            raise RuntimeError("a driver with HandedOver is advanced by advance_together() only")
        self.results = {"forces": hub.switch(atoms)}


@dataclass(frozen=True, eq=False)
class Block:
    """MD steps of one trajectory.

    Parameters
    ----------
    driver : Driver
        With a `BatchedForceCalculator` calculator.
    point : MDPoint
        Where it begins.
    n_steps : int
    generator : numpy.random.Generator
    forces : (n_atoms, 3) or None
        At the point in eV/A, if they are known: they are not asked for again then.
    """

    driver: Driver
    point: MDPoint
    n_steps: int
    generator: np.random.Generator
    forces: Array | None = None


def advance_together(blocks: Sequence[Block], forces: Forces) -> list[MDPoint | MDFailure]:
    """Advance trajectories; those that end sooner drop out, the others go on.

    Parameters
    ----------
    blocks : sequence of Block
        Of any systems and lengths.
    forces : callable
        Called with the structures of all blocks that still move.

    Returns
    -------
    list
        For each block where it has come to, or why it ended in a structure that makes no sense.
        Each is what :meth:`fhi_al.md.driver.Driver.advance` alone would give, bit for bit if the
        forces are.
    """
    ended: dict[int, MDPoint | MDFailure] = {}
    moving = {place: greenlet(_advance) for place in range(len(blocks))}
    answers: dict[int, object] = dict(enumerate(blocks))
    unused = dict(enumerate(blocks))
    try:
        while answers:
            pending: dict[int, Atoms] = {}
            for place, answer in answers.items():
                message = moving[place].switch(answer)
                known = _known(unused.pop(place, None), message)
                if known is not None:
                    message = moving[place].switch(known)
                if isinstance(message, Atoms):
                    pending[place] = message
                else:
                    ended[place] = message
            answers = dict(forces(pending)) if pending else {}
    finally:
        for one in moving.values():
            if not one.dead:
                one.throw()
    return [ended[place] for place in range(len(blocks))]


def is_at(atoms: Atoms, positions: Array, cell: Array) -> bool:
    """Whether a structure is the one with these positions and, for a crystal, this cell (A)."""
    if not np.array_equal(atoms.positions, positions):
        return False
    return not atoms.pbc.any() or np.array_equal(atoms.cell.array, cell)


def _known(block: Block | None, message: object) -> Array | None:
    """The forces that a block came with, if its first question is about its first point."""
    if block is None or block.forces is None or not isinstance(message, Atoms):
        return None
    point = block.point
    return block.forces if is_at(message, point.positions, point.cell) else None


def _advance(block: Block) -> MDPoint | MDFailure:
    try:
        return block.driver.advance(block.point, block.n_steps, block.generator)
    except MDFailure as failure:
        return failure
