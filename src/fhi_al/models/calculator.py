"""The ensemble as an ASE calculator, for MD.  Owns the cache of one structure's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators import calculator as ase_calculator

from fhi_al.core.structure import Array
from fhi_al.models.ensemble import Ensemble

# ASE's calculators carry no types.
_Calculator: Any = ase_calculator.Calculator


class EnsembleCalculator(_Calculator):
    """Energy and forces of an ensemble: the members' mean, or one member's.

    Parameters
    ----------
    ensemble : Ensemble
    member : int or None
        The member that drives; None for the mean of all.

    Notes
    -----
    Results are computed anew when the weights have changed, although the atoms have not moved:
    forces of old weights in the first step after a training are a defect.
    """

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, ensemble: Ensemble, member: int | None = None) -> None:
        super().__init__()
        self._ensemble = ensemble
        self._member = member
        self._computed_with: tuple[Any, ...] | None = None

    @property
    def member(self) -> int | None:
        """The member that drives, None for the mean of all."""
        return self._member

    @member.setter
    def member(self, member: int | None) -> None:
        self._member = member

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation, weights and driving member included."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        if self._computed_with != self._source():
            changes.append("weights")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(ase_calculator.all_changes),
    ) -> None:
        """Predict for `atoms`; called by ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        chosen = None if self._member is None else [self._member]
        energies, forces = self._ensemble.energies_and_forces(self.atoms, chosen)
        self._computed_with = self._source()
        energy = float(energies.mean())
        self.results = {"energy": energy, "free_energy": energy, "forces": forces.mean(axis=0)}
        self._forces_of_members = forces if self._member is None else None

    def forces_of_members(self, atoms: Atoms) -> Array:
        """Every member's forces on `atoms`, (n_members, n_atoms, 3) in eV/A.

        Costs nothing if the mean of all drives and `atoms` are where it was last computed.
        """
        if self._member is None:
            self.get_forces(atoms)
            assert self._forces_of_members is not None
            return self._forces_of_members.copy()
        return self._ensemble.energies_and_forces(atoms)[1]

    def _source(self) -> tuple[Any, ...]:
        return (self._member, self._ensemble.version)
