"""Failed labels, a crash of the library: what is stored, and how the run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from run_folder import (
    SHORT,
    datasets,
    labels,
    run,
    succeed,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

# Numbers of ASI calls of the unbroken run: 81 label the initial dataset, the rest active learning.
IN_INITIAL, IN_ACTIVE_LEARNING = (3, 4, 30), (83, 85)


def test_failed_and_nan_labels_are_never_stored(asi_library, tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    bad = {
        "ASI_FAIL_AT": ",".join(map(str, (*IN_INITIAL, IN_ACTIVE_LEARNING[0]))),
        "ASI_NAN_AT": str(IN_ACTIVE_LEARNING[1]),
        "ASI_ENERGY_AT": "40",
    }
    output = succeed(folder, 2, env=bad)
    records = labels(folder)
    rejected = [record for record in records if "rejected" in record]
    assert len(rejected) == 6
    assert f"{len(records)} computed, of which 6 discarded" in output
    assert output.count("back to the last good point with new velocities") == 6
    reasons = [record["rejected"].split(":")[0] for record in rejected]
    assert sum("the SCF did not converge" in reason for reason in reasons) == 4
    assert sum("the energy or a force is not finite" in reason for reason in reasons) == 1
    # 10,000 eV too high, three atoms.
    assert (
        sum("eV per atom from the mean of the labels so far" in reason for reason in reasons) == 1
    )
    used = {tuple(atoms.positions.ravel()) for atoms in all_points(folder)}
    for record in rejected:
        assert tuple(np.round(np.ravel(record["positions"]), 8)) not in used
    kept = read(folder / "data" / "rejected" / "rejected.xyz", index=":")
    assert len(kept) == 6
    assert {atoms.info["reason"].split()[0] for atoms in kept} == {"the"}


def all_points(folder: Path) -> list:
    return [
        atoms
        for kind in ("training", "validation")
        for atoms in read(folder / "data" / "final" / kind / "combined.xyz", index=":")
    ]


def test_an_engine_that_always_fails_stops_the_run(asi_library, tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        asi_library=asi_library,
        active_learning={"ACTIVE_LEARNING": {**SHORT, "max_label_failures": 4}},
    )
    always = ",".join(map(str, range(1, 200)))
    code, output = run(folder, 2, env={"ASI_FAIL_AT": always})
    assert code == 1
    assert "the last 4 labels were discarded (max_label_failures = 4)" in output
    last_lines = output.partition("The engine's last lines:\n")[2]
    assert "calculation 1 begins" in last_lines and "ASI_FAIL_AT" in last_lines
    assert "Traceback" not in output
    # The MD cannot leave its start: its label is not computed again and again.
    assert len(labels(folder)) == 1
    # Settings that were fixed are another engine: the failure is forgotten and the run goes on.
    (folder / "control.in").write_text((folder / "control.in").read_text() + "charge 0\n")
    succeed(folder, 2, command="FHI_AL-initial-ds")


def test_an_engine_that_can_compute_nothing_is_wrong_input(tmp_path) -> None:
    """EMT says what it does not know when it is asked for the first time."""
    engine = {"reference_engine": "ase", "reference_calculator": "ase.calculators.emt.EMT"}
    folder = write_inputs(
        tmp_path / "run",
        active_learning={"ACTIVE_LEARNING": engine},
        geometry="atom 0 0 0 F\natom 0 0 0.92 H\n",
    )
    text = (folder / "active_learning_settings.yaml").read_text()
    (folder / "active_learning_settings.yaml").write_text(
        text.replace("  reference_method: GFN2-xTB\n", "")
    )
    code, output = run(folder, 2, command="FHI_AL-initial-ds")
    assert code == 2, output
    assert "cannot compute this system: NotImplementedError: No EMT-potential for F" in output
    assert labels(folder) == []


def test_labels_of_another_method_are_not_mixed(finished_run, tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": {"reference_method": "GFN1-xTB"}}
    )
    (folder / "restart").mkdir()
    shutil.copy(finished_run("tblite", 1) / "restart" / "labels.jsonl", folder / "restart")
    code, output = run(folder, 2)
    assert code == 2, output
    assert "labels.jsonl:1: this label was computed by another engine" in output


def test_mpi_abort_in_the_library_ends_the_job_and_a_resume_goes_on(
    finished_run, asi_library, tmp_path
) -> None:
    unbroken = finished_run("asi", 1)
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    count = tmp_path / "calls.txt"
    log = {"ASI_LOG": str(count)}
    code, _ = run(folder, 2, env={**log, "ASI_ABORT_AT": "50"}, timeout_s=60)
    assert code != 0
    assert len(labels(folder)) == 49
    succeed(folder, 3, env=log)
    assert datasets(folder) == datasets(unbroken)
    n_calls = len(count.read_text().splitlines())
    # Only the call in flight is repeated (the library may have counted it before it aborted).
    assert n_calls - len(labels(folder)) in (0, 1)


def test_exploding_md_goes_back_and_stores_nothing(tmp_path) -> None:
    # A time step of 8 fs tears water apart within a block.
    folder = write_inputs(
        tmp_path / "run",
        active_learning={
            "MD": {"timestep": 8.0, "temperature": 2000},
            "ACTIVE_LEARNING": {"max_rollbacks": 3, "min_distance": 0.7},
        },
    )
    code, output = run(folder, 1)
    assert code == 1, output
    assert "the sampling MD failed 3 times in a row" in output
    assert "a lower MD.temperature or MD.timestep" in output
    assert "Traceback" not in output


def test_a_changed_architecture_is_refused_on_resume(finished_run, tmp_path) -> None:
    finished = finished_run("tblite", 1, models="mace")
    folder = write_inputs(
        tmp_path / "run", mace={"ARCHITECTURE": {"num_channels": 4}}, models="mace"
    )
    shutil.copytree(finished / "restart", folder / "restart")
    before = (folder / "restart" / "journal.jsonl").read_text()
    code, output = run(folder, 2)
    assert code == 2
    assert "num_channels" in output or "hidden_irreps" in output
    assert "Traceback" not in output
    assert (folder / "restart" / "journal.jsonl").read_text() == before
    assert json.loads(before.splitlines()[0])
