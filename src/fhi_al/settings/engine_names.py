"""The names that ``reference_engine`` may have, and which keys are whose.

Of packages only the names are looked at: their code is loaded when one is chosen.
"""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fhi_al.settings import plugins
from fhi_al.settings.plugins import imported
from fhi_al.settings.value_types import Choice

GROUP = "fhi_al.engines"
# As in pyproject.toml, for an installation whose metadata are older than the code.
BUILT_IN = {
    "aims": "fhi_al.engines.aims_kind:Aims",
    "tblite": "fhi_al.engines.ase_kinds:TBLite",
    "ase": "fhi_al.engines.ase_kinds:AseCalculator",
}
# An engine object, which only Python can hand over; of no use in a file.
OBJECT = "object"
ARGUMENTS = "reference_arguments"


def of_packages() -> tuple[str, ...]:
    """Names of the engines that installed packages bring."""
    return tuple(sorted(plugins.of_packages(GROUP).names - set(BUILT_IN)))


def owners() -> dict[str, tuple[str, ...]]:
    """Keys of ACTIVE_LEARNING that only some engines look at, and the names of these engines."""
    found: dict[str, tuple[str, ...]] = {}
    for name, path in BUILT_IN.items():
        for key in imported(path).own_keys:
            found[key] = (*found.get(key, ()), name)
    found[ARGUMENTS] = (*found[ARGUMENTS], *of_packages())
    return found


class EngineName(Choice):
    """Marks a text that names an engine, in upper or lower case."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def read(value: object) -> object:
            if value == OBJECT:
                return value
            return self.canonical(value, (*BUILT_IN, *of_packages()))

        return core_schema.no_info_before_validator_function(read, handler(source))
