"""The names that ``reference_engine`` may have.  Loads no engine: packages say only their names."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fhi_al.settings.value_types import Choice

GROUP = "fhi_al.engines"
OURS = ("aims", "tblite", "ase")
# An engine object, which only Python can hand over; of no use in a file.
OBJECT = "object"


def of_packages() -> tuple[str, ...]:
    """Names of the engines that installed packages bring."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)} - set(OURS)))


class EngineName(Choice):
    """Marks a text that names an engine, in upper or lower case."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def read(value: object) -> object:
            if value == OBJECT:
                return value
            return self.canonical(value, (*OURS, *of_packages()))

        return core_schema.no_info_before_validator_function(read, handler(source))
