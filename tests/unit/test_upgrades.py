"""A snapshot of the version before this one."""

from __future__ import annotations

import json

from fhi_al.active_learning.upgrades import upgraded
from fhi_al.storage.checkpoint import Snapshot


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
