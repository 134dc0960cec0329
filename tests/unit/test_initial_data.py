"""Data of a user's own: what is wrong with it, and how it comes into the store."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from imported_parts import ENERGY, diamond, frame, water, write_frames, write_initial
from label_parts import bits, some_label, some_rejected

from fhi_al.active_learning.import_initial import store_imported
from fhi_al.active_learning.imported_frames import Expected
from fhi_al.active_learning.initial_data import InitialFiles, read_initial_data
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label
from fhi_al.labels.store import LabelStore


@pytest.fixture
def files(tmp_path: Path) -> InitialFiles:
    return write_initial(tmp_path)


def problems_of(files: InitialFiles, expected: Expected | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_initial_data(files, expected or water())
    return caught.value.problems


def test_every_member_gets_its_own_sets(files: InitialFiles) -> None:
    data = read_initial_data(files, water())
    assert [len(labels) for labels in data.training] == [3, 3]
    assert [len(labels) for labels in data.validation] == [1, 1]
    assert data.test == []
    assert data.training[1][2].energy == pytest.approx(ENERGY + 0.12, abs=1e-9)
    write_frames(files.test, [frame(20), frame(21)])
    assert len(read_initial_data(files, water()).test) == 2


def test_all_problems_of_all_files_are_named_at_once(files: InitialFiles) -> None:
    write_frames(files.training[0], [frame(0), frame(1)[[0, 1]], frame(2)])
    lacking = frame(5)
    del lacking.arrays["REF_forces"]
    write_frames(files.validation[1], [lacking])
    one, other = problems_of(files)
    assert one.startswith(f"{files.training[0]}: frame 2: has 2 atoms, geometry.in has 3")
    assert other.startswith(f"{files.validation[1]}: frame 1: has no REF_forces")


def test_frames_with_the_same_problem_are_named_together(files: InitialFiles) -> None:
    frames = [frame(k) for k in range(20)]
    for each in (*frames[:3], *frames[5:9]):
        del each.info["REF_energy"]
    write_frames(files.training[0], frames)
    (problem,) = problems_of(files)
    assert problem.startswith(f"{files.training[0]}: frames 1-3,6-9: has no REF_energy")


def test_a_structure_has_one_label_in_all_files(files: InitialFiles) -> None:
    write_frames(files.training[1], [frame(0), frame(1), frame(7)])  # two of member 1's, too
    data = read_initial_data(files, water())
    assert data.training[0][1].key == data.training[1][1].key
    write_frames(files.training[1], [frame(0), frame(1, REF_energy=ENERGY - 1.0), frame(7)])
    (problem,) = problems_of(files)
    assert problem.startswith(
        f"{files.training[1]}: frame 2: has another energy, forces, stress or config_type than the "
        f"same structure in {files.training[0]}: frame 2: "
    )


def test_nothing_is_stored_that_is_there_already(files: InitialFiles, tmp_path: Path) -> None:
    data = read_initial_data(files, water())
    for _ in range(2):
        store = LabelStore(tmp_path / "labels.jsonl")
        store_imported(store, data)
        assert (len(store), store.n_computed) == (8, 0)
        store.close()
    assert len((tmp_path / "labels.jsonl").read_bytes().splitlines()) == 8


def test_an_import_that_was_interrupted_is_completed(files: InitialFiles, tmp_path: Path) -> None:
    data = read_initial_data(files, water())
    whole = LabelStore(tmp_path / "whole.jsonl")
    store_imported(whole, data)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for n_done in range(9):
        path = tmp_path / f"{n_done}.jsonl"
        path.write_bytes(b"".join(lines[:n_done]))
        store = LabelStore(path)
        store_imported(store, data)
        store.close()
        assert path.read_bytes() == b"".join(lines)


def test_a_mended_file_takes_the_place_of_what_was_stored(
    files: InitialFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What an import stored that was stopped by a wrong file, as the first program did."""
    computed, refused = some_label(1), some_rejected(2)
    path = tmp_path / "labels.jsonl"
    before = LabelStore(path)
    before.append(computed)
    before.append(refused)
    write_frames(
        files.training[0],
        [frame(0, REF_energy=ENERGY - 1.0), frame(1), frame(3)],
    )
    store_imported(before, read_initial_data(files, water()))
    before.close()
    write_frames(files.training[0], [frame(0), frame(1), frame(2)])
    data = read_initial_data(files, water())
    store = LabelStore(path)
    with caplog.at_level(logging.WARNING, "fhi_al"):
        store_imported(store, data)
    assert "1 labels of an earlier import are not in the files any more" in caplog.text
    assert "1 labels differed from those in the imported files" in caplog.text
    wanted = {label.key: bits(label) for label in data.labels()}
    wanted |= {record.key: bits(record) for record in (computed, refused)}
    for kept in (store, LabelStore(path)):
        assert {record.key: bits(record) for record in kept} == wanted


