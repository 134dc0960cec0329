"""Test the models of this example on structures they have never seen.

Runs an independent GFN2-xTB MD (500 K, another seed than the run's), takes every 40th structure
after equilibration, and compares the models with xTB there.  Needs ASE, tblite and MACE only.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation

HERE = Path(__file__).parent


def independent_structures(start: Atoms, count: int, stride: int, seed: int) -> list[Atoms]:
    """Structures of a GFN2-xTB MD with their xTB energies (eV) and forces (eV/A)."""
    from tblite.ase import TBLite

    atoms, generator = start.copy(), np.random.default_rng(seed)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=500, rng=generator)
    Stationary(atoms)
    ZeroRotation(atoms)
    atoms.set_constraint(FixCom())
    dynamics = Langevin(
        atoms,
        timestep=0.5 * units.fs,
        temperature_K=500,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=generator,
    )
    dynamics.run(1000)
    structures = []
    for _ in range(count):
        dynamics.run(stride)
        taken = Atoms(atoms.numbers, positions=atoms.positions)
        # A new calculator: the label must not depend on the MD's last density.
        taken.calc = TBLite(method="GFN2-xTB", verbosity=0)
        energy, forces = taken.get_potential_energy(), taken.get_forces()
        taken.calc = SinglePointCalculator(taken, energy=energy, forces=forces)
        structures.append(taken)
    return structures


def predictions(model: Path, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Energies (n,) in eV and forces (n, n_atoms, 3) in eV/A of one model."""
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=[str(model)], device="cpu")
    energies, forces = [], []
    for structure in structures:
        atoms = structure.copy()
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return np.array(energies), np.array(forces)


def main() -> None:
    """Print force and energy errors of each model and of the ensemble mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE, help="folder of the run")
    parser.add_argument("--structures", type=int, default=200, metavar="N")
    parser.add_argument("--stride", type=int, default=40, help="MD steps between structures")
    parser.add_argument("--seed", type=int, default=2718, help="of the MD; not the run's")
    options = parser.parse_args()
    # ASE, e3nn and MACE announce deprecations and dtypes, which would hide the numbers.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    models = sorted((options.folder / "model").glob("*.model"))
    if not models:
        parser.error(f"{options.folder / 'model'}: no models; run FHI_AL there first")
    start = read(options.folder / "geometry.in", format="aims")
    assert isinstance(start, Atoms)  # not a list: the file holds one structure
    structures = independent_structures(start, options.structures, options.stride, options.seed)
    energy = np.array([atoms.get_potential_energy() for atoms in structures])
    forces = np.array([atoms.get_forces() for atoms in structures])
    found = {model.name: predictions(model, structures) for model in models}
    found["ensemble mean"] = (
        np.mean([energies for energies, _ in found.values()], axis=0),
        np.mean([everyones for _, everyones in found.values()], axis=0),
    )
    print(f"{len(structures)} structures, rms force {np.sqrt((forces**2).mean()):.3f} eV/A")
    for name, (energies, predicted) in found.items():
        force_mae = 1000 * np.abs(predicted - forces).mean()
        energy_mae = 1000 * np.abs(energies - energy).mean() / len(start)
        print(f"{name:30s} forces {force_mae:6.1f} meV/A   energy {energy_mae:6.2f} meV/atom")
    labels = options.folder / "restart" / "labels.jsonl"
    if labels.is_file():
        print(f"labels used: {len(labels.read_text().splitlines())}")


if __name__ == "__main__":
    main()
