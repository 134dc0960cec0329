"""Validation errors for the log, in the form of ``MISC.error_table``.  Pure: standard library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

ErrorTable = Literal[
    "PerAtomRMSE",
    "TotalRMSE",
    "PerAtomMAE",
    "TotalMAE",
    "PerAtomRMSEstressvirials",
    "PerAtomMAEstressvirials",
]


class Errors(Protocol):
    """Validation errors of one member: energies per atom in eV, forces in eV/A.

    Those of the stress are in eV/A^3, None where there are none.
    """

    @property
    def mae_forces(self) -> float: ...

    @property
    def rmse_forces(self) -> float: ...

    @property
    def mae_energy_per_atom(self) -> float: ...

    @property
    def rmse_energy_per_atom(self) -> float: ...

    @property
    def mae_stress(self) -> float | None: ...

    @property
    def rmse_stress(self) -> float | None: ...


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Arithmetic mean of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def error_summary(table: ErrorTable, errors: Sequence[Errors], n_atoms: int) -> str:
    """Averages over the members: energy error (per atom or in all), force and stress error.

    Parameters
    ----------
    table : str
        As ``MISC.error_table``.
    errors : sequence of Errors
        One per member.
    n_atoms : int
        Atoms of a structure, for the error of the total energy.
    """
    if "RMSE" in table:
        kind = "RMSE"
        energy = mean([e.rmse_energy_per_atom for e in errors])
        forces = mean([e.rmse_forces for e in errors])
        stress = mean_of_known([e.rmse_stress for e in errors])
    else:
        kind = "MAE"
        energy = mean([e.mae_energy_per_atom for e in errors])
        forces = mean([e.mae_forces for e in errors])
        stress = mean_of_known([e.mae_stress for e in errors])
    per_atom = table.startswith("PerAtom")
    unit = "meV/atom" if per_atom else "meV"
    energy *= 1000.0 if per_atom else 1000.0 * n_atoms
    text = f"{kind} of E {energy:.2f} {unit}, of F {1000.0 * forces:.1f} meV/A"
    if stress is None or not table.endswith("stressvirials"):
        return text
    return f"{text}, of the stress {1000.0 * stress:.2f} meV/A^3"
