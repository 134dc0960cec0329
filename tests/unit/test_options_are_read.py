"""Every option that the wiring fills from the settings is read by a part of the loop."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterable
from pathlib import Path

import fhi_al
from fhi_al.active_learning import options

SOURCE = Path(fhi_al.__path__[0])
# Where options are defined and filled: what only these read is read by nothing.
NOT_A_READER = {SOURCE / "active_learning" / "options.py", SOURCE / "app" / "options.py"}


def all_options() -> set[str]:
    """Names of the fields of all options."""
    classes = (each for _, each in inspect.getmembers(options, dataclasses.is_dataclass))
    return {field.name for each in classes for field in dataclasses.fields(each)}


def read_by_nothing(names: Iterable[str]) -> set[str]:
    """Those that no module reads as an attribute of anything."""
    read = {
        node.attr
        for path in SOURCE.rglob("*.py")
        if path not in NOT_A_READER
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    return set(names) - read


def test_every_option_is_read() -> None:
    assert len(all_options()) > 30
    assert read_by_nothing(all_options()) == set()


def test_an_option_that_nothing_reads_is_found() -> None:
    assert read_by_nothing({"max_epochs", "an_invented_option"}) == {"an_invented_option"}
