"""Stands in for the FHI-aims executable: its inputs in, xTB inside, its output format out.

``python fake_aims.py [MODE]``; MODE: well, atom (whose control.in is not the
user's in all), unconverged, crash, garbage, early.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from tblite.ase import TBLite

HEADER = """\
          Invoking FHI-aims ...
  | Number of atoms                   :        {n_atoms}
  | Number of spin channels           :        1
  | Number of Kohn-Sham states        :        20
  The structure contains        {n_atoms} atoms,  and a total of         10.000 electrons.
"""
ENERGIES = """\
  Self-consistency cycle converged.
  Total energy components:
  | Total energy uncorrected      :         {internal:.15E} eV
  | Electronic free energy        :         {free:.15E} eV
  | Number of self-consistency cycles          :           12
"""
GIVEN_UP = """\
 * WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE
 * USING YOUR PRESELECTED ACCURACY CRITERIA.
 * DO NOT RELY ON ANY FINAL DATA WITHOUT FURTHER CHECKS.
"""


def words_of(name: str) -> list[list[str]]:
    lines = Path(name).read_text().splitlines()
    return [words for line in lines if (words := line.split("#")[0].split())]


def structure() -> tuple[Atoms, list[str]]:
    nuclei, name = {}, ""
    for words in words_of("control.in"):
        if words[0] == "species":
            name = words[1]
        elif words[0] == "nucleus":
            nuclei[name] = int(words[1])
    rows = words_of("geometry.in")
    atoms = [row for row in rows if row[0] == "atom"]
    cell = [[float(x) for x in row[1:4]] for row in rows if row[0] == "lattice_vector"]
    species = [row[4] for row in atoms]
    positions = [[float(x) for x in row[1:4]] for row in atoms]
    return Atoms(
        [nuclei[name] for name in species], positions, cell=cell or None, pbc=bool(cell)
    ), species


def header(atoms: Atoms, species: list[str]) -> str:
    lines = [HEADER.format(n_atoms=len(atoms))]
    if atoms.pbc.any():
        lines.append("  | Unit cell:\n")
        lines += [f"  |    {x:.8f} {y:.8f} {z:.8f}\n" for x, y, z in np.array(atoms.cell)]
    lines.append("  Atomic structure:\n  |       Atom                x [A]    y [A]    z [A]\n")
    for index, (name, (x, y, z)) in enumerate(zip(species, atoms.positions, strict=True), 1):
        lines.append(f"  | {index:4d}: Species {name}  {x:.8f} {y:.8f} {z:.8f}\n")
    return "".join([*lines, "          Begin self-consistency iteration #    1\n\n"])


def results(atoms: Atoms) -> str:
    method = "GFN1-xTB" if atoms.pbc.any() else "GFN2-xTB"
    atoms.calc = TBLite(method=method, verbosity=0)
    # xTB's energy is the free energy; here the smearing makes 0.1 eV.
    free = atoms.get_potential_energy()
    lines = [ENERGIES.format(internal=free + 0.1, free=free)]
    lines.append("  Total atomic forces (unitary forces cleaned) [eV/Ang]:\n")
    for index, (x, y, z) in enumerate(atoms.get_forces(), 1):
        lines.append(f"  | {index:4d} {x:.15E} {y:.15E} {z:.15E}\n")
    if atoms.pbc.any():
        lines.append("  | Analytical stress tensor - Symmetrized  |\n" + 4 * "  |          |\n")
        for name, (x, y, z) in zip("xyz", atoms.get_stress(voigt=False), strict=True):
            lines.append(f"  |  {name}  {x:.15E} {y:.15E} {z:.15E} |\n")
    return "".join(lines)


def main(mode: str) -> int:
    keywords = [words[0] for words in words_of("control.in")]
    wanted = {"compute_forces"} | ({"many_body_dispersion"} if mode != "atom" else set())
    if not wanted <= set(keywords):
        sys.stderr.write("the control.in is not the user's\n")
        return 9
    if mode == "garbage":
        sys.stdout.write("Have a nice day.\n\x00 | Total energy : ***\n")
        return 0
    atoms, species = structure()
    sys.stdout.write(header(atoms, species))
    if mode == "crash":
        sys.stderr.write("forrtl: severe (174): SIGSEGV\n")
        return 1
    if mode == "unconverged":
        sys.stdout.write(GIVEN_UP)
    sys.stdout.write(results(atoms))
    if mode != "early":
        sys.stdout.write("\n          Have a nice day.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "well"))
