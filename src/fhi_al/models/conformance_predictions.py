"""Checks of what a backend predicts: derivatives, symmetries, batches, descriptors.

Each is a function of a :class:`fhi_al.models.conformance_case.Case` whose member has been trained.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms

from fhi_al.models.conformance_case import ALLOWED, Case
from fhi_al.models.interface import Prediction

# Of all-electron codes: float32 counts in steps of 0.06 eV at this size.
LARGE_E0 = -535_000.123
STEP = 1e-4  # A, or strain, of finite differences


def shapes(case: Case) -> None:
    """Energies, forces and stress of a molecule, a pair and a crystal."""
    for atoms in (case.pair, case.molecule, case.crystal):
        found = case.predict(atoms)
        n = len(atoms)
        assert found.stress is not None
        shapes = [found.energies.shape, found.forces.shape, found.stress.shape]
        wanted = [(1,), (1, n, 3), (1, 3, 3)]
        case.demand(shapes == wanted, f"shapes {shapes} of {n} atoms: expected {wanted}")
        finite = np.isfinite(found.energies).all() and np.isfinite(found.forces).all()
        case.demand(bool(finite), f"{atoms}: not finite")
        has_stress = bool(np.isfinite(found.stress).all())
        periodic = bool(atoms.pbc.all())
        case.demand(has_stress == periodic, f"{atoms}: stress {found.stress}")


def reference_energies(case: Case) -> None:
    """Other E0s move energies by their sum."""
    member = case.member
    constants, before = member.normalisation, case.predict(case.molecule).energies
    moved = tuple(energy + 1000.0 for energy in constants.atomic_energies)
    try:
        case.set_normalisation(replace(constants, atomic_energies=moved))
        found = case.predict(case.molecule).energies - before
    finally:
        case.set_normalisation(constants)
    case.near(found, 4 * 1000.0, 1e-6, "4 atoms, each E0 1000 eV higher: the energy rose by")


def broken_structures(case: Case) -> None:
    """A position that is not finite, an atom that has flown away."""
    for value in (np.nan, 1e4):
        atoms = case.molecule.copy()
        atoms.positions[1, 2] = value
        found = case.predict(atoms)
        nan = np.isnan(found.energies).all() and np.isnan(found.forces).all()
        case.demand(bool(nan), f"a position of {value}: energies {found.energies}")


def gradient(case: Case) -> None:
    """Forces against finite differences of the energy."""
    for atoms in (case.molecule, case.crystal):
        forces = case.predict(atoms).forces[0]
        for atom, axis in ((0, 0), (1, 1), (2, 2)):

            def moved(sign: int, atoms: Atoms = atoms, atom: int = atom, axis: int = axis) -> float:
                one = atoms.copy()
                one.positions[atom, axis] += sign * STEP
                return float(case.predict(one).energies[0])

            slope = -(moved(1) - moved(-1)) / (2 * STEP)
            size = max(1.0, float(np.abs(forces).max()))
            where = f"{atoms.symbols}, atom {atom}, {'xyz'[axis]}: force"
            case.near(forces[atom, axis], slope, 1e-5 * size, where)


def strain(case: Case) -> None:
    """Stress against finite differences by the cell's strain."""
    found = case.predict(case.crystal).stress
    assert found is not None
    volume = case.crystal.get_volume()
    for a, b in ((0, 0), (1, 2)):

        def strained(sign: int, a: int = a, b: int = b) -> float:
            deformation = np.eye(3)
            deformation[a, b] += sign * STEP / 2
            deformation[b, a] += sign * STEP / 2
            one = case.crystal.copy()
            one.set_cell(one.cell @ deformation, scale_atoms=True)
            return float(case.predict(one).energies[0])

        slope = (strained(1) - strained(-1)) / (2 * STEP) / volume
        size = max(1.0, float(np.abs(found).max()))
        case.near(found[0, a, b], slope, 1e-5 * size, f"component {'xyz'[a]}{'xyz'[b]}: stress")


