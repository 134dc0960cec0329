"""The structures that the small foundation model of the tests learns, labelled by GFN1-xTB.

Molecules and crystals of H, C, N, O and Si; neither ethanol nor acetamide is among them, nor any
molecule in which N and O occur together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.stress import voigt_6_to_full_3x3_stress
from tblite.ase import TBLite

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import Array, geometry_key

METHOD = "GFN1-xTB"
MOLECULES = (
    *("H2", "CH4", "C2H6", "C2H4", "C2H2", "C3H8", "C3H6_Cs", "C3H6_D3h", "C3H4_C3v"),
    *("trans-butane", "isobutane", "butadiene", "C6H6"),
    *("H2O", "H2O2", "CO", "CO2", "CH3OH", "CH3OCH3", "H2CO", "CH3CHO", "HCOOH", "CH3COOH"),
    *("HCOOCH3", "CH3COCH3", "CH3CH2OCH3", "C2H6CHOH", "CH2OCH2", "H2CCO", "C4H4O"),
    *("N2", "NH3", "N2H4", "H3CNH2", "C2H6NH", "CH3CH2NH2", "C3H9N", "HCN", "CH3CN"),
    *("CH2NHCH2", "C4H4NH", "C5H5N"),
    *("SiH4", "Si2H6", "CH3SiH3"),
)
# Close to each other in any orientation.
PAIRS = (("H2O", "H2O"), ("CH3OH", "H2O"), ("NH3", "NH3"), ("CH4", "CH4"), ("CH3OH", "CH3OH"))
# Conventional cells of eight atoms, of a lattice constant in A near that of the method at Gamma.
CRYSTALS = {
    "diamond": ("C", "diamond", 3.62),
    "silicon": ("Si", "diamond", 5.60),
    "SiC": ("SiC", "zincblende", 4.50),
}
TEMPERATURES = (300.0, 600.0, 1000.0)  # K
STEP = 1.0  # fs
STRIDE = 25  # steps between two structures of a trajectory
FRICTION = 0.02  # 1/fs
LARGEST_FORCE = 20.0  # eV/A; beyond it a structure is of no use


def training_structures(n_frames: int, n_displaced: int, seed: int) -> list[Label]:
    """What the model is trained on.

    Parameters
    ----------
    n_frames : int
        Of MD of each molecule at each temperature.
    n_displaced : int
        Of each molecule and pair, with random displacements; four times as many of each crystal.
    seed : int
    """
    random = np.random.default_rng(seed)
    found: list[Atoms] = []
    for name in MOLECULES:
        start = molecule(name)
        for kelvin in TEMPERATURES:
            found += md_frames(start, kelvin, n_frames, random)
        found += [rattled(start, random) for _ in range(n_displaced)]
    for names in PAIRS:
        found += [pair(names, random) for _ in range(n_displaced)]
    for name in CRYSTALS:
        found += [crystal(name, random) for _ in range(4 * n_displaced)]
    return list(labelled(found))


def unseen_structures(seed: int) -> list[Label]:
    """Other structures of the same molecules (MD at 500 K) and crystals, none as far distorted."""
    random = np.random.default_rng(seed)
    found: list[Atoms] = []
    for name in MOLECULES:
        found += md_frames(molecule(name), 500.0, 1, random, n_before=200)
    for names in PAIRS:
        found.append(pair(names, random, nearest=1.8))
    for name in CRYSTALS:
        found += [crystal(name, random, strain=0.03, displacement=0.08) for _ in range(3)]
    return list(labelled(found))


def md_frames(
    start: Atoms, kelvin: float, n_frames: int, random: np.random.Generator, n_before: int = 0
) -> list[Atoms]:
    """Structures of Langevin MD with GFN1-xTB, `STRIDE` steps apart, after `n_before` steps.

    Fewer where a calculation fails: a molecule may fall apart when it is hot.
    """
    atoms = start.copy()
    atoms.calc = TBLite(method=METHOD, verbosity=0)
    old = np.random.RandomState(random.integers(2**31))
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * kelvin, rng=old)
    md = Langevin(
        atoms,
        STEP * units.fs,
        temperature_K=kelvin,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=old,
    )
    found: list[Atoms] = []
    try:
        if n_before:
            md.run(n_before)
        for _ in range(n_frames):
            md.run(STRIDE)
            found.append(Atoms(atoms.numbers, atoms.positions))
    except CalculationFailed:
        pass
    return found


def rattled(start: Atoms, random: np.random.Generator) -> Atoms:
    """With normal displacements of 0.02 to 0.12 A."""
    atoms = Atoms(start.numbers, start.positions)
    atoms.positions += random.normal(0.0, random.uniform(0.02, 0.12), atoms.positions.shape)
    return atoms


def pair(names: Sequence[str], random: np.random.Generator, nearest: float = 1.6) -> Atoms:
    """Two rattled molecules, turned at random, `nearest` to 3.5 A apart."""
    first, second = (rattled(molecule(name), random) for name in names)
    for atoms in (first, second):
        atoms.positions -= atoms.positions.mean(axis=0)
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        atoms.positions = atoms.positions @ turn
    wanted = random.uniform(nearest, 3.5)
    direction = random.normal(size=3)
    direction /= np.linalg.norm(direction)
    # From far away towards each other.
    for distance in np.arange(12.0, 0.0, -0.05):
        moved = second.positions + distance * direction
        if _nearest(first.positions, moved) < wanted:
            break
    return first + Atoms(second.numbers, moved)


def _nearest(some: Array, others: Array) -> float:
    return float(np.linalg.norm(some[:, None] - others[None], axis=-1).min())


def crystal(
    name: str, random: np.random.Generator, strain: float = 0.04, displacement: float = 0.12
) -> Atoms:
    """With strains of up to `strain` and normal displacements of 0.01 A to `displacement`."""
    symbols, kind, lattice_constant = CRYSTALS[name]
    atoms = bulk(symbols, kind, a=lattice_constant, cubic=True)
    drawn = random.uniform(-strain, strain, (3, 3))
    drawn = 0.5 * (drawn + drawn.T) + random.uniform(-strain, strain) * np.eye(3)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + drawn), scale_atoms=True)
    atoms.positions += random.normal(0.0, random.uniform(0.01, displacement), (len(atoms), 3))
    return atoms


def labelled(structures: Sequence[Atoms]) -> Iterator[Label]:
    """Structures with GFN1-xTB energies, forces and, of crystals, stresses.

    Without those whose calculation fails or whose forces exceed ``LARGEST_FORCE``.
    """
    for step, atoms in enumerate(structures):
        atoms.calc = TBLite(method=METHOD, verbosity=0)
        try:
            forces = atoms.get_forces()
        except CalculationFailed:
            continue
        if np.abs(forces).max() > LARGEST_FORCE:
            continue
        periodic = bool(atoms.pbc.any())
        cell = np.array(atoms.cell.array, dtype=float)
        yield Label(
            key=geometry_key(0, atoms.positions, cell),
            system=0,
            numbers=atoms.numbers.copy(),
            positions=atoms.positions.copy(),
            cell=cell,
            pbc=periodic,
            energy=float(atoms.get_potential_energy()),
            forces=np.array(forces),
            stress=voigt_6_to_full_3x3_stress(atoms.get_stress()) if periodic else None,
            origin=Origin("imported", 0, step),
        )


def isolated_atoms(numbers: Sequence[int]) -> dict[int, float]:
    """GFN1-xTB energies in eV of isolated, spin-polarised atoms, by atomic number."""
    unpaired = {1: 1, 6: 2, 7: 3, 8: 2, 14: 2}
    energies = {}
    for number in numbers:
        atom = Atoms([number], [[0.0, 0.0, 0.0]])
        atom.calc = TBLite(
            method=METHOD, verbosity=0, multiplicity=unpaired[number] + 1, spin_polarization=1.0
        )
        energies[number] = float(atom.get_potential_energy())
    return energies
