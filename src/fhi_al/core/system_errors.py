"""Errors of models on each system of a run.  Pure: standard library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SystemErrors:
    """Errors on the points of one system.

    Parameters
    ----------
    system : int
    mae_forces : float
        In eV/A.
    mae_energy_per_atom : float
        In eV.
    n_points : int
    """

    system: int
    mae_forces: float
    mae_energy_per_atom: float
    n_points: int

    def __str__(self) -> str:
        return (
            f"forces {1000 * self.mae_forces:.1f} meV/A, energies "
            f"{1000 * self.mae_energy_per_atom:.2f} meV/atom on {self.n_points}"
            f" point{'' if self.n_points == 1 else 's'}"
        )


def mean_by_system(each: Iterable[Sequence[SystemErrors]]) -> tuple[SystemErrors, ...]:
    """Means over the members that have points of a system; points of the member with the fewest."""
    found: dict[int, list[SystemErrors]] = {}
    for errors in each:
        for one in errors:
            found.setdefault(one.system, []).append(one)
    return tuple(
        SystemErrors(
            system,
            math.fsum(one.mae_forces for one in of_it) / len(of_it),
            math.fsum(one.mae_energy_per_atom for one in of_it) / len(of_it),
            min(one.n_points for one in of_it),
        )
        for system, of_it in sorted(found.items())
    )


def worst_forces(errors: Sequence[SystemErrors], systems: Iterable[int]) -> float:
    """Force MAE in eV/A of the worst of some systems; inf if one of them has no points."""
    known = {one.system: one.mae_forces for one in errors}
    return max((known.get(system, math.inf) for system in systems), default=math.nan)
