"""Data of a user's own: what is wrong with it, and how it comes into the store."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from imported_parts import ENERGY, frame, water, write_frames, write_initial
from label_parts import bits, some_label, some_rejected

from fhi_al.active_learning.import_initial import store_imported
from fhi_al.active_learning.initial_data import InitialFiles, read_initial_data
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label
from fhi_al.labels.store import LabelStore


@pytest.fixture
def files(tmp_path: Path) -> InitialFiles:
    return write_initial(tmp_path)


def problems_of(files: InitialFiles) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_initial_data(files, water())
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
    ordered = frame(1)
    write_frames(files.training[0], [frame(0), ordered[[1, 0, 2]], frame(2)])
    lacking = frame(5)
    del lacking.arrays["REF_forces"]
    write_frames(files.validation[1], [lacking])
    one, other = problems_of(files)
    assert one.startswith(f"{files.training[0]}: frame 2: has other atoms than geometry.in")
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
    write_frames(files.training[1], [frame(0), frame(1, REF_energy=ENERGY / 27.2114), frame(7)])
    (problem,) = problems_of(files)
    assert problem.startswith(
        f"{files.training[1]}: frame 2: has another energy, forces or stress than the same "
        f"structure in {files.training[0]}: frame 2: "
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
        [frame(0, REF_energy=ENERGY / 27.2114), frame(1), frame(3)],  # Hartree; then another frame
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
