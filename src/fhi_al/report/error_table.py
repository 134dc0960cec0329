"""Validation errors for the log, in the form of ``MISC.error_table``.  Pure: standard library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

ErrorTable = Literal["PerAtomRMSE", "TotalRMSE", "PerAtomMAE", "TotalMAE"]


class Errors(Protocol):
    """Validation errors of one member: energies per atom in eV, forces in eV/A."""

    @property
    def mae_forces(self) -> float: ...

    @property
    def rmse_forces(self) -> float: ...

    @property
    def mae_energy_per_atom(self) -> float: ...

    @property
    def rmse_energy_per_atom(self) -> float: ...


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)


def error_summary(table: ErrorTable, errors: Sequence[Errors], n_atoms: int) -> str:
    """Averages over the members: energy error (per atom or in all) and force error.

    Parameters
    ----------
    table : {"PerAtomRMSE", "TotalRMSE", "PerAtomMAE", "TotalMAE"}
    errors : sequence of Errors
        One per member.
    n_atoms : int
        Atoms of a structure, for the error of the total energy.
    """
    if table.endswith("RMSE"):
        kind = "RMSE"
        energy = mean([e.rmse_energy_per_atom for e in errors])
        forces = mean([e.rmse_forces for e in errors])
    else:
        kind = "MAE"
        energy = mean([e.mae_energy_per_atom for e in errors])
        forces = mean([e.mae_forces for e in errors])
    per_atom = table.startswith("PerAtom")
    unit = "meV/atom" if per_atom else "meV"
    energy *= 1000.0 if per_atom else 1000.0 * n_atoms
    return f"{kind} of E {energy:.2f} {unit}, of F {1000.0 * forces:.1f} meV/A"
