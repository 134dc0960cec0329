"""Labels as extended xyz: what ASE reads, what we read again, and what is wrong with a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from label_parts import bits, some_label

from fhi_al.core.label import Origin
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.labels.store import LabelStore
from fhi_al.labels.xyz import write_records

XYZ_DIGITS = 6e-9  # extended xyz holds eight decimals


def close(one: Any, other: Any) -> bool:
    return bool(np.abs(np.asarray(one) - np.asarray(other)).max() < XYZ_DIGITS)


@pytest.mark.parametrize("pbc", [False, True])
def test_ase_reads_what_was_written(tmp_path: Path, pbc: bool) -> None:
    labels = [some_label(seed, pbc=pbc) for seed in (1, 2)]
    write_records(tmp_path / "sets" / "training.xyz", labels)
    frames = ase.io.read(tmp_path / "sets" / "training.xyz", ":")
    assert len(frames) == 2
    for atoms, label in zip(frames, labels, strict=True):
        assert np.array_equal(atoms.numbers, label.numbers)
        assert close(atoms.positions, label.positions)
        assert atoms.pbc.all() if pbc else not atoms.pbc.any()
        assert close(atoms.cell, label.cell)
        assert atoms.info["REF_energy"] == label.energy
        assert close(atoms.arrays["REF_forces"], label.forces)
        if pbc:
            assert close(atoms.info["REF_stress"], label.stress)
        # No calculator: plain energy and forces would be taken away from MACE.
        assert atoms.calc is None
        assert atoms.info["config_type"] == "active_learning"
        assert atoms.info["trajectory"] == label.origin.trajectory
        assert atoms.info["md_step"] == label.origin.step


@pytest.mark.parametrize(
    ("phase", "config_type"),
    [("initial", "initial"), ("active_learning", "active_learning"), ("sanity", "active_learning")],
)
def test_the_config_type_is_the_phase(tmp_path: Path, phase: Any, config_type: str) -> None:
    write_records(tmp_path / "a.xyz", [some_label(1, origin=Origin(phase, 0, 5))])
    atoms: Any = ase.io.read(tmp_path / "a.xyz")
    assert atoms.info["config_type"] == config_type


@pytest.mark.parametrize("name", ["bulk", "two words", "T", "12", None])
def test_the_config_type_of_a_file_is_kept(tmp_path: Path, name: str | None) -> None:
    """From the file into the label, the store and what is written again."""
    atoms = ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])
    atoms.info |= {"REF_energy": -31.0} | ({} if name is None else {"config_type": name})
    atoms.arrays["REF_forces"] = np.zeros((2, 3))
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    expected = {"T": "True", None: "Default"}.get(name, name)  # as ASE reads it
    for _ in range(2):
        (label,) = read_labels(tmp_path / "a.xyz")
        assert label.config_type == expected
        (tmp_path / "labels.jsonl").unlink(missing_ok=True)
        LabelStore(tmp_path / "labels.jsonl").append(label)
        (stored,) = LabelStore(tmp_path / "labels.jsonl")
        assert bits(stored) == bits(label)
        write_records(tmp_path / "a.xyz", [stored])


@pytest.mark.parametrize("n_atoms", [1, 2, 9])
@pytest.mark.parametrize("pbc", [False, True])
def test_labels_are_read_again(tmp_path: Path, pbc: bool, n_atoms: int) -> None:
    written = [some_label(seed, n_atoms=n_atoms, pbc=pbc) for seed in (1, 2, 3)]
    write_records(tmp_path / "a.xyz", written)
    for number, (label, found) in enumerate(
        zip(written, read_labels(tmp_path / "a.xyz"), strict=True), start=1
    ):
        assert found.energy == label.energy
        assert found.forces.shape == (n_atoms, 3)
        for name in ("positions", "forces", "cell"):
            assert close(getattr(found, name), getattr(label, name))
        assert np.array_equal(found.numbers, label.numbers)
        assert found.pbc is pbc
        assert (found.stress is None) is (not pbc)
        if pbc:
            assert close(found.stress, label.stress)
        assert found.origin == Origin("imported", 0, number)


def test_a_stress_that_is_not_symmetric_keeps_its_rows(tmp_path: Path) -> None:
    stress = np.arange(9.0).reshape(3, 3)
    write_records(tmp_path / "a.xyz", [some_label(1, pbc=True, stress=stress)])
    (found,) = read_labels(tmp_path / "a.xyz")
    assert np.array_equal(np.asarray(found.stress), stress)


def test_a_stress_of_six_components_is_read(tmp_path: Path) -> None:
    """As ASE's own tools write it: xx, yy, zz, yz, xz, xy."""
    atoms = ase.Atoms("H", cell=np.eye(3), pbc=True)
    atoms.info["REF_energy"] = -1.0
    atoms.arrays["REF_forces"] = np.zeros((1, 3))
    atoms.info["REF_stress"] = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    (found,) = read_labels(tmp_path / "a.xyz")
    assert np.array_equal(np.asarray(found.stress), [[1, 6, 5], [6, 2, 4], [5, 4, 3]])


def test_reading_again_gives_the_same_keys(tmp_path: Path) -> None:
    """So that a set that is imported twice is the same points."""
    write_records(tmp_path / "a.xyz", [some_label(1), some_label(2)])
    keys = [[label.key for label in read_labels(tmp_path / "a.xyz")] for _ in range(2)]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2


@pytest.mark.parametrize("missing", ["REF_energy", "REF_forces"])
def test_a_structure_without_reference_values_is_named(tmp_path: Path, missing: str) -> None:
    atoms = ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])
    atoms.info["REF_energy"] = -31.0
    atoms.arrays["REF_forces"] = np.zeros((2, 3))
    good = atoms.copy()
    atoms.info.pop(missing, None)
    atoms.arrays.pop(missing, None)
    ase.io.write(tmp_path / "a.xyz", [good, atoms], format="extxyz")
    with pytest.raises(ValueError, match=rf"a\.xyz: frame 2: has no {missing}"):
        read_labels(tmp_path / "a.xyz")
