"""The lattice constant of the reference engine and of the run's models at the pressure of the run.

    python lattice_constant.py [FOLDER]

Of the perfect crystal, at rest: where energy + pressure x volume is smallest; in as many cubic
cells as the run's geometry.in has, for the engine has one k point.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.io import read
from mace.calculators import MACECalculator
from tblite.ase import TBLite

PRESSURE_GPA = 10.0
LATTICE_CONSTANTS_A = np.linspace(3.54, 3.70, 7)


def enthalpies(calculator: Callable[[], object], n_cells: int) -> np.ndarray:
    """Energy + pressure x volume in eV at each lattice constant, (n,)."""
    found = []
    for length in LATTICE_CONSTANTS_A:
        atoms: Atoms = bulk("C", "diamond", a=length, cubic=True) * (n_cells, n_cells, n_cells)
        atoms.calc = calculator()
        pressure = PRESSURE_GPA * units.GPa
        found.append(atoms.get_potential_energy() + pressure * atoms.get_volume())
    return np.array(found)


def lattice_constant(calculator: Callable[[], object], n_cells: int) -> float:
    """In A, by a polynomial of fourth order through the enthalpies."""
    first, last = LATTICE_CONSTANTS_A[0], LATTICE_CONSTANTS_A[-1]
    curve = np.polynomial.Polynomial.fit(LATTICE_CONSTANTS_A, enthalpies(calculator, n_cells), 4)
    roots = curve.deriv().roots()
    places = [root.real for root in roots if abs(root.imag) < 1e-9 and first < root.real < last]
    return float(min(places, key=curve))


def main(folder: Path) -> None:
    """Print a line for the engine and for each model."""
    # GFN1-xTB forgets nothing between two calculators: each is new.
    n_cells = round((len(read(folder / "geometry.in", format="aims")) / 8) ** (1 / 3))
    engine = lattice_constant(lambda: TBLite(method="GFN1-xTB", verbosity=0), n_cells)
    print(f"at {PRESSURE_GPA:g} GPa, {8 * n_cells**3} atoms")
    print(f"GFN1-xTB  {engine:.4f} A")
    for path in sorted((folder / "model").glob("*.model")):
        model = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
        found = lattice_constant(lambda model=model: model, n_cells)
        print(f"{path.name}  {found:.4f} A  {100 * (found / engine - 1):+.2f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
