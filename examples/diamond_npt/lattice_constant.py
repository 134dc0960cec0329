"""The lattice constant of the reference engine and of the run's models at the pressure of the run.

    python lattice_constant.py [FOLDER]

Of the perfect crystal, at rest: where energy + pressure x volume is smallest; in as many cubic
cells as the run's geometry.in has, for the engine has one k point.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ase import Atoms, units
from ase.build import bulk
from ase.io import read
from mace.calculators import MACECalculator
from scipy.optimize import minimize_scalar
from tblite.ase import TBLite

PRESSURE_GPA = 10.0
RANGE_A = (3.40, 3.75)


def enthalpy(calculator: Callable[[], object], n_cells: int, length: float) -> float:
    """Energy + pressure x volume in eV at a lattice constant in A."""
    atoms: Atoms = bulk("C", "diamond", a=length, cubic=True) * (n_cells, n_cells, n_cells)
    atoms.calc = calculator()
    return float(atoms.get_potential_energy() + PRESSURE_GPA * units.GPa * atoms.get_volume())


def lattice_constant(calculator: Callable[[], object], n_cells: int) -> float:
    """In A, where the enthalpy is smallest."""
    found = minimize_scalar(
        lambda length: enthalpy(calculator, n_cells, length),
        bounds=RANGE_A,
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(found.x)


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
