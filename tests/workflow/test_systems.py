"""A run of several systems: who runs what, errors of each, kills, and a system added at the end."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from run_folder import (
    SMALLEST,
    assert_same_end,
    copy_of,
    journal,
    killed_at,
    labels,
    progress,
    run,
    snapshots,
    succeed,
    write_inputs,
)

from fhi_al.app.run_record import run_record

pytestmark = [pytest.mark.mpi, pytest.mark.real]

HYDROXIDE: dict[str, Any] = {
    "name": "hydroxide",
    "geometry": "hydroxide.xyz",  # two frames
    "arguments": {"charge": -1},
    "trajectories": 2,
    "md": "hot",
}
SYSTEMS: list[dict[str, Any]] = [
    {"name": "water", "share": 2, "md": ["hot", "cold"], "trajectories": 2},
    HYDROXIDE,
]
HYDROGEN: dict[str, Any] = {"name": "hydrogen", "geometry": "hydrogen.in", "trajectories": 1}
BLOCKS: list[dict[str, Any]] = [
    {"name": "hot", "temperature": {"from": 300, "to": 500, "over": 30}},
    {"name": "cold", "temperature": 200},
]
KEYS = {
    "num_trajectories": 1,
    "n_samples": 4,
    "final_test": 4,
    "initial_sets": "shared",
    "stop_on": "worst",
    "test_ratio": 0.2,
}
STARTS = (0.95, 1.05)


def folder_of(path: Path, systems: list[dict[str, Any]], **changes: Any) -> Path:
    path.mkdir(parents=True)
    write(path / "hydroxide.xyz", [Atoms("OH", [[0, 0, 0], [0, 0, length]]) for length in STARTS])
    (path / "hydrogen.in").write_text("atom 0 0 0 H\natom 0 0 0.75 H\n")
    changed = {"ACTIVE_LEARNING": KEYS | changes, "MD": BLOCKS}
    write_inputs(path, active_learning=changed)
    with_systems(path, systems)
    return path


def with_systems(folder: Path, systems: list[dict[str, Any]]) -> None:
    """Write the section SYSTEMS."""
    path = folder / "active_learning_settings.yaml"
    content = yaml.safe_load(path.read_text()) | {"SYSTEMS": systems}
    path.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run's folder, its inputs, its output."""
    folder = folder_of(tmp_path_factory.mktemp("systems") / "run", SYSTEMS)
    inputs = copy_of(folder, folder.with_name("inputs"))
    return folder, inputs, succeed(folder)


def test_labels_and_journal_say_which_system(finished) -> None:
    folder, _, _ = finished
    of_phases: dict[str, set[tuple[int, str, str, int]]] = {}
    for record in labels(folder):
        origin = record["origin"]
        place = (origin["trajectory"], origin["system"], origin["md"], record["system"])
        of_phases.setdefault(origin["phase"], set()).add(place)
        assert len(record["numbers"]) == {"water": 3, "hydroxide": 2}[origin["system"]]
    rows = {
        (0, "water", "hot", 0),
        (1, "hydroxide", "hot", 1),
        (2, "water", "cold", 0),
        (3, "hydroxide", "hot", 1),
    }
    # Sampling: a trajectory for each block of a system, or for each start.
    assert of_phases["initial"] == rows
    for phase in ("active_learning", "sanity", "test"):
        assert of_phases[phase] <= rows
    assert {system for _, system, _, _ in of_phases["test"]} == {"water", "hydroxide"}
    for kind in ("check", "sanity", "final test", "calibration"):
        assert {e["system"] for e in journal(folder, kind)} == {"water", "hydroxide"}
    exported = read(folder / "data" / "final" / "training" / "combined.xyz", ":")
    assert {(len(atoms), atoms.info["system"]) for atoms in exported} == {
        (3, "water"),
        (2, "hydroxide"),
    }


def test_the_initial_dataset_has_points_by_share(finished) -> None:
    folder, _, _ = finished
    initial = [
        read(folder / "data" / "initial" / kind / "combined.xyz", ":")
        for kind in ("training", "validation")
    ]
    keys = {(a.info["system"], a.info["md_step"], a.info["trajectory"]) for x in initial for a in x}
    held_out = read(folder / "data" / "initial" / "test" / "combined.xyz", ":")
    counts = Counter(system for system, _, _ in keys)
    counts += Counter(atoms.info["system"] for atoms in held_out)
    # A point for each member at a time.
    assert abs(counts["water"] - 2 * counts["hydroxide"]) <= 2


def test_trajectories_begin_at_all_starts(finished) -> None:
    folder, _, _ = finished
    first = {
        record["origin"]["trajectory"]: np.array(record["positions"])
        for record in reversed(labels(folder))
        if record["origin"]["system"] == "hydroxide" and record["origin"]["phase"] == "initial"
    }
    lengths = {k: np.linalg.norm(x[1] - x[0]) for k, x in first.items()}
    assert lengths[1] == pytest.approx(STARTS[0], abs=1e-9)
    assert lengths[3] == pytest.approx(STARTS[1], abs=1e-9)


