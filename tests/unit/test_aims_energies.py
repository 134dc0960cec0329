"""Which of FHI-aims' energies a library gave, by what FHI-aims itself prints."""

from __future__ import annotations

import pytest

from fhi_al.engines.aims_energies import energy_problem, printed_energies

# Of a metal, in the form that every FHI-aims prints at the end of a calculation.
OUTPUT = """\
  | Electronic free energy        :     -2318.66280000 Ha      -63094.37000000 eV
  Energy and forces in a compact form:
  | Total energy uncorrected      :         -0.630943948216411E+05 eV
  | Total energy corrected        :         -0.630943948568205E+05 eV  <-- do not rely on this
  | Electronic free energy        :         -0.630943948919999E+05 eV
  Total atomic forces (unitary forces cleaned) [eV/Ang]:
"""
N_ATOMS = 2


@pytest.mark.parametrize("hartree_ev", [27.2113845, 27.211386245988])
def test_only_the_free_energy_is_the_one_the_forces_belong_to(hartree_ev: float) -> None:
    printed = printed_energies(OUTPUT)
    assert printed is not None and printed.free == -63094.3948919999
    assert energy_problem(printed.free / hartree_ev, printed, N_ATOMS) is None
    problem = energy_problem(printed.uncorrected / hartree_ev, printed, N_ATOMS)
    # 70.359 microelectronvolts for two atoms.
    assert problem is not None and "uncorrected" in problem and "0.035 meV/atom" in problem
    problem = energy_problem(printed.corrected / hartree_ev, printed, N_ATOMS)
    assert problem is not None and "'Total energy corrected'" in problem


def test_what_cannot_be_told_or_does_not_matter_is_no_problem() -> None:
    printed = printed_energies(OUTPUT)
    assert printed is not None
    assert energy_problem(-2000.0, printed, N_ATOMS) is None  # another calculation
    assert energy_problem(printed.uncorrected / 27.2113845, printed, 100) is None  # 0.7 ueV/atom
    assert printed_energies("calculation 1: done\n") is None


def test_the_last_calculation_counts() -> None:
    later = OUTPUT.replace("0.630943948919999", "0.630943958919999")
    printed = printed_energies(OUTPUT + later)
    assert printed is not None and printed.free == -63094.3958919999
