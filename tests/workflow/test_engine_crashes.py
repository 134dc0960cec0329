"""The engine dies on a structure, or the run is killed while it computes one: told apart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ase.io import read
from run_folder import (
    SHORT,
    in_flight,
    kill_all,
    labels,
    run,
    start,
    succeed,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

INITIAL = "FHI_AL-initial-ds"


def short_run(folder: Path, asi_library: Path) -> Path:
    return write_inputs(folder, asi_library=asi_library, active_learning={"ACTIVE_LEARNING": SHORT})


def test_a_structure_on_which_the_engine_dies_is_tried_three_times(asi_library, tmp_path) -> None:
    folder = short_run(tmp_path / "run", asi_library)
    # The first call of a resumed run is the one in which the run before died.
    deaths = [
        {"ASI_ABORT_AT": "10", "ASI_DIE_ON": "1"},
        {"ASI_EXIT_AT": "1"},
        {"ASI_SEGFAULT_AT": "1", "ASI_DIE_ON": "2"},
    ]
    key = ""
    for attempt, death in enumerate(deaths, start=1):
        code, output = run(folder, 3, command=INITIAL, env=death, timeout_s=60)
        assert code not in (0, 2, 3), output
        assert len(labels(folder)) == 9
        if attempt > 1:
            assert f"the reference engine died on structure {key}" in output
            assert f"attempt {attempt - 1} of 3; its last lines:" in output
            assert "begins" in output
        (key,) = in_flight(folder)
    output = succeed(folder, 3, command=INITIAL)
    assert f"died on structure {key}, attempt 3 of 3" in output
    records = labels(folder)
    (rejected,) = (record for record in records if "rejected" in record)
    assert rejected == {**records[9], "rejected": "the engine died on it 3 times"}
    assert rejected["key"] == key
    (kept,) = read(folder / "data" / "rejected" / "rejected.xyz", index=":")
    assert kept.info["reason"] == "the engine died on it 3 times"
    assert not (folder / "restart" / "in_flight.json").exists()


def test_kills_in_one_and_the_same_call_do_not_count(finished_run, asi_library, tmp_path) -> None:
    folder = short_run(tmp_path / "run", asi_library)
    slow = {"ASI_SLEEP_MS": "5000"}
    keys = []
    for _ in range(3):
        (folder / "aims" / "asi.log").unlink(missing_ok=True)
        job = start(folder, 2, command=INITIAL, env=slow)
        wait_for_call(folder)
        kill_all(job)
        keys += in_flight(folder)
    assert len(set(keys)) == 1 and labels(folder) == []
    output = succeed(folder, 1, command=INITIAL)
    assert "has ended 3 times during the calculation of structure" in output
    assert "died on" not in output
    # The first round is that of the longer run, geometry.in and 8 MD steps: then models differ.
    assert len(labels(folder)) > 9
    assert labels(folder)[:9] == labels(finished_run("asi", 1))[:9]


def wait_for_call(folder: Path) -> None:
    """Until the engine is computing: the run says so, and its own log too."""
    log = folder / "aims" / "asi.log"
    for _ in range(1200):
        time.sleep(0.05)
        if log.exists() and "calculation 1 begins" in log.read_text():
            return
    pytest.fail("no calculation ever began")
