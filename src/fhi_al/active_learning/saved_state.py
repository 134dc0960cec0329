"""Where a run stands, from the JSON of a snapshot.  Imports no torch."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from fhi_al.core.run_state import RunState

_STATE = TypeAdapter(RunState)


def run_state(content: dict[str, Any]) -> RunState:
    """The state in a snapshot's ``run.json``.

    Raises
    ------
    ValueError, KeyError
        If it is not one of this version.
    """
    return _STATE.validate_python(with_lists_as_tuples(content["state"]))


def with_lists_as_tuples(value: Any) -> Any:
    """What JSON made lists of, as the state has it."""
    if isinstance(value, list):
        return tuple(with_lists_as_tuples(element) for element in value)
    if isinstance(value, dict):
        return {key: with_lists_as_tuples(element) for key, element in value.items()}
    return value