def test_a_rejection_gives_way_to_the_label_of_a_file(files: InitialFiles, tmp_path: Path) -> None:
    data = read_initial_data(files, water())
    label = data.training[0][0]
    store = LabelStore(tmp_path / "labels.jsonl")
    rejected = {name: getattr(label, name) for name in vars(some_rejected(1)) if name != "reason"}
    store.append(type(some_rejected(1))(**rejected, reason="the SCF did not converge"))
    store_imported(store, data)
    assert isinstance(store.get(label.key), Label)
    assert np.isfinite(store.label(label.key).energy)


def with_forces(forces: object) -> Atoms:
    atoms = frame(1)
    del atoms.arrays["REF_forces"]
    atoms.new_array("REF_forces", np.asarray(forces))
    return atoms


def with_calculator() -> Atoms:
    """As ase.io.write leaves the results of any calculator."""
    atoms = frame(1)
    energy, forces = atoms.info.pop("REF_energy"), atoms.arrays.pop("REF_forces")
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def moved(positions: object) -> Atoms:
    atoms = frame(1)
    atoms.positions = positions
    return atoms


def in_a_cell(cell: object, pbc: object) -> Atoms:
    atoms = frame(1)
    atoms.set_cell(cell)
    atoms.pbc = pbc
    return atoms


