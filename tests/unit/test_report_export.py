"""Exported sets: what ASE reads, and what we read again; the summary's words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from label_parts import some_label, some_rejected

from fhi_al.core.label import Label, Origin
from fhi_al.core.run_state import RunState, Stage
from fhi_al.labels.store import LabelStore
from fhi_al.parallel.layout import layout
from fhi_al.report.clock import ACTIVITIES
from fhi_al.report.export import Exporter, read_labels, write_labels
from fhi_al.report.summary import idle_shares, summary

XYZ_DIGITS = 6e-9  # extended xyz holds eight decimals


def close(one: Any, other: Any) -> bool:
    return bool(np.abs(np.asarray(one) - np.asarray(other)).max() < XYZ_DIGITS)


@pytest.mark.parametrize("pbc", [False, True])
def test_ase_reads_what_was_written(tmp_path: Path, pbc: bool) -> None:
    labels = [some_label(seed, pbc=pbc) for seed in (1, 2)]
    write_labels(tmp_path / "sets" / "training.xyz", labels)
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
    write_labels(tmp_path / "a.xyz", [some_label(1, origin=Origin(phase, 0, 5))])
    atoms: Any = ase.io.read(tmp_path / "a.xyz")
    assert atoms.info["config_type"] == config_type


@pytest.mark.parametrize("n_atoms", [1, 2, 9])
@pytest.mark.parametrize("pbc", [False, True])
def test_labels_are_read_again(tmp_path: Path, pbc: bool, n_atoms: int) -> None:
    written = [some_label(seed, n_atoms=n_atoms, pbc=pbc) for seed in (1, 2, 3)]
    write_labels(tmp_path / "a.xyz", written)
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
    write_labels(tmp_path / "a.xyz", [some_label(1, pbc=True, stress=stress)])
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
    write_labels(tmp_path / "a.xyz", [some_label(1), some_label(2)])
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
    with pytest.raises(ValueError, match=r"a\.xyz: structure 2: expected REF_energy and REF_"):
        read_labels(tmp_path / "a.xyz")


@pytest.fixture
def exporter(tmp_path: Path) -> Exporter:
    return Exporter(
        name="ethanol",
        seeds=(11, 12),
        dataset_folder=tmp_path / "data",
        model_folder=tmp_path / "model",
        checkpoint_folder=tmp_path / "checkpoints",
        inputs_folder=tmp_path / "inputs",
        keep_checkpoints=False,
    )


@dataclass(frozen=True)
class Sets:
    """The sets of a member."""

    training: list[Label]
    validation: list[Label]


def keys(path: Path) -> list[float]:
    """The energies in a file, which name its labels."""
    return [label.energy for label in read_labels(path)]


def test_sets_are_written_per_member_and_combined(exporter: Exporter, tmp_path: Path) -> None:
    a, b, c, shared = (some_label(seed) for seed in range(4))
    store = LabelStore(tmp_path / "labels.jsonl")
    exporter.dataset("initial", [Sets([a, shared], [b]), Sets([c, shared], [b])], store)
    initial = tmp_path / "data" / "initial"
    assert keys(initial / "training" / "ethanol_11.xyz") == [a.energy, shared.energy]
    assert keys(initial / "training" / "ethanol_12.xyz") == [c.energy, shared.energy]
    assert keys(initial / "training" / "combined.xyz") == [a.energy, shared.energy, c.energy]
    assert keys(initial / "validation" / "combined.xyz") == [b.energy]
    seeds = (tmp_path / "data" / "member_seeds.yaml").read_text()
    assert seeds == "ethanol_11: 11\nethanol_12: 12\n"
    assert not (tmp_path / "data" / "rejected").exists()


def test_an_empty_set_is_an_empty_file(exporter: Exporter, tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.jsonl")
    exporter.dataset("initial", [Sets([some_label(1)], []), Sets([], [])], store)
    path = tmp_path / "data" / "initial" / "validation" / "ethanol_11.xyz"
    assert path.read_text().strip() == ""
    assert read_labels(path) == []


def test_rejected_structures_are_written_with_their_reason(
    exporter: Exporter, tmp_path: Path
) -> None:
    reasons = [
        "the SCF did not converge",
        'SCF: "no" convergence\n  in 25 cycles\tafter 3 s = {1, 2}',
    ]
    store = LabelStore(tmp_path / "labels.jsonl")
    for seed, reason in enumerate(reasons):
        store.append(some_rejected(seed, reason))
    exporter.dataset("final", [Sets([some_label(5)], []), Sets([], [])], store)
    frames: Any = ase.io.read(tmp_path / "data" / "rejected" / "rejected.xyz", ":")
    assert [len(atoms) for atoms in frames] == [4, 4]
    assert close(frames[1].positions, some_rejected(1).positions)
    assert frames[0].info["reason"] == reasons[0]
    assert frames[1].info["reason"] == " ".join(reasons[1].split())
    with pytest.raises(ValueError, match="REF_energy"):  # nobody trains on it by mistake
        read_labels(tmp_path / "data" / "rejected" / "rejected.xyz")


def test_inputs_are_copied_with_versions(exporter: Exporter, tmp_path: Path) -> None:
    (tmp_path / "control.in").write_text("xc pbe\n")
    files = [tmp_path / "control.in", tmp_path / "not_there.yaml"]
    exporter.inputs(files, {"mace_settings.yaml": "GENERAL: {}\n"})
    folder = tmp_path / "inputs"
    assert sorted(path.name for path in folder.iterdir()) == [
        "control.in",
        "resolved_mace_settings.yaml",
        "versions.yaml",
    ]
    assert (folder / "control.in").read_text() == "xc pbe\n"
    assert f"ase: {ase.__version__}\n" in (folder / "versions.yaml").read_text()


def test_the_summary_counts_and_shares_out_the_time(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.jsonl")
    for record in (some_label(1), some_label(2), some_rejected(3)):
        store.append(record)
    state = RunState(stage=Stage.DONE, final_mae_forces=0.01234, stop_reason="enough")
    seconds = dict(zip(ACTIVITIES, (50.0, 29.0, 10.0, 10.0, 0.8, 0.2), strict=True))
    crew = layout(4, parallel=True, training_ranks=1, reference_groups=None, shared_engine=True)
    idle = idle_shares(crew, 100.0, 90.0, [{0: 7.0}, {1: 25.0, 2: 25.0, 3: 25.0}])
    lines = summary(state, store, seconds, idle)
    text = "\n".join(lines)
    assert "done (enough)" in text
    assert "3 computed, of which 1 discarded" in text
    assert "0.0123 eV/A" in text
    assert lines[-2] == (
        "wall time 100 s: DFT 50 s (50.0 %), training 29 s (29.0 %), MD 10 s (10.0 %), "
        "waiting for labels 10 s (10.0 %), snapshots 1 s (0.8 %), everything else 0 s (0.2 %)"
    )
    assert lines[-1] == (
        "idle in this launch (100 s): rank 0 (drives, MD, training: 10 %), "
        "ranks 1-3 (labels (group 1): 75 %)"
    )
    nothing = summary(RunState(), store, dict.fromkeys(ACTIVITIES, 0), [])
    assert "not measured yet" in "\n".join(nothing)
