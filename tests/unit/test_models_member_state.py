"""A saved state is loaded into the member it belongs to and no other."""

from __future__ import annotations

from typing import Any

import pytest

from fhi_al.models.member_state import STATE_VERSION, state_misfit


def identity(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "version": STATE_VERSION,
        "index": 0,
        "seed": 5,
        "architecture": {"r_max": 5.0, "elements": [1, 8]},
        "training": ["a", "b"],
        "validation": ["c"],
    }
    return {**values, **changes}


def test_own_state_fits() -> None:
    assert state_misfit({**identity(), "model": {}}, identity()) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": STATE_VERSION + 1}, f"version {STATE_VERSION + 1}"),
        ({"index": 1}, "index 1, expected 0"),
        ({"seed": 6}, "seed 6, expected 5"),
        ({"architecture": {"r_max": 4.0, "elements": [1, 8]}}, "(r_max: 4.0 -> 5.0)"),
        ({"architecture": {"r_max": 5.0}}, "elements: None -> [1, 8]"),
        (
            {"architecture": {"r_max": 5.0, "elements": [1, 8], "enable_cueq": True}},
            "Start in a new folder, with the exported models",
        ),
        ({"training": ["b", "a"]}, "the training set has 2 labels"),
        ({"validation": []}, "the validation set has 1 labels"),
    ],
)
def test_what_differs_is_named(changes: dict[str, Any], message: str) -> None:
    assert message in str(state_misfit(identity(**changes), identity()))
