"""The energies that FHI-aims prints of a calculation, and which of them its library gave.  Pure.

With smearing there are three: the energy E of the occupied states, the electronic free energy
F = E - TS, and an estimate for no smearing in between.  FHI-aims' forces are derivatives of F (its
output heads them "derivative of free energy"), and F is what ASE reads from the executable's
output.  ASI's own documentation says no more of ``ASI_energy`` than "total energy": hence the
comparison with what the library itself writes to its log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"\s*:\s*([-+]?\d+\.\d+(?:[Ee][-+]?\d+)?)\s*eV"
_BLOCK = re.compile(
    r"\|\s*Total energy uncorrected" + _NUMBER + r"[^\n]*\n"
    r"\s*\|\s*Total energy corrected" + _NUMBER + r"[^\n]*\n"
    r"\s*\|\s*Electronic free energy" + _NUMBER
)
# 1 Ha in eV by CODATA 2002 (FHI-aims' default as far as asi4py's source tells) to 2022: which one
# a binary was built with cannot be asked, but only one makes a printed energy equal to the given.
HARTREE_EV = (
    27.2113845,
    27.21138386,
    27.21138505,
    27.21138602,
    27.211386245988,
    27.211386245981,
)
# Printed with 15 digits.
SAME = 1e-12
# Below this per atom (eV) it does not matter which of the energies a label holds.
NEGLIGIBLE = 1e-5


@dataclass(frozen=True)
class PrintedEnergies:
    """Energies in FHI-aims' eV: of the occupied states, without smearing (estimate), free."""

    uncorrected: float
    corrected: float
    free: float


def printed_energies(output: str) -> PrintedEnergies | None:
    """The energies of the last finished calculation in an output; None if it has none."""
    found = _BLOCK.findall(output)
    if not found:
        return None
    return PrintedEnergies(*(float(text) for text in found[-1]))


def energy_problem(energy_hartree: float, printed: PrintedEnergies, n_atoms: int) -> str | None:
    """Why a library's energy is not the one its forces belong to; None if nothing says so.

    Parameters
    ----------
    energy_hartree : float
        What ``ASI_energy`` gave, in Ha.
    printed : PrintedEnergies
        Of the same calculation.
    n_atoms : int
    """
    if _is(energy_hartree, printed.free):
        return None
    for name, energy in (
        ("Total energy uncorrected", printed.uncorrected),
        ("Total energy corrected", printed.corrected),
    ):
        if _is(energy_hartree, energy) and abs(energy - printed.free) > NEGLIGIBLE * n_atoms:
            per_atom = 1000 * (energy - printed.free) / n_atoms
            return (
                f"the library's energy is FHI-aims' '{name}', {per_atom:.3f} meV/atom from the"
                " 'Electronic free energy' that the forces are derivatives of: expected the two to"
                " agree. Choose a smaller smearing (occupation_type in control.in), or run"
                " FHI-aims as an executable (cluster.aims_command), whose free energy is read"
            )
    return None


def _is(energy_hartree: float, printed_ev: float) -> bool:
    return any(abs(energy_hartree * ev - printed_ev) <= SAME * abs(printed_ev) for ev in HARTREE_EV)