NAN = np.full((3, 3), np.nan)
WRONG: dict[str, tuple[Atoms, str]] = {
    "NaN energy": (frame(1, REF_energy=np.nan), "REF_energy is not finite"),
    "infinite energy": (frame(1, REF_energy=np.inf), "REF_energy is not finite"),
    "text as energy": (frame(1, REF_energy="high"), "REF_energy = high is no number"),
    "two energies": (frame(1, REF_energy=[1.0, 2.0]), "REF_energy has the shape (2,)"),
    "plain names": (with_calculator(), "It has energy: if that is the reference's, rename it"),
    "NaN forces": (with_forces(NAN), "REF_forces is not finite"),
    "one column": (with_forces(np.zeros(3)), "REF_forces has the shape (3,), expected (3, 3)"),
    "two columns": (with_forces(np.zeros((3, 2))), "REF_forces has the shape (3, 2)"),
    "huge forces": (with_forces(np.full((3, 3), 400.0)), "more than max_force = 300 eV/A"),
    "NaN position": (moved(NAN), "a position is not finite"),
    "overlap": (moved(0.1 * frame(1).positions), "atoms 1 and 2 overlap"),
    "apart": (moved(40.0 * frame(1).positions), "has flown apart"),
    "other element": (Atoms("OHF", frame(1).positions, info=frame(1).info), "REF_forces"),
    "stress": (frame(1, REF_stress=[1.0, 2.0]), "REF_stress has the shape (2,)"),
    "NaN stress": (frame(1, REF_stress=[np.nan] * 6), "REF_stress is not finite"),
    "surface": (in_a_cell(np.eye(3) * 9.0, [True, True, False]), 'pbc="T T F"'),
    "flat": (in_a_cell([9.0, 9.0, 0.0], [True, True, False]), "span no volume"),
    "flat crystal": (in_a_cell([9.0, 9.0, 0.0], True), "span no volume"),
    "crystal": (in_a_cell([9.0, 9.0, 9.0], True), "is a crystal (with a cell), geometry.in is a"),
    "fewer atoms": (frame(1)[[0, 1]], "has 2 atoms, geometry.in has 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_is_named(files: InitialFiles, name: str) -> None:
    atoms, expected = WRONG[name]
    write_frames(files.training[0], [frame(0), atoms, frame(2)])
    (*_, problem) = [line for line in problems_of(files) if expected in line]
    assert problem.startswith(f"{files.training[0]}: frame 2: ")


def test_a_molecule_is_no_data_for_a_crystal(files: InitialFiles) -> None:
    expected = diamond()
    for path in (*files.training, *files.validation):
        atoms = Atoms("C2", expected.systems[0].structure.positions, info={"REF_energy": -80.0})
        atoms.new_array("REF_forces", np.zeros((2, 3)))
        write_frames(path, [atoms])
    problems = [p for p in problems_of(files, expected) if "is a molecule" in p]
    assert len(problems) == 4
    assert "frame 1: is a molecule, geometry.in is a crystal" in problems[0]


@pytest.mark.parametrize(("scale", "fits"), [(1.0, True), (1.05, True), (1.889726, False)])
def test_a_crystal_in_bohr_is_told_from_a_strained_one(
    files: InitialFiles, scale: float, fits: bool
) -> None:
    expected = diamond()
    system = expected.systems[0].structure
    for number, path in enumerate((*files.training, *files.validation)):
        strained = scale + 0.001 * number
        atoms = Atoms("C2", strained * system.positions, cell=strained * system.cell, pbc=True)
        atoms.info["REF_energy"] = -80.0
        atoms.new_array("REF_forces", np.zeros((2, 3)))
        write_frames(path, [atoms])
    if fits:
        assert read_initial_data(files, expected).training[0][0].pbc
    else:
        assert all(
            "times the volume of that in geometry.in" in p for p in problems_of(files, expected)
        )


@pytest.mark.parametrize("e0_sum", [None, -127.4])
def test_an_energy_in_hartree_is_found(files: InitialFiles, e0_sum: float | None) -> None:
    """By the other labels where there are no E0s; -127.4 eV is what GFN2-xTB's atoms have."""
    frames = [frame(0), frame(1, REF_energy=ENERGY / 27.211386), frame(2)]
    write_frames(files.training[0], frames)
    (problem,) = problems_of(files, water(e0_sum))
    assert problem.startswith(f"{files.training[0]}: frame 2: the energy looks like Hartree")


def test_all_energies_in_hartree_are_found_by_the_e0s(files: InitialFiles) -> None:
    seeds = iter(range(100))
    for path in (*files.training, *files.validation):
        write_frames(path, [frame(next(seeds), REF_energy=ENERGY / 27.211386)])
    assert len(problems_of(files, water(-127.4))) == 4


def test_an_energy_of_another_method_is_found(files: InitialFiles) -> None:
    write_frames(files.training[0], [frame(0), frame(1, REF_energy=-2080.0), frame(2)])
    (problem,) = problems_of(files)
    assert "frame 2: the energy is more than max_energy_per_atom = 50 eV per atom from" in problem


def test_an_empty_set_is_refused(files: InitialFiles) -> None:
    files.validation[0].write_text("")
    files.training[1].write_text("\n\n")
    problems = problems_of(files)
    assert [p.partition(": ")[0] for p in problems] == [
        str(files.training[1]),
        str(files.validation[0]),
    ]
    assert all("no structures: expected at least one" in problem for problem in problems)


def test_validation_on_what_was_trained_on_is_refused(files: InitialFiles) -> None:
    files.validation[0].write_bytes(files.training[0].read_bytes())
    (problem,) = problems_of(files)
    assert problem.startswith(f"{files.validation[0]}: all its structures are in ")


def test_a_file_that_was_cut_off_is_found(files: InitialFiles) -> None:
    text = files.training[0].read_text()
    lines = text.splitlines(keepends=True)
    assert len(lines) == 15
    files.training[0].write_text("".join(lines[:13]))
    (problem,) = problems_of(files)
    assert problem.startswith(f"{files.training[0]}: frame 3: ends after 1 of 3 atoms (line 11)")
    files.training[0].write_text("".join(lines[:3] + lines[4:]))  # a line lost in the middle
    problems = problems_of(files)
    assert any("frame 1: ASE cannot read it" in problem for problem in problems)


def test_frames_behind_a_blank_line_are_read(files: InitialFiles) -> None:
    """ASE's own reader ends there without a word."""
    lines = files.training[0].read_text().splitlines(keepends=True)
    files.training[0].write_text("".join([*lines[:5], "\n", *lines[5:], "\n"]))
    assert len(read_initial_data(files, water()).training[0]) == 3


def test_what_is_no_text_is_refused(files: InitialFiles) -> None:
    files.training[0].write_bytes(b"\xff\xfe\x00binary")
    (problem,) = problems_of(files)
    assert problem.startswith(f"{files.training[0]}: this is no text")


def test_imported_labels_without_a_stress_are_told_where_the_run_asks_for_it(
    files: InitialFiles,
) -> None:
    cell = 1.785 * (np.ones((3, 3)) - np.eye(3))

    def crystal(seed: int, stress: object = None) -> Atoms:
        generator = np.random.default_rng(seed)
        points = np.array([[0.0, 0.0, 0.0], [0.8925, 0.8925, 0.8925]])
        atoms = Atoms("CC", points + generator.normal(0.0, 0.02, (2, 3)), cell=cell, pbc=True)
        atoms.info["REF_energy"] = -100.0
        atoms.arrays["REF_forces"] = generator.normal(0.0, 0.5, (2, 3))
        if stress is not None:
            atoms.info["REF_stress"] = stress
        return atoms

    six = [-0.1, -0.2, -0.3, 0.01, 0.02, 0.03]  # xx, yy, zz, yz, xz, xy
    for index, (training, validation) in enumerate(
        zip(files.training, files.validation, strict=True)
    ):
        write_frames(training, [crystal(10 * index), crystal(10 * index + 1, six)])
        write_frames(validation, [crystal(10 * index + 2, six)])
    assert read_initial_data(files, diamond()).notes == ()
    data = read_initial_data(files, replace(diamond(), stress=True))
    (lacking,) = data.notes
    assert lacking.startswith("2 of 6 labels have no stress (imported frame 1, imported frame")
    assert lacking in data.described()
    stress = data.training[0][1].stress
    assert stress is not None
    assert stress.tolist() == [[-0.1, 0.03, 0.02], [0.03, -0.2, 0.01], [0.02, 0.01, -0.3]]


def test_an_imported_stress_beyond_max_stress_is_refused(files: InitialFiles) -> None:
    limits = replace(diamond().labels, max_stress=1.0)
    cell = 1.785 * (np.ones((3, 3)) - np.eye(3))
    for path in (*files.training, *files.validation):
        atoms = Atoms("CC", [[0, 0, 0], [0.89, 0.9, 0.89]], cell=cell, pbc=True)
        atoms.info |= {"REF_energy": -100.0, "REF_stress": 2.0 * np.eye(3)}
        atoms.arrays["REF_forces"] = np.zeros((2, 3))
        write_frames(path, [atoms])
    with pytest.raises(InputError, match="more than max_stress = 1 eV/A"):
        read_initial_data(files, replace(diamond(), labels=limits))
