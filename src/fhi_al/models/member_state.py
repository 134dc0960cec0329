"""Decide whether a saved state belongs to a member.  Pure: no torch, MACE or files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATE_VERSION = 1


def state_misfit(state: Mapping[str, Any], identity: Mapping[str, Any]) -> str | None:
    """Why a saved state cannot be loaded into a member, or None.

    Parameters
    ----------
    state
        With at least the keys of `identity`.
    identity
        Of the member: version, index, seed, architecture (settings by name), training and
        validation (label keys in order).
    """
    if state["version"] != identity["version"]:
        return f"state of version {state['version']}, this program reads {identity['version']}"
    mine, theirs = identity["architecture"], state["architecture"]
    changed = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
    if "enable_cueq" in changed:
        return (
            "the state was saved by an earlier version of this program with enable_cueq: true, "
            "which then gave weights a layout of their own. Start in a new folder, with the "
            "exported models and the labels of this run."
        )
    if changed:
        message = ", ".join(f"{key}: {theirs.get(key)} -> {mine.get(key)}" for key in changed)
        return (
            f"mace_settings.yaml has changed since the state was saved ({message}). "
            "Put it back, or start in a new folder."
        )
    for key in ("index", "seed"):
        if state[key] != identity[key]:
            return f"the state has {key} {state[key]}, expected {identity[key]}"
    for key in ("training", "validation"):
        if state[key] != identity[key]:
            return (
                f"the {key} set has {len(identity[key])} labels, which are not the "
                f"{len(state[key])} of the state in their order"
            )
    return None