def test_labels_are_of_the_system_s_own_engine(finished) -> None:
    from tblite.ase import TBLite

    folder, _, _ = finished
    for system, charge in (("water", 0), ("hydroxide", -1)):
        record = next(r for r in labels(folder) if r["origin"]["system"] == system)
        atoms = Atoms(record["numbers"], record["positions"])
        atoms.calc = TBLite(method="GFN2-xTB", charge=charge, verbosity=0)
        assert atoms.get_potential_energy() == pytest.approx(record["energy"], abs=1e-6)


def test_table_and_errors_of_each_system_are_told(finished) -> None:
    folder, inputs, output = finished
    assert re.search(r"active learning: 0 +water +hot +NVT", output)
    assert re.search(r"active learning: 1, 3 +hydroxide +hot .* 0, 1\n", output)
    assert re.search(r"MD: 2 +water +cold", succeed(inputs, 1, "--check"))
    assert "force MAE of the worst system" in output
    summary = output[output.index("summary: ") :]
    counts = Counter(r["origin"]["system"] for r in labels(folder) if "energy" in r)
    by_system = f"labels by system: water {counts['water']}, hydroxide {counts['hydroxide']}"
    assert by_system in summary
    for about in ("true errors", "own validation points", "cross-validation"):
        part = summary[summary.index(about) :].splitlines()[1:3]
        assert [re.search(r"  (\w+): forces .* on \d+ points?", line)[1] for line in part] == [
            "water",
            "hydroxide",
        ]
    assert {each["system"] for each in journal(folder, "ensemble")[-1]["by_system"]} == {0, 1}


def test_killed_in_every_phase_on_other_numbers_of_ranks(finished, tmp_path) -> None:
    unbroken, inputs, _ = finished
    folder = copy_of(inputs, tmp_path / "run")
    killed_at(folder, moments(unbroken))
    succeed(folder, 2)
    assert_same_end(folder, unbroken)


