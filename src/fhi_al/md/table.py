"""Who moves under which conditions, as the lines of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ase import units

from fhi_al.core.schedule import Quantity, scaled
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.conditions import MDConditions

_HEADER = (
    *("trajectories", "MD block", "ensemble", "thermostat", "barostat"),
    *("temperature (K)", "pressure (GPa)", "time step (fs)"),
)


class Moving(Protocol):
    """What moves, as a :class:`fhi_al.md.system.MDSystem` says it."""

    @property
    def conditions(self) -> MDConditions:
        """Under which it moves."""
        ...

    @property
    def name(self) -> str:
        """Of the system; may be empty."""
        ...

    @property
    def starts(self) -> Sequence[Any]:
        """Where its trajectories begin; empty if at one place."""
        ...


@dataclass(frozen=True)
class Described:
    """A system that does not move yet."""

    conditions: MDConditions
    name: str
    starts: Sequence[Any]


# Trajectories of a block that are named one by one.
_NAMED = 8


def conditions_table(
    trajectories: Sequence[TrajectoryState], moving: Callable[[TrajectoryState], Moving]
) -> list[str]:
    """A header, and a line for each system and MD block; starts where a system has several.

    Parameters
    ----------
    trajectories : sequence of TrajectoryState
    moving : callable
        Trajectory -> what it moves.
    """
    of_pairs: dict[tuple[int, int], list[TrajectoryState]] = {}
    for trajectory in trajectories:
        of_pairs.setdefault((trajectory.system, trajectory.md), []).append(trajectory)
    header, rows = list(_HEADER), []
    systems = [moving(of_it[0]) for of_it in of_pairs.values()]
    for of_it, system in zip(of_pairs.values(), systems, strict=True):
        row = [_listed([one.index for one in of_it]), *_described(system.conditions)]
        if any(each.name for each in systems):
            row.insert(1, system.name)
        if any(each.starts for each in systems):
            row.append(_listed(sorted({one.start for one in of_it})))
        rows.append(row)
    if any(each.name for each in systems):
        header.insert(1, "system")
    if any(each.starts for each in systems):
        header.append("starts")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def _listed(indices: Sequence[int]) -> str:
    if len(indices) <= _NAMED:
        return ", ".join(map(str, indices))
    first = ", ".join(map(str, indices[:3]))
    return f"{first}, ... {indices[-1]} ({len(indices)})"


def _described(md: MDConditions) -> tuple[str, ...]:
    thermostat: str = md.thermostat or "-"
    if md.barostat is not None and md.barostat.startswith("MTK"):
        thermostat = "NoseHoover"
    if md.own_integrator is not None:
        thermostat = "your own integrator"
    ensemble = "NPT" if md.barostat else "NVT" if md.thermostat else "NVE"
    pressure = _plain(scaled(md.pressure, 1 / units.GPa)) if md.barostat else "-"
    return (
        *(md.name, ensemble, thermostat, md.barostat or "-"),
        *(_plain(md.temperature), pressure, f"{md.timestep:g}"),
    )


def _plain(quantity: Quantity) -> str:
    return f"{quantity:g}" if isinstance(quantity, float | int) else str(quantity)
