"""Temperatures and pressures that trajectories are held at, step by step, where they change.

A trajectory's own MD steps decide, so that it goes the same way alone and among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import units

from fhi_al.core.schedule import values_at
from fhi_al.core.structure import Array
from fhi_al.md.state import Constants
from fhi_al.md.system import MDSystem


@dataclass(frozen=True, eq=False)
class Targets:
    """What the constants of trajectories are in each of some steps.

    Parameters
    ----------
    temperatures : (n_steps, n_trajectories)
        Times k_B, in eV.
    pressures : (n_steps, n_trajectories)
        In eV/A^3.
    """

    temperatures: Array
    pressures: Array

    @classmethod
    def of(
        cls, systems: Sequence[MDSystem], steps_before: Sequence[int], n_steps: int
    ) -> Targets | None:
        """Those of the next `n_steps` steps; None where nothing changes.

        Parameters
        ----------
        systems : sequence of MDSystem
            Of each trajectory.
        steps_before : sequence of int
            MD steps that each has done.
        n_steps : int
        """
        if not any(system.conditions.is_scheduled for system in systems):
            return None
        ahead = np.arange(n_steps)
        temperatures, pressures = (
            np.stack(
                [
                    values_at(getattr(system.conditions, name), before + ahead)
                    for system, before in zip(systems, steps_before, strict=True)
                ],
                axis=1,
            )
            for name in ("temperature", "pressure")
        )
        return cls(temperatures * units.kB, pressures)

    def constants(self, constants: Constants, step: int) -> Constants:
        """The constants of the trajectories in a step."""
        return replace(
            constants, temperature=self.temperatures[step], pressure=self.pressures[step]
        )

    def take(self, kept: Sequence[int]) -> Targets:
        """Those of some trajectories."""
        return Targets(self.temperatures[:, list(kept)], self.pressures[:, list(kept)])
