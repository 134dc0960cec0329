"""Snapshots of earlier versions, made into those of the present one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from fhi_al.active_learning.upgrades import upgraded
from fhi_al.core.run_state import RunState
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


def test_a_setting_that_was_renamed_is_compared_under_its_name_now() -> None:
    snapshot = kept(4)
    before = json.loads(snapshot.files["run.json"])["settings"]
    assert before["ACTIVE_LEARNING.max_setbacks"] == 10
    stored = json.loads(upgraded(snapshot)["run.json"])["settings"]
    assert not [label for label in stored if "setback" in label]
    now = {"ACTIVE_LEARNING.max_rollbacks": 3}
    assert changes(stored, now) == (["ACTIVE_LEARNING.max_rollbacks: 10 -> 3"], [])


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
