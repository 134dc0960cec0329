"""The MD blocks of a run: ladders of temperatures made into blocks, each with a name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fhi_al.settings.clash import Clash
from fhi_al.settings.md import MolecularDynamics


@dataclass(frozen=True)
class MDBlock:
    """One MD block.

    Parameters
    ----------
    name : str
        Its own, or what its temperature is.
    settings : MolecularDynamics
        With one temperature or schedule.
    label : str
        What it is called in the settings: ``MD``, or ``MD[1]``.
    section_name : str or None
        The name that the settings give it, or the ladder that it is a step of.
    """

    name: str
    settings: MolecularDynamics
    label: str
    section_name: str | None = None


def section_label(section: str, n_blocks: int, index: int) -> str:
    """What a block of a section is called: ``MD``, or ``MD[1]`` of several."""
    return section if n_blocks == 1 else f"{section}[{index}]"


def md_blocks(sections: Sequence[MolecularDynamics]) -> tuple[MDBlock, ...]:
    """The blocks of the section MD, in order.

    Notes
    -----
    A block without a name is called by its temperature (``300K``, ``300-1200K``), a step of a
    ladder by its block's name and that; where another has that name already, its number in the
    list follows (``300K-2``).
    """
    taken = {one.name for one in sections if one.name and not isinstance(one.temperature, list)}
    found: list[MDBlock] = []
    for index, section in enumerate(sections):
        label = section_label("MD", len(sections), index)
        is_ladder = isinstance(section.temperature, list)
        for temperature in _temperatures(section):
            name = section.name
            if name is None or is_ladder:
                name = _free("-".join(filter(None, (name, _word(temperature)))), taken, len(found))
            taken.add(name)
            one = section.model_copy(update={"temperature": temperature, "name": name})
            found.append(MDBlock(name, one, label, section.name))
    return tuple(found)


def _temperatures(section: MolecularDynamics) -> list[Any]:
    given: Any = section.temperature
    return given if isinstance(given, list) else [given]


def _free(name: str, taken: set[str], index: int) -> str:
    if name not in taken:
        return name
    number = index
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


def _word(temperature: Any) -> str:
    """What a temperature is called in a name."""
    if not isinstance(temperature, dict):
        return f"{temperature:g}K"
    if "over" in temperature:
        values = [temperature["from"], temperature["to"]]
    else:
        values = [temperature[step] for step in sorted(temperature)]
    return "-".join(f"{value:g}" for value in values[:1] + values[1:][-1:]) + "K"


def md_problems(sections: Sequence[MolecularDynamics]) -> Iterator[Clash]:
    """What contradicts itself in the section MD."""
    names: dict[str, int] = {}
    for index, section in enumerate(sections):
        label = section_label("MD", len(sections), index)
        if section.name in names:
            yield Clash(
                (f"{label}.name",),
                f"is the name of MD[{names[section.name]}], too: labels would not say which block"
                " they are of. Give each block a name of its own",
            )
        elif section.name is not None:
            names[section.name] = index
        changes = any(isinstance(one, dict) for one in _temperatures(section))
        if section.stat_ensemble == "NVE" and changes:
            yield Clash(
                (f"{label}.temperature", f"{label}.stat_ensemble"),
                "NVE has no thermostat that could follow it. Give one temperature, or use NVT",
            )