def translation(case: Case) -> None:
    """Everything moved."""
    for atoms in (case.molecule, case.crystal):
        moved = atoms.copy()
        moved.positions += [0.3, -0.2, 0.1]
        case.same(case.predict(moved), case.predict(atoms), "moved")


def rotation(case: Case) -> None:
    """Everything rotated."""
    turn = np.linalg.qr(case.random.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    for atoms in (case.molecule, case.crystal):
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ turn)
        turned.positions = atoms.positions @ turn
        found, before = case.predict(turned), case.predict(atoms)
        stress = None if before.stress is None else turn.T @ before.stress @ turn
        case.same(found, Prediction(before.energies, before.forces @ turn, stress), "rotated")


def permutation(case: Case) -> None:
    """Atoms in another order."""
    order = [2, 3, 0, 1]
    for atoms in (case.molecule, case.crystal):
        found, before = case.predict(atoms[order]), case.predict(atoms)
        wanted = Prediction(before.energies, before.forces[:, order], before.stress)
        case.same(found, wanted, "in another order")


def images(case: Case) -> None:
    """An atom in the next cell."""
    moved = case.crystal.copy()
    moved.positions[1] += moved.cell.array[0]
    case.same(case.predict(moved), case.predict(case.crystal), "one atom a cell further")


def batches(case: Case) -> None:
    """Structures of different sizes together and one by one."""
    several = [case.molecule, case.crystal, case.pair, case.crystal * (2, 1, 1)]
    together = case.ensemble.predict(several, [0], stress=True)
    for atoms, found in zip(several, together, strict=True):
        case.same(found, case.predict(atoms), f"{atoms.symbols} in a batch")


def energy_errors(case: Case) -> None:
    """Predicted minus labelled energies."""
    member, backend = case.member, case.ensemble.backend
    labels = member.training
    samples = [backend.label_sample(label) for label in labels]
    found = backend.energy_errors(member.inference_model, [samples[:1], samples[1:]])
    predicted = [each.energies[0] for each in case.ensemble.predict(labels, [member.index])]
    wanted = np.array(predicted) - [label.energy for label in labels]
    case.near(np.abs(found - wanted).max(), 0.0, ALLOWED[case.dtype], "they are off by")


def descriptors(case: Case) -> None:
    """Shapes of features, and that a rotation changes none."""
    turned = case.molecule.copy()
    turned.rotate(33, (1, 2, 3))
    one, other, crystal = case.ensemble.descriptors.of([case.molecule, turned, case.crystal])
    shapes = [one.shape[0], other.shape[0], crystal.shape[0]]
    case.demand(shapes == [4, 4, 4], f"rows {shapes} for 4 atoms each")
    case.demand(one.shape[1] == crystal.shape[1] > 0, "features differ in number")
    size = max(1.0, float(np.abs(one).max()))
    case.near(np.abs(one - other).max(), 0.0, size * ALLOWED[case.dtype], "they change by")


def all_electron(case: Case) -> None:
    """E0s of half a million eV."""
    constants, before = case.member.normalisation, []
    structures = [case.molecule, case.crystal]
    before = [float(case.predict(atoms).energies[0]) for atoms in structures]
    try:
        case.set_normalisation(replace(constants, atomic_energies=(LARGE_E0,) * len(case.elements)))
        after = [float(case.predict(atoms).energies[0]) for atoms in structures]
    finally:
        case.set_normalisation(constants)
    e0s = dict(zip(case.elements, constants.atomic_energies, strict=True))
    for atoms, small, large in zip(structures, before, after, strict=True):
        rest = small - sum(e0s[number] for number in atoms.numbers)
        found = large - LARGE_E0 * len(atoms)
        case.near(found, rest, 1e-6, f"{atoms.symbols}: relative to E0s of -535 keV")
