"""Structures of any file that ASE reads: what is wrong with a frame, and what labels add to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from label_parts import some_label, some_rejected

from fhi_al.labels.structure_file import read_structures, write_labelled


def water(**info: Any) -> Atoms:
    atoms = molecule("H2O")
    atoms.info |= info
    return atoms


def labelled(path: Path, records: list[Any], *, stress: bool = True) -> list[Atoms]:
    """What is written of a file's structures with these records, as ASE reads it."""
    output = path.with_name("labelled.xyz")
    write_labelled(output, read_structures(path), records, stress=stress)
    return ase.io.read(output, ":")  # type: ignore[return-value]


def record_of(atoms: Atoms, seed: int = 1) -> Any:
    return some_label(seed, n_atoms=len(atoms), pbc=bool(atoms.pbc.all()))


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.traj", "a.json", "plain"])
def test_any_file_that_ase_reads(tmp_path: Path, name: str) -> None:
    frames = [water(), molecule("NH3"), bulk("C")]
    kind = {"plain": "extxyz", "a.xyz": "extxyz"}.get(name)
    ase.io.write(tmp_path / name, frames, format=kind)
    found = read_structures(tmp_path / name)
    assert [each.number for each in found] == [1, 2, 3]
    for each, atoms in zip(found, frames, strict=True):
        assert each.problems == () and each.atoms is not None
        assert np.array_equal(each.atoms.numbers, atoms.numbers)
        np.testing.assert_allclose(each.atoms.positions, atoms.positions, atol=1e-8)


def test_what_a_frame_carries_is_kept(tmp_path: Path) -> None:
    atoms = water(note="two words", number=7, config_type="bulk", values=np.arange(3.0))
    atoms.arrays["site"] = np.array([4, 5, 6])
    atoms.set_initial_magnetic_moments([0.0, 0.5, 0.5])
    ase.io.write(tmp_path / "a.xyz", [atoms, atoms], format="extxyz")
    label = record_of(atoms)
    (found, failed) = labelled(tmp_path / "a.xyz", [label, some_rejected(2)])
    for each in (found, failed):
        assert each.info["note"] == "two words" and each.info["number"] == 7
        assert each.info["config_type"] == "bulk"
        assert each.info["values"].tolist() == [0.0, 1.0, 2.0]
        assert each.arrays["site"].tolist() == [4, 5, 6]
        assert each.get_initial_magnetic_moments().tolist() == [0.0, 0.5, 0.5]
    assert found.info["REF_energy"] == label.energy
    np.testing.assert_allclose(found.arrays["REF_forces"], label.forces, atol=1e-8)
    assert "REF_failure" not in found.info
    assert failed.info["REF_failure"] == "the SCF did not converge"


def test_the_results_of_another_method_are_carried_by_their_names(tmp_path: Path) -> None:
    atoms = water()
    forces = np.arange(9.0).reshape(3, 3)
    # Three numbers for three atoms, but of the whole molecule.
    results = {"energy": -3.0, "forces": forces, "dipole": np.array([0.0, 0.0, 1.0])}
    atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(tmp_path / "a.traj", atoms)
    (found,) = labelled(tmp_path / "a.traj", [record_of(atoms)])
    assert found.calc is not None
    assert found.calc.results["energy"] == -3.0
    assert found.calc.results["forces"].tolist() == forces.tolist()
    assert found.calc.results["dipole"].tolist() == [0.0, 0.0, 1.0]


def test_labels_of_another_method_do_not_stay(tmp_path: Path) -> None:
    """Least of all where there is no new label."""
    crystal = bulk("C")
    crystal.info |= {"REF_energy": -1.0, "REF_stress": np.eye(3), "REF_failure": "of before"}
    crystal.arrays["REF_forces"] = np.ones((2, 3))
    ase.io.write(tmp_path / "a.xyz", [crystal, crystal], format="extxyz")
    label = record_of(crystal)
    records = [label, some_rejected(1, reason="line\nbreak")]
    found, failed = labelled(tmp_path / "a.xyz", records, stress=False)
    assert found.info["REF_energy"] == label.energy
    assert found.arrays["REF_forces"][0, 0] == pytest.approx(label.forces[0, 0], abs=1e-8)
    assert not {"REF_stress", "REF_failure"} & set(found.info)
    assert failed.info["REF_failure"] == "line break"
    assert not {"REF_energy", "REF_stress"} & set(failed.info)
    assert "REF_forces" not in failed.arrays


def test_the_stress_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    crystal = bulk("C")
    ase.io.write(tmp_path / "a.xyz", crystal, format="extxyz")
    label = record_of(crystal)
    (found,) = labelled(tmp_path / "a.xyz", [label])
    np.testing.assert_allclose(found.info["REF_stress"], label.stress, atol=1e-8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no structures"),
        ("0\n\n", "'0': expected the number of atoms"),
        ("2\n\nH 0 0 0\n", "ends after 1 of 2 atoms"),
        ("1\n\nH 0 0 nan\n", "a position is not finite"),
        ("1\n\nX 0 0 0\n", "atom 1 is no element"),
        ('1\nLattice="3 0 0 0 3 0 0 0 3" pbc="T T F"\nH 0 0 0\n', "some directions only"),
        ('1\nLattice="3 0 0 0 3 0 0 0 0" pbc="T T T"\nH 0 0 0\n', "span no volume"),
        ("1\nProperties=species:S:1:pos:R:3:initial_magmoms:R:3\nH 0 0 0 0 0 1\n", "magmoms"),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("1\n\nH 0 0 0\n" + text if text else "")
    if not text:
        with pytest.raises(ValueError, match=message):
            read_structures(path)
        return
    first, second = read_structures(path)
    assert first.problems == () and second.number == 2
    assert any(message in problem for problem in second.problems), second.problems


def test_a_frame_without_atoms_is_named(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.traj", [water(), Atoms()])
    second = read_structures(tmp_path / "a.traj")[1]
    assert second.number == 2 and "has no atoms" in second.problems[0]


@pytest.mark.parametrize(
    ("name", "text"), [("a.xyz", b"\xff\xfe"), ("a.dat", b"hello"), ("a", b"")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ValueError, match=str(tmp_path / name)):
        read_structures(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        read_structures(tmp_path / "b.xyz")
    with pytest.raises(ValueError, match="is a folder"):
        read_structures(tmp_path)
