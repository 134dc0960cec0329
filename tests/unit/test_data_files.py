"""Labels of any files as first points: how they are read, checked and shared out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from imported_parts import POSITIONS, water, write_frames

from fhi_al.active_learning.data_files import DataSource, Sets, fingerprint, read_data_files
from fhi_al.active_learning.imported_frames import Expected
from fhi_al.active_learning.imported_units import work_ratio
from fhi_al.active_learning.initial_data import InitialData
from fhi_al.active_learning.matching import ExpectedSystem
from fhi_al.core.errors import InputError
from fhi_al.core.structure import geometry_key, structure
from fhi_al.labels.labelled_frames import LabelNames, read_frames

SPRING = 30.0  # eV/A^2
BONDS = [(0, 1), (0, 2), (1, 2)]
LENGTHS = [float(np.linalg.norm(POSITIONS[i] - POSITIONS[j])) for i, j in BONDS]
OFFSET = -130.0  # eV


def springs(positions: Any) -> tuple[float, Any]:
    """Energy in eV and forces in eV/A of three springs between the atoms of water."""
    energy, forces = OFFSET, np.zeros((3, 3))
    for (i, j), length in zip(BONDS, LENGTHS, strict=True):
        bond = positions[i] - positions[j]
        distance = np.linalg.norm(bond)
        energy += 0.5 * SPRING * (distance - length) ** 2
        force = -SPRING * (distance - length) * bond / distance
        forces[i] += force
        forces[j] -= force
    return float(energy), forces


def molecule(seed: int, energy_unit: float = 1.0, force_unit: float = 1.0) -> Atoms:
    """A water molecule with springs, its labels as the results of a calculator, in any unit."""
    moved = POSITIONS + np.random.default_rng(seed).normal(0.0, 0.05, (3, 3))
    atoms = Atoms("OHH", moved)
    energy, forces = springs(moved)
    atoms.calc = SinglePointCalculator(
        atoms, energy=energy / energy_unit, forces=forces / force_unit
    )
    return atoms


def source(path: Path, **changes: Any) -> DataSource:
    return replace(
        DataSource(path, path.name, LabelNames(given_in="its entry"), 0.1, 0.0), **changes
    )


def read(*sources: DataSource, expected: Expected | None = None, members: int = 2) -> InitialData:
    return read_data_files(sources, expected or water(), members, shared=True)


def problems_of(*sources: DataSource, expected: Expected | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(*sources, expected=expected)
    return caught.value.problems


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz", "a.traj", "a.json"])
def test_any_file_that_ase_reads_has_labels(tmp_path: Path, name: str) -> None:
    ase.io.write(tmp_path / name, [molecule(k) for k in range(3)])
    frames = read_frames(tmp_path / name, file=4)
    assert [frame.problems for frame in frames] == [()] * 3
    for seed, frame in enumerate(frames):
        assert frame.label is not None
        energy, forces = springs(molecule(seed).positions)
        assert frame.label.energy == pytest.approx(energy, abs=1e-6)  # eV; decimals of xyz
        assert np.abs(frame.label.forces - forces).max() < 1e-6  # eV/A
        assert (frame.label.origin.phase, frame.label.origin.trajectory) == ("imported", 4)
        assert frame.label.origin.step == seed + 1


def test_names_of_the_users_own_are_read(tmp_path: Path) -> None:
    atoms = molecule(1)
    energy, forces = springs(atoms.positions)
    atoms.info |= {"dft_energy": energy - 7.0, "dft_virial_stress": [0.0] * 6}
    atoms.arrays["dft_forces"] = 2.0 * forces
    path = write_frames(tmp_path / "a.xyz", [atoms])
    (frame,) = read_frames(path, LabelNames("dft_energy", "dft_forces"))
    assert frame.label is not None
    assert frame.label.energy == pytest.approx(energy - 7.0, abs=1e-6)
    assert np.abs(frame.label.forces - 2.0 * forces).max() < 1e-6
    (frame,) = read_frames(path, LabelNames("dft_energy", "pbe_forces", given_in="its entry"))
    assert frame.problems == (
        "has no pbe_forces: expected the reference's values under that name. It has dft_forces, "
        "forces: if that is the reference's, rename it to pbe_forces, or give forces: dft_forces "
        "in its entry",
    )


def test_what_mace_calls_the_reference_comes_before_plain_names(tmp_path: Path) -> None:
    """Plain ones beside them may be a model's own."""
    atoms = molecule(1)
    atoms.info["REF_energy"] = -150.0
    atoms.arrays["REF_forces"] = np.ones((3, 3))
    (frame,) = read_frames(write_frames(tmp_path / "a.xyz", [atoms]))
    assert frame.label is not None
    assert frame.label.energy == -150.0
    first, second = read_frames(write_frames(tmp_path / "a.xyz", [atoms, molecule(2)]))
    assert first.label is not None and second.label is None
    assert second.problems[0].startswith("has no REF_energy: ")


