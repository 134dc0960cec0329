"""Initial datasets without MD, and mixed ones: which point is of whom, and what kills change."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from run_folder import (
    SMALLEST,
    assert_same_end,
    datasets,
    finish,
    journal,
    kill_all,
    labels,
    run,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

TBLITE = {
    "foundation_calculator": "tblite.ase.TBLite",
    "foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0},
}
DIAMOND = """\
lattice_vector 3.567 0 0
lattice_vector 0 3.567 0
lattice_vector 0 0 3.567
atom_frac 0 0 0 C
atom_frac 0 0.5 0.5 C
atom_frac 0.5 0 0.5 C
atom_frac 0.5 0.5 0 C
atom_frac 0.25 0.25 0.25 C
atom_frac 0.25 0.75 0.75 C
atom_frac 0.75 0.25 0.75 C
atom_frac 0.75 0.75 0.25 C
"""


def folder_of(path: Path, **changes: Any) -> Path:
    keys = SMALLEST | {"max_initial_epochs": 4, "n_samples": 4, "analysis": True} | changes
    return write_inputs(path, active_learning={"ACTIVE_LEARNING": keys})


def sources(folder: Path) -> list[str]:
    """Of the labels of the initial dataset, in their order."""
    return [r["origin"]["source"] for r in labels(folder) if r["origin"]["phase"] == "initial"]


def test_structures_without_md_alone_make_an_initial_dataset(tmp_path: Path) -> None:
    # Two rounds of 8 points: the list is used up in the first, and goes on.
    folder = folder_of(
        tmp_path / "run", initial_sampling="displaced", displaced={"rattled": 5, "seed": 2}
    )
    output = succeed(folder)
    assert "displaced structures: 5 rattled; further ones when these are used up" in output
    assert sources(folder) == ["rattled"] * 16
    numbers = [r["origin"]["step"] for r in labels(folder) if r["origin"]["phase"] == "initial"]
    assert numbers == list(range(16))
    assert "labels of the initial dataset by source: 16 rattled" in output
    rows = list(csv.DictReader((folder / "results" / "initial_points.csv").open()))
    assert [(row["round"], row["source"], row["n_points"]) for row in rows] == [
        ("1", "rattled", "8"),
        ("2", "rattled", "8"),
    ]
    exported = read(folder / "data" / "initial" / "training" / "combined.xyz", ":")
    assert {atoms.info["source"] for atoms in exported} == {"rattled"}
    assert not any("md_step" in atoms.info for atoms in exported)


def test_sources_share_the_points_and_discarded_labels_are_made_up_for(tmp_path: Path) -> None:
    # Some rattled molecules have forces beyond max_force.
    folder = folder_of(
        tmp_path / "run",
        initial_sampling=["displaced", "foundation"],
        displaced={"rattled": 9, "rattle": 0.15},
        max_force=25.0,
        **TBLITE,
    )
    output = succeed(folder)
    records = [r for r in labels(folder) if r["origin"]["phase"] == "initial"]
    discarded = [r for r in records if "rejected" in r]
    assert discarded and {r["origin"]["source"] for r in discarded} == {"rattled"}
    accepted = Counter(r["origin"]["source"] for r in records if "rejected" not in r)
    # Equal shares until the list is used up; the other source goes on.
    assert accepted == {"rattled": 9 - len(discarded), "foundation": 7 + len(discarded)}
    entries = journal(folder, "initial points")
    assert sum(entry["n_points"] for entry in entries) == 16
    assert {r["origin"].get("md") for r in records if r["origin"]["source"] == "rattled"} == {None}
    assert "by source: " in output


def test_in_parallel_mode_a_killed_run_goes_on_with_the_same_points(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "run",
        initial_sampling=["displaced", "foundation"],
        displaced={"rattled": 6},
        parallel=True,
        **TBLITE,
    )
    for n_labels in (4, 11):
        job = start(folder, 2)
        wait_for_labels(job, folder, n_labels)
        assert job.poll() is None, finish(job)[1]
        kill_all(job)
    succeed(folder, 2)
    found = Counter(sources(folder))
    # Of a round that is not needed any more some may be left.
    assert found["rattled"] == 6 and found["foundation"] >= 10
    # None computed twice.
    keys = [r["key"] for r in labels(folder)]
    assert len(keys) == len(set(keys))
    assert datasets(folder)


def test_crystals_with_a_stress_have_strained_cells_without_being_asked(tmp_path: Path) -> None:
    keys = SMALLEST | {"initial_sampling": "displaced", "n_samples": 8, "converge_al": False}
    keys |= {"displaced": {"vacancies": 2, "dimers": 1}}
    folder = write_inputs(
        tmp_path / "run",
        geometry=DIAMOND,
        mace={
            "GENERAL": {"compute_stress": True},
            "TRAINING": {"loss": "stress"},
            "ARCHITECTURE": {"atomic_energies": {6: -48.0}},
        },
        active_learning={
            "ACTIVE_LEARNING": keys | {"reference_method": "GFN1-xTB", "ensemble_size": 2}
        },
    )
    told = "displaced structures: 20 rattled, 20 strained, 7 volume, 1 dimer, 2 vacancy"
    assert told in succeed(folder, 1, "--check")
    output = succeed(folder, command="FHI_AL-initial-ds")
    assert told in output
    found = [r for r in labels(folder) if "rejected" not in r]
    kinds = Counter(r["origin"]["source"] for r in found)
    of_crystal = [r for r in found if len(r["numbers"]) == 8]
    assert len(of_crystal) == 16 and {"rattled", "strained", "volume"} <= set(kinds)
    cells = {str(r["cell"]) for r in of_crystal}
    assert len(cells) == 1 + kinds["strained"] + kinds["volume"]
    assert all(r["stress"] is not None for r in of_crystal)
    # What has another composition is computed as what it is.
    for r in found:
        n_atoms = {"vacancy": 7, "dimer": 2}.get(r["origin"]["source"], 8)
        assert len(r["numbers"]) == n_atoms and r["pbc"] == (n_atoms > 2)


def test_dimers_teach_and_judge_nothing(tmp_path: Path) -> None:
    def inputs(folder: Path) -> Path:
        return write_inputs(
            folder,
            mace={"ARCHITECTURE": {"atomic_energies": {1: -10.7, 8: -102.6}}},
            active_learning={
                "ACTIVE_LEARNING": SMALLEST
                | {"initial_sampling": "displaced", "n_samples": 5, "max_initial_epochs": 4}
                | {"analysis": True}
                | {"displaced": {"rattled": 20, "dimers": 4}, "final_sets": "all"}
            },
        )

    folder = inputs(tmp_path / "run")
    output = succeed(folder)
    assert "displaced structures: 20 rattled, 12 dimer" in output
    found = [r for r in labels(folder) if r["origin"].get("source") == "dimer"]
    assert len(found) == 12 and not any("rejected" in r for r in found)
    # Two rounds of ten points for two members; the dimers are on top.
    assert Counter(sources(folder)) == {"rattled": 20, "dimer": 12}
    for phase in ("initial", "final"):
        for path in (folder / "data" / phase / "training").glob("water_*.xyz"):
            assert sum(a.info.get("source") == "dimer" for a in read(path, ":")) == 12
        for path in (folder / "data" / phase / "validation").glob("*.xyz"):
            assert {len(atoms) for atoms in read(path, ":")} == {3}
    # Of the right molecules: hydrogen's bond is 0.74 A long, shorter pushes and longer pulls.
    hydrogen = sorted(
        (r["positions"][1][0], r["forces"][1][0]) for r in found if r["numbers"] == [1, 1]
    )
    distances, forces = zip(*hydrogen, strict=True)
    assert distances[0] < 0.6 and forces[0] > 5
    assert all(force < 0 for force in forces[1:]) and distances[1] > 0.8

    broken = inputs(tmp_path / "broken")
    job = start(broken, 1)
    wait_for_labels(job, broken, 15)
    assert job.poll() is None, finish(job)[1]
    kill_all(job)
    succeed(broken)
    assert_same_end(broken, folder)


def test_structures_without_md_need_no_foundation_model(tmp_path: Path) -> None:
    absent = {"foundation_model": "absent.model"}
    alone = folder_of(tmp_path / "alone", initial_sampling="displaced", **absent)
    output = succeed(alone, 1, "--check")
    assert "foundation_model = absent.model: has no effect" in output
    mixed = folder_of(tmp_path / "mixed", initial_sampling=["displaced", "foundation"], **absent)
    code, output = run(mixed, 1, "--check")
    assert code == 2
    assert "absent.model: no such file" in output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"displaced": {"strained": 4}}, "displaced.strained = 4: "),
        ({"displaced": {"volumes": 4}}, "is a molecule, which has no cell. Set it to 0"),
        ({"displaced": {"rattle": 0.9}, "min_distance": 0.95}, "displaced.rattle = 0.9: rattled"),
        ({"displaced": {"rattled": 0}}, "displaced.rattled = 0: must be at least 1"),
    ],
)
def test_what_cannot_be_displaced_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = folder_of(tmp_path / "run", initial_sampling="displaced", **changes)
    if "min_distance" in changes:
        (folder / "geometry.in").write_text(DIAMOND)
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert message in output