def moments(unbroken: Path) -> list[int]:
    """Labels and journal entries in the midst of each phase."""
    entries = (unbroken / "restart" / "journal.jsonl").read_text().splitlines()
    names = [json.loads(line).get("phase", "active learning") for line in entries]
    counts = Counter(record["origin"]["phase"] for record in labels(unbroken))
    begin = counts["initial"] + names.index("active learning")
    end = len(labels(unbroken)) - counts["test"] + names.index("final convergence")
    return [counts["initial"] // 2, (begin + end) // 2, end + 1]


@pytest.fixture(scope="module")
def added(finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The finished run with a third system, before and after it was run; and the output."""
    folder = copy_of(finished[0], tmp_path_factory.mktemp("added") / "run")
    with_systems(folder, [*SYSTEMS, HYDROGEN])
    before = copy_of(folder, folder.with_name("before"))
    return before, folder, succeed(folder)


def test_a_system_can_be_added_to_a_finished_run(finished, added) -> None:
    before, folder, output = added
    assert "continues the run in restart/: initial sampling" in succeed(before, 1, "--check")
    assert "added to the run: hydrogen" in output
    old, new = labels(before), labels(folder)
    assert new[: len(old)] == old
    computed = {r["origin"]["system"] for r in new[len(old) :] if r["origin"]["phase"] != "test"}
    assert computed == {"hydrogen"}
    phases = {r["origin"]["phase"] for r in new if r["origin"]["system"] == "hydrogen"}
    assert {"initial", "test"} <= phases
    checks = journal(folder, "check")
    assert checks[: len(journal(before, "check"))] == journal(before, "check")
    assert {e["system"] for e in checks[len(journal(before, "check")) :]} == {"hydrogen"}
    summary = output[output.rindex("stage: done") :]
    assert len(re.findall(r"hydrogen: forces", summary)) == 3


def test_a_run_with_an_added_system_killed_in_every_phase(added, tmp_path) -> None:
    before, unbroken, _ = added
    folder = copy_of(before, tmp_path / "run")
    first, last = progress(before), progress(unbroken)
    killed_at(folder, [first + k * (last - first) // 4 for k in (1, 2, 3)])
    succeed(folder, 2)
    assert_same_end(folder, unbroken)


def test_what_can_be_neither_added_nor_taken_away(finished, tmp_path) -> None:
    folder = copy_of(finished[0], tmp_path / "run")
    (folder / "methane.in").write_text("atom 0 0 0 C\natom 0 0 1.1 H\n")
    with_systems(folder, [*SYSTEMS, {"name": "methylidyne", "geometry": "methane.in"}])
    code, output = run(folder, 1, "--check")
    assert code == 2 and "has C, which the run's models do not know" in output
    n_labels = len(labels(folder))
    with_systems(folder, [*SYSTEMS, HYDROGEN])
    path = folder / "active_learning_settings.yaml"
    whole = path.read_text()
    path.write_text(whole.replace("lambda: 1.0", f"lambda: 1.0\n  label_budget: {n_labels}"))
    code, output = run(folder, 1)
    assert code == 2 and f"{n_labels} labels are computed; the first round for" in output
    path.write_text(whole)
    with_systems(folder, [SYSTEMS[0] | {"name": "ice"}, HYDROXIDE])
    code, output = run(folder, 1)
    assert code == 2 and "system water is gone (others may be added)" in output


def test_files_of_one_name_are_kept_apart_also_where_they_were_not(finished, tmp_path) -> None:
    """A run goes on whose ``inputs/`` an older program wrote, which kept one file of each name."""
    whole, _, _ = finished
    folder = copy_of(whole, tmp_path / "run")
    texts = {"water/geometry.in": (folder / "geometry.in").read_text()}
    texts |= {
        f"hydroxide/{name}.in": f"atom 0 0 0 O\natom 0 0 {length} H\n"
        for name, length in zip(("first", "geometry"), STARTS, strict=True)
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "geometry.in").unlink()
    (folder / "inputs" / "geometry.in").write_text(texts["hydroxide/geometry.in"])
    water = SYSTEMS[0] | {"geometry": "water/geometry.in"}
    with_systems(folder, [water, HYDROXIDE | {"geometry": "hydroxide/*.in"}])
    shutil.rmtree(snapshots(folder)[-1])
    succeed(folder)
    assert_same_end(folder, whole)
    assert not (folder / "inputs" / "geometry.in").exists()
    shown = dict(run_record(folder).inputs)  # in the report
    for name, text in texts.items():
        assert (folder / "inputs" / name).read_text() == shown[name] == text


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no name": ([{}, HYDROXIDE], "SYSTEMS[0].name: missing: with several systems each has a name"),
    "name twice": ([HYDROXIDE, HYDROXIDE], "is the name of SYSTEMS[0], too"),
    "no trajectory": (
        [{"name": "water"}, {"name": "hydrogen", "geometry": "hydrogen.in"}],
        "system hydrogen has no trajectory: num_trajectories = 1 are fewer than the systems",
    ),
    "no such block": (
        [{"name": "water", "md": "warm"}, HYDROXIDE],
        "there is no MD block warm: expected names of blocks of the section MD, of which there are"
        " hot, cold",
    ),
    "block of nobody": (
        [{"name": "water", "md": "hot"}, HYDROXIDE],
        "no trajectory runs MD block cold: no system names it (md)",
    ),
    "no file": ([SYSTEMS[0] | {"geometry": "ice*.in"}], "no file fits this pattern"),
    "too few samples": ([SYSTEMS[0] | {"share": 9}, HYDROXIDE], "is too small for 2 systems"),
    "other composition": (
        [{"name": "water", "geometry": "*.in", "trajectories": 2}],
        "expected the same atoms in the same order in all starting geometries of system water",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_systems_that_make_no_sense_are_refused(what: str, tmp_path) -> None:
    systems, expected = WRONG[what]
    folder = folder_of(tmp_path / "run", systems)
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert expected in " ".join(output.split())


def test_a_molecule_and_a_crystal_whose_cell_moves(tmp_path) -> None:
    """Labels of the crystal have a stress, which is trained on and tested; the molecule's not."""
    folder = tmp_path / "run"
    write_inputs(
        folder,
        mace={
            "GENERAL": {"compute_stress": True},
            "TRAINING": {"loss": "stress", "stress_weight": 100.0},
        },
        active_learning={
            "ACTIVE_LEARNING": SMALLEST
            | {
                "reference_method": "GFN1-xTB",
                "num_trajectories": 2,
                "n_samples": 4,
                "skip_step_initial": 2,
                "final_test": 2,
            },
            "MD": [{"name": "nvt"}, {"name": "npt", "stat_ensemble": "NPT", "timestep": 2.0}],
        },
    )
    write(folder / "diamond.xyz", bulk("C", "diamond", a=3.56, cubic=True))
    diamond = {"name": "diamond", "geometry": "diamond.xyz", "md": "npt"}
    with_systems(folder, [{"name": "water"}, diamond])
    code, output = run(folder, 1, "--check")
    assert code == 2 and "(or name the MD blocks of each system" in output.replace(", or", "(or")
    with_systems(folder, [{"name": "water", "md": "nvt"}, diamond])
    output = succeed(folder)
    assert "WARNING: trajectory" not in output
    for record in labels(folder):
        assert (record["stress"] is None) == (record["origin"]["system"] == "water")
    volumes = {
        round(abs(np.linalg.det(record["cell"])), 6)
        for record in labels(folder)
        if record["origin"]["system"] == "diamond"
    }
    assert len(volumes) > 5
    tested = journal(folder, "final test")
    assert {e["system"] for e in tested} == {"water", "diamond"}
    assert all((e["mae_stress"] is None) == (e["system"] == "water") for e in tested)
    assert all(np.isfinite(e["mae_forces"]) for e in tested)
    assert re.search(r"true errors of the final models .* stress [\d.]+ meV/A\^3", output)