def test_of_a_smearing_the_energy_is_read_that_forces_belong_to(tmp_path: Path) -> None:
    frames = [molecule(1), molecule(2)]
    for atoms in frames:
        atoms.calc.results["free_energy"] = atoms.calc.results["energy"] - 0.5
    ase.io.write(tmp_path / "a.traj", frames)
    for frame, atoms in zip(read_frames(tmp_path / "a.traj"), frames, strict=True):
        assert frame.label is not None
        assert frame.label.energy == atoms.calc.results["free_energy"]


@pytest.mark.parametrize("shared", [True, False])
def test_points_are_shared_out_as_sampled_ones_are(shared: bool) -> None:
    sets = Sets(2, shared=shared)
    numbers: Any = range(20)
    sets.share_out(numbers[:7], 0.25, 0.2)
    sets.share_out(numbers[7:], 0.25, 0.2)
    assert sets.test == [4, 9, 14, 19]
    if shared:  # a fold of four for each, which the other trains on
        assert sets.validation == [[0, 5, 10, 15], [1, 6, 11, 16]]
        left = set(numbers) - {4, 9, 14, 19}
        for training, validation in zip(sets.training, sets.validation, strict=True):
            assert set(training) == left - set(validation)
    else:
        assert sets.validation == [[2, 12], [3, 13]]
        assert sets.training == [[0, 5, 7, 10, 15, 17], [1, 6, 8, 11, 16, 18]]


@pytest.mark.parametrize("shared", [True, False])
def test_files_may_be_for_training_validation_or_the_test_alone(shared: bool) -> None:
    sets = Sets(2, shared=shared)
    training: Any = ["a", "b", "c", "d"]
    validation: Any = ["e", "f"]
    test: Any = ["g", "h"]
    sets.share_out(training, 0.0, 0.0)
    sets.share_out(validation, 1.0, 0.0)
    sets.share_out(test, 0.1, 1.0)
    assert sets.test == test
    if shared:
        assert sets.training == [training, training]
        assert sets.validation == [validation, validation]
    else:
        assert sets.training == [["a", "c"], ["b", "d"]]
        assert sets.validation == [["e"], ["f"]]


def test_what_is_read_is_known_by_its_content(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.xyz", [molecule(k) for k in range(5)])
    data = read(source(path, name="old/a.xyz"))
    (file,) = data.files
    assert (file.name, file.sha256, file.n_labels) == ("old/a.xyz", fingerprint(path), 5)
    assert data.is_enough and data.n_labels == 5
    assert data.described()[0].endswith(
        "a.xyz: 5 labels; 4 + 1, 4 + 1 points of the members (training + validation), 0 of the "
        "test set"
    )
    assert not read(source(path, valid_ratio=0.0)).is_enough


def test_a_structure_that_comes_again_counts_once(tmp_path: Path) -> None:
    frames = [molecule(k) for k in range(5)]
    one = write_frames(tmp_path / "a.xyz", frames)
    again = frames[3].copy()
    again.positions += 1e-5  # A: a file with fewer decimals
    again.calc = frames[3].calc
    other = write_frames(tmp_path / "b.xyz", [molecule(7), again, frames[0], molecule(8)])
    data = read(source(one), source(other))
    assert [file.n_labels for file in data.files] == [5, 2]
    assert data.n_labels == 7
    assert data.notes == (
        f"{other}: frames 2-3: the structure and energy of an earlier frame: it counts once.",
    )
    wrong = molecule(0)
    wrong.calc = SinglePointCalculator(wrong, energy=OFFSET - 1.0, forces=np.zeros((3, 3)))
    other = write_frames(tmp_path / "b.xyz", [wrong])
    (problem,) = problems_of(source(one), source(other))
    assert f"{other}: frame 1: has another energy" in problem


def test_what_could_not_be_computed_is_left_out(tmp_path: Path) -> None:
    """As FHI_AL-label writes it."""
    failed = Atoms("OHH", POSITIONS, info={"REF_failure": "the SCF did not converge"})
    path = write_frames(tmp_path / "a.xyz", [molecule(1), failed, molecule(2)])
    data = read(source(path, valid_ratio=0.0))
    assert [label.origin.step for label in data.training[0]] == [1, 3]
    assert data.notes == (f"{path}: frame 2: could not be computed (REF_failure): left out.",)


def test_atoms_in_another_order_are_sorted_with_their_forces(tmp_path: Path) -> None:
    atoms = molecule(1)[[1, 0, 2]]
    energy, forces = springs(molecule(1).positions)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces[[1, 0, 2]])
    path = tmp_path / "a.traj"
    ase.io.write(path, [molecule(0), atoms])
    data = read(source(path, valid_ratio=0.0))
    label = data.training[0][1]
    assert label.numbers.tolist() == [8, 1, 1]
    assert np.array_equal(label.positions, molecule(1).positions)
    assert np.array_equal(label.forces, forces)
    assert label.key == geometry_key(0, label.positions, label.cell)
    assert data.notes == (
        f"{path}: frame 2: its atoms are in another order than the system's, and are sorted.",
    )


