"""How far above the initial dataset a label's energy may lie, before its trajectory goes back.

Models that know little drive molecules apart or atoms into each other.  A label there is learnt
from, but MD that went on from it would stay where there is nothing to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

from fhi_al.core.label import Label
from fhi_al.core.plausible import thermal_excess
from fhi_al.core.schedule import highest
from fhi_al.md.system import MDSystem


class ExcessEnergy:
    """What is said of labels whose energy is too high for MD to go on from them.

    Parameters
    ----------
    allowed : float, "auto" or None
        In eV per atom above the mean of the initial dataset; "auto": what vibrations at the
        trajectory's temperature, the highest of its schedule, may have; None: no limit.
    mean_energy : callable
        System -> mean energy of the labels that active learning began with, in eV; None if there
        are none.
    md_system : callable
        (system, md) -> MDSystem.
    """

    def __init__(
        self,
        allowed: float | Literal["auto"] | None,
        mean_energy: Callable[[int], float | None],
        md_system: Callable[[int, int], MDSystem],
    ) -> None:
        self._allowed = allowed
        self._mean_energy = cache(mean_energy)
        self._md_system = md_system

    def problem(self, label: Label, md: int) -> str:
        """Why MD under the conditions `md` must not go on from a label; empty if it may."""
        mean = self._mean_energy(label.system)
        if self._allowed is None or mean is None:
            return ""
        n_atoms = len(label.numbers)
        allowed = self._allowed
        if allowed == "auto":
            temperature = self._md_system(label.system, md).conditions.temperature
            allowed = thermal_excess(n_atoms, highest(temperature)) / n_atoms
        above = (label.energy - mean) / n_atoms
        if above <= allowed:
            return ""
        return (
            f"the label's energy is {above:.3f} eV per atom above the mean of the initial dataset, "
            f"more than {allowed:.3f} (max_excess_energy)"
        )
