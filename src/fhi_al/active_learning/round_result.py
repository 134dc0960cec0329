"""What a training round gave: errors of the members, and what is compared with a target."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fhi_al.core.system_errors import SystemErrors, mean_by_system, worst_forces
from fhi_al.models.interface import ValidationErrors
from fhi_al.report.error_table import mean


@dataclass(frozen=True)
class RoundResult:
    """What a training round gave.

    Parameters
    ----------
    errors : list of ValidationErrors
        Of each member.
    loss : float
        Mean training loss of the members in the last epoch.
    message : str
        Loss and errors for the log.
    diverged : tuple of int
        Members that were put back to the weights they had.
    worst_of : tuple of int
        Systems the worst of which is to reach a target; empty: the error over all points is.
    """

    errors: list[ValidationErrors]
    loss: float
    message: str
    diverged: tuple[int, ...] = ()
    worst_of: tuple[int, ...] = ()

    @property
    def maes(self) -> list[float]:
        """Validation force MAE of each member, in eV/A."""
        return [each.mae_forces for each in self.errors]

    @property
    def mae_energy_per_atom(self) -> float:
        """Mean validation MAE of the members' energies per atom, in eV."""
        return mean([each.mae_energy_per_atom for each in self.errors])

    @property
    def mae(self) -> float:
        """Mean validation force MAE of the members, in eV/A.

        Each on its own validation set, which it has not trained on: to be compared with a target
        or with earlier rounds on the same sets, never one member with another (see
        :mod:`fhi_al.active_learning.comparison`).
        """
        return mean(self.maes)

    @property
    def by_system(self) -> tuple[SystemErrors, ...]:
        """The same for the points of each system, means over the members that have any."""
        return mean_by_system([each.by_system for each in self.errors])

    @property
    def mae_to_reach(self) -> float:
        """What is compared with a target: :attr:`mae`, or that of the worst system, in eV/A."""
        if not self.worst_of or math.isnan(self.mae):
            return self.mae
        return worst_forces(self.by_system, self.worst_of)