def several() -> Expected:
    """Water, and two systems of the same atoms in another order."""
    one = water()
    cyanides = [structure(numbers, [[0, 0, 0], [0, 0, 1.1], [0, 0, 2.2]]) for numbers in ORDERS]
    names = ("HCN", "HNC")
    others = [ExpectedSystem(name, each) for name, each in zip(names, cyanides, strict=True)]
    return replace(one, systems=[*one.systems, *others])


ORDERS = ([1, 6, 7], [1, 7, 6])


def linear(symbols: str, seed: int) -> Atoms:
    moved = [[0.0, 0.0, z] for z in (0.0, 1.1 + 0.01 * seed, 2.2)]
    atoms = Atoms(symbols, moved)
    atoms.calc = SinglePointCalculator(atoms, energy=-100.0 - seed, forces=np.zeros((3, 3)))
    return atoms


def test_a_frame_is_of_the_system_that_has_its_atoms(tmp_path: Path) -> None:
    frames = [molecule(1), linear("HNC", 1), linear("HCN", 2)]
    path = write_frames(tmp_path / "a.xyz", frames)
    data = read(source(path, valid_ratio=0.0), expected=several())
    assert [label.system for label in data.training[0]] == [0, 2, 1]
    assert len({label.key for label in data.training[0]}) == 3
    assert data.training[0][1].key == geometry_key(2, frames[1].positions, np.zeros((3, 3)))


def test_a_frame_of_no_system_or_of_several_is_refused(tmp_path: Path) -> None:
    frames = [molecule(1), linear("CHN", 1), linear("HCO", 2)]
    path = write_frames(tmp_path / "a.xyz", frames)
    both, none = problems_of(source(path), expected=several())
    assert f"{path}: frame 2: could be of several systems (HCN and HNC): " in both
    assert (
        f"{path}: frame 3: has the atoms HCO, which no system has (geometry.in: H2O, HCN: HCN, "
        "HNC: HCN): expected those of one. Remove the frame, or add a system." == none
    )
    path = write_frames(tmp_path / "b.xyz", frames[1:2])
    data = read(source(path, valid_ratio=0.0, system=2), expected=several())
    assert data.training[0][0].numbers.tolist() == [1, 7, 6]


def test_labels_in_the_right_units_are_believed(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.xyz", [molecule(k) for k in range(12)])
    for e0_sum in (None, -125.0):
        data = read(source(path, valid_ratio=0.0), expected=water(e0_sum))
        assert work_ratio(data.training[0]) == pytest.approx(1.0, abs=0.1)
    # Whatever they are counted from, if nobody knows E0s.
    shifted = [molecule(k) for k in range(12)]
    for atoms in shifted:
        atoms.calc.results["energy"] += 125.0
    path = write_frames(tmp_path / "b.xyz", shifted)
    assert read(source(path)).n_labels == 12
    assert all(
        "or one that is counted from isolated atoms or pseudopotentials (add the sum" in problem
        for problem in problems_of(source(path), expected=water(-125.0))
    )


def test_energies_that_are_off_by_the_e0s_are_told(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.xyz", [molecule(k) for k in range(5)])
    (problem,) = problems_of(source(path), expected=water(OFFSET + 3 * 20.0))
    assert problem == (
        f"{path}: frames 1-5: the energy is, as most are, more than 15 eV per atom from the E0s "
        "(-70.000 eV), no binding energy is as large: expected E0s and energies of one method. "
        "Give E0s that fit, or none."
    )


def uphill(frames: Sequence[Atoms]) -> Sequence[Atoms]:
    for atoms in frames:
        atoms.calc.results["forces"] *= -1
    return frames


def in_bohr(frames: Sequence[Atoms]) -> Sequence[Atoms]:
    for atoms in frames:
        atoms.positions /= 0.529177
    return frames


UNITS: dict[str, tuple[Sequence[Atoms], float | None, str]] = {
    "forces in Hartree/Bohr": (
        [molecule(k, 1.0, 51.422) for k in range(12)],
        None,
        "It looks like forces in Hartree/Bohr",
    ),
    "energies in Hartree": (
        [molecule(k, 27.2114) for k in range(12)],
        None,
        "It looks like energies in Hartree or forces in kcal/mol/A",
    ),
    "energies in kcal/mol": (
        [molecule(k, 0.0433641) for k in range(12)],
        -125.0,
        "the energy looks like kcal/mol (multiply it by 0.0433641): expected the total energy in "
        "eV",
    ),
    "gradients": (uphill([molecule(k) for k in range(12)]), None, "the forces point uphill"),
    "lengths in Bohr": (
        in_bohr([molecule(k) for k in range(12)]),
        None,
        "as in Bohr: expected A. Multiply positions by 0.529177",
    ),
}


@pytest.mark.parametrize("name", UNITS)
def test_wrong_units_are_told(tmp_path: Path, name: str) -> None:
    frames, e0_sum, message = UNITS[name]
    path = write_frames(tmp_path / "a.xyz", frames)
    problems = problems_of(source(path), expected=water(e0_sum))
    (problem,) = [each for each in problems if message in each]
    assert problem.startswith(f"{path}: frames 1-12: ")
