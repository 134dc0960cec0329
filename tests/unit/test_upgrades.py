"""Snapshots of earlier versions, made into those of the present one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from fhi_al.active_learning.frames import frame_at
from fhi_al.active_learning.restart import continuation, saved_run
from fhi_al.active_learning.upgrades import given_by_older_program, upgraded
from fhi_al.core.convergence import ConvergenceStage
from fhi_al.core.improvement import BestError
from fhi_al.core.run_state import PendingPoint, RunState
from fhi_al.core.structure import Structure, structure
from fhi_al.labels.label_file import LabelFile
from fhi_al.settings.changes import changes
from fhi_al.storage.checkpoint import STATE_VERSION, Snapshot, read_snapshot

OLD_STATES = Path(__file__).parents[1] / "workflow" / "old_states"
STATE = TypeAdapter(RunState)


def kept(version: int) -> Snapshot:
    """The snapshot of an old version that is kept among the tests."""
    found = read_snapshot(OLD_STATES / f"version_{version}" / "restart")
    assert found is not None and found.version == version
    return found


def state_in(files: Any) -> dict[str, Any]:
    """The run's state in a snapshot's files."""
    state: dict[str, Any] = json.loads(files["run.json"])["state"]
    return state


@pytest.mark.parametrize("version", range(1, STATE_VERSION))
def test_an_old_state_has_all_fields_of_the_present_one_and_no_others(version: int) -> None:
    """A field that is not renamed would be lost in silence where the present one has a default."""
    now = state_in(upgraded(kept(version)))
    assert now["active"] is not None
    assert STATE.dump_python(STATE.validate_python(now), mode="json") == now


def test_version_4_keeps_what_was_under_way() -> None:
    snapshot = kept(4)
    before = state_in(snapshot.files)["active"]
    assert [label["frame"]["step"] for label in before["asked"]] == [40, 40, 45]
    assert [t["setbacks"] for t in before["trajectories"]] == [1, 1, 1]
    state = STATE.validate_python(state_in(upgraded(snapshot)))
    now = state.active
    assert now is not None
    assert [label.frame.step for label in now.pending] == [40, 40, 45]
    assert [t.rollbacks for t in now.trajectories] == [1, 1, 1]
    assert [t.rollbacks_in_row for t in now.trajectories] == [0, 0, 1]
    assert now.next_round == before["next_visit"] == 3
    assert len(now.pairs[0].values) == 19
    assert now.pairs[0].reported == before["pairs"][0]["told"] > 3
    assert len(state.test) == 18 and state.events == 16


def test_a_convergence_of_version_4_goes_on_in_its_first_stage() -> None:
    snapshot = kept(4)
    content = json.loads(snapshot.files["run.json"])
    mean, each = ({"best": best, "best_epoch": 15, "epoch": 25} for best in (0.04, 0.03))
    before = {"members": [0, 2], "ensemble": mean, "each": [each, each]}
    content["state"]["convergence"] = before
    files = {**snapshot.files, "run.json": json.dumps(content).encode(), "best_2.pt": b"weights"}
    found = upgraded(replace(snapshot, files=files))
    now = STATE.validate_python(state_in(found)).convergence
    assert now is not None
    assert (now.members, now.stage, now.diverged) == ((0, 2), ConvergenceStage.FIRST, ())
    assert now.course.forces == BestError(0.04, 15, 25)
    assert now.course.epochs_without_improvement == 0  # energies and loss: from here on
    assert now.stages[0].errors == ()  # to be measured
    assert found["best_first_2.pt"] == b"weights" and "best_2.pt" not in found


def test_version_6_keeps_whose_turn_it_is_to_sample() -> None:
    before = state_in(kept(6).files)["sampling"]
    assert before["n_sampled"] == 8 and len(before["trajectories"]) == 2
    now = STATE.validate_python(state_in(upgraded(kept(6)))).sampling
    assert (now.sampled, now.n_displaced) == ((8,), 0)
    assert [t.step for t in now.trajectories] == [t["step"] for t in before["trajectories"]]


def test_version_7_has_been_given_all_that_is_computed_but_what_it_waits_for() -> None:
    state = STATE.validate_python(state_in(upgraded(kept(7))))
    assert state.given is None
    store = OLD_STATES / "version_7" / "restart" / "labels.jsonl"
    records = list(LabelFile(store, None, "").records.values())
    keys = [record.key for record in records]
    assert len(keys) == 11 and state.active is not None and len(state.active.pending) == 3
    assert list(given_by_older_program(state, records)) == keys  # none of the three has come
    # As if one of them, and a point of the initial dataset, had come unseen.
    here = frame_at(20, records[-1].positions, records[-1].cell)
    first = frame_at(0, records[0].positions, records[0].cell)
    arrived = replace(state.active.pending[0], frame=here)
    state = replace(
        state,
        sampling=replace(state.sampling, pending=(PendingPoint(None, first),)),
        active=replace(state.active, pending=(arrived, *state.active.pending[1:])),
    )
    assert list(given_by_older_program(state, records)) == keys[1:-1]
    imported = replace(records[5], origin=replace(records[5].origin, phase="imported"))
    records[5] = imported
    assert list(given_by_older_program(state, records)) == [*keys[1:5], *keys[6:-1]]


@pytest.mark.parametrize("began", ["with data", "with MD", "and has added systems"])
def test_only_a_run_that_has_sampled_nothing_can_do_without(began: str) -> None:
    """FHI_AL-al would import an initial dataset into one that has its sets already."""
    files = dict(upgraded(kept(6)))
    content = json.loads(files["run.json"])
    state = content["state"]
    state["stage"] = "initial sampling"
    if began != "with MD":
        state["sampling"] |= {"sampled": [], "trajectories": []}
    if began != "and has added systems":
        state["active"] = None
    (given,) = content["systems"]
    pbc, masses = given.pop("pbc"), given.pop("masses")
    water = Structure(pbc=pbc, masses=masses, **{name: np.array(given[name]) for name in given})
    content["systems"] = [{**given, "pbc": pbc, "masses": masses}]
    files["run.json"] = json.dumps(content).encode()
    found = continuation(Path(), files, content["settings"], [water], changes)
    assert found.has_sampled == (began != "with data")


def test_a_setting_that_was_renamed_is_compared_under_its_name_now() -> None:
    snapshot = kept(4)
    before = json.loads(snapshot.files["run.json"])["settings"]
    assert before["ACTIVE_LEARNING.max_setbacks"] == 10
    stored = json.loads(upgraded(snapshot)["run.json"])["settings"]
    assert not [label for label in stored if "setback" in label]
    now = {"ACTIVE_LEARNING.max_rollbacks": 3}
    assert changes(stored, now) == (["ACTIVE_LEARNING.max_rollbacks: 10 -> 3"], [])


@pytest.mark.parametrize(("version", "sets"), [(2, "own"), (4, "own"), (5, "shared"), (6, "own")])
def test_members_keep_their_own_points_where_there_was_no_choice(version: int, sets: str) -> None:
    settings = json.loads(upgraded(kept(version))["run.json"])["settings"]
    assert settings["ACTIVE_LEARNING.initial_sets"] == sets


@pytest.mark.parametrize("version", range(1, STATE_VERSION))
def test_old_runs_go_on_with_the_elements_masses(version: int) -> None:
    restart = OLD_STATES / f"version_{version}" / "restart"
    content = json.loads(upgraded(kept(version))["run.json"])
    water = structure([8, 1, 1], np.eye(3))
    if content["systems"] is not None:  # version 1 did not say
        (given,) = content["systems"]
        assert given.pop("masses") is None
        pbc = given.pop("pbc")
        water = Structure(pbc=pbc, **{name: np.array(given[name]) for name in given})
    values = content["settings"] | {"TRAINING.lr": 0.0}

    def unchanged(_before: Any, _now: Any) -> tuple[list[str], list[str]]:
        return [], []

    files = saved_run(restart)
    assert files is not None
    found = continuation(restart, files, values, [water], unchanged)
    assert found is not None
    assert found.masses == (None,) and found.changes == []
    heavy = replace(water, masses=np.array([15.999, 2.014, 1.008]))
    found = continuation(restart, files, values, [heavy], unchanged)
    assert found is not None
    assert found.masses == (None,)
    (message,) = found.changes
    assert "H 1.008 -> 2.014 u (not applied: a run keeps the masses it began with)" in message


def test_version_3_gets_an_empty_test_set_no_duplicates_and_no_pairs() -> None:
    for active in (None, {"uncertainties": [{}]}):
        content = {"state": {"stage": "active learning", "active": active}, "threads": 1}
        files = upgraded(Snapshot(3, {"run.json": json.dumps(content).encode(), "a.pt": b"x"}), 4)
        state = json.loads(files["run.json"])["state"]
        assert state["test"] == []
        assert state["test_mae_forces"] is None
        new = {
            "n_test": 0,
            "n_duplicates": 0,
            "pairs": [{"values": [], "seen": 0, "told": None}],
        }
        assert state["active"] == (None if active is None else {**active, **new})
        assert files["a.pt"] == b"x"
