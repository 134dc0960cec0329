"""Exported sets: what ASE reads, and what we read again; the summary's words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from label_parts import some_label, some_rejected

from fhi_al.core.convergence import UnseenErrors
from fhi_al.core.label import Label
from fhi_al.core.reported_errors import ReportedErrors
from fhi_al.core.run_state import RunState, Stage
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.labels.store import LabelStore
from fhi_al.parallel.layout import layout
from fhi_al.report.clock import ACTIVITIES
from fhi_al.report.export import Exporter, copied_to
from fhi_al.report.model_card import ModelCard
from fhi_al.report.summary import idle_shares, summary

XYZ_DIGITS = 6e-9  # extended xyz holds eight decimals


def close(one: Any, other: Any) -> bool:
    return bool(np.abs(np.asarray(one) - np.asarray(other)).max() < XYZ_DIGITS)


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
        kind="mace",
        reference="tblite, GFN2-xTB",
    )


@dataclass(frozen=True)
class Sets:
    """The sets of a member."""

    training: list[Label]
    validation: list[Label]


def keys(path: Path) -> list[float]:
    """The energies in a file, which name its labels."""
    return [label.energy for label in read_labels(path)]


def test_a_card_says_what_the_models_are() -> None:
    errors = UnseenErrors(0.0352, 0.0013, 30)
    card = ModelCard(
        name="ethanol",
        kind="mace",
        reference="tblite, GFN2-xTB",
        files=["ethanol_11.model", "ethanol_12.model"],
        elements=(1, 6),
        r_max=5.0,
        dtype="float32",
        energies={"ethanol_11": (-10.5, -50.25), "ethanol_12": (-10.5, -50.0)},
        n_labels=50,
        errors=ReportedErrors(errors, errors),
        date="2026-11-27",
        versions={"mace-torch": "0.3.16"},
    ).text()
    assert "| elements | H, C |" in card and "| cutoff | 5 A |" in card
    assert "| labels | 50, by tblite, GFN2-xTB |" in card
    assert "forces 35.2 meV/A, energies 1.30 meV/atom on 30 points" in card
    assert "| ethanol_12 | -10.5 | -50 |" in card  # E0s that were fitted differ
    assert "model_paths=['ethanol_11.model', 'ethanol_12.model']" in card
    assert "arXiv:2206.07697" in card and "mace-torch 0.3.16" in card


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


def test_inputs_of_one_name_are_kept_apart(exporter: Exporter, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    texts = {
        folder / "control.in": "of all",
        folder / "water" / "control.in": "of water",
        folder / "ethanol" / "control.in": "of ethanol",
        tmp_path / "shared" / "a" / "geometry.in": "elsewhere a",
        tmp_path / "shared" / "b" / "geometry.in": "elsewhere b",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    given = [*list(texts)[:3], *(folder / ".." / "shared" / k / "geometry.in" for k in "ab")]
    copies = folder / "inputs"
    # As an older program left it: the last control.in, the last geometry.in.
    copies.mkdir()
    (copies / "control.in").write_text("of ethanol")
    (copies / "geometry.in").write_text("elsewhere b")
    for _ in range(2):  # the run goes on
        replace(exporter, inputs_folder=copies).inputs(given, {})
        found = {
            str(path.relative_to(copies)): path.read_text()
            for path in copies.rglob("*")
            if path.is_file() and path.name != "versions.yaml"
        }
        assert found == {
            "control.in": "of all",
            "water/control.in": "of water",
            "ethanol/control.in": "of ethanol",
            "outside/a/geometry.in": "elsewhere a",
            "outside/b/geometry.in": "elsewhere b",
        }


def test_an_input_that_lies_among_the_copies_stays(exporter: Exporter, tmp_path: Path) -> None:
    source = tmp_path / "inputs" / "geometry.in"
    source.parent.mkdir()
    source.write_text("atom 0 0 0 H\n")
    for _ in range(2):
        exporter.inputs([source], {})
        assert source.read_text() == "atom 0 0 0 H\n"


def test_places_of_copies_never_meet(tmp_path: Path) -> None:
    inside, other = tmp_path / "outside" / "control.in", tmp_path.parent / "control.in"
    places = copied_to([inside, other], tmp_path)
    assert places == {inside: Path("outside/control.in"), other: Path("outside_/control.in")}


def test_the_summary_counts_and_shares_out_the_time(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.jsonl")
    for record in (some_label(1), some_label(2), some_rejected(3)):
        store.append(record)
    state = RunState(stage=Stage.DONE, final_mae_forces=0.01234, stop_reason="enough")
    seconds = dict(zip(ACTIVITIES, (50.0, 29.0, 10.0, 10.0, 0.8, 0.2), strict=True))
    assignment = layout(
        4, parallel=True, training_ranks=1, reference_groups=None, shared_engine=True
    )
    idle = idle_shares(assignment, 100.0, 90.0, [{0: 7.0}, {1: 25.0, 2: 25.0, 3: 25.0}])
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
    known = RunState(
        errors=ReportedErrors(UnseenErrors(0.002, 1e-4, 4), UnseenErrors(0.02, 1e-3, 17))
    )
    text = "\n".join(summary(known, store, seconds, idle))
    assert "own validation points: forces 2.0 meV/A, energies 0.10 meV/atom on 4 points" in text
    assert "has not trained on: forces 20.0 meV/A, energies 1.00 meV/atom on 17 points" in text
    assert "WARNING: the validation force error, 2.0 meV/A on 4 points" in text
    nothing = summary(RunState(), store, dict.fromkeys(ACTIVITIES, 0), [])
    assert "not measured yet" in "\n".join(nothing)
