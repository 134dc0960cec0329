"""Who moves under which conditions, as the lines of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ase import units

from fhi_al.core.schedule import Quantity, scaled
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.conditions import MDConditions

_HEADER = (
    *("trajectories", "MD block", "ensemble", "thermostat", "barostat"),
    *("temperature (K)", "pressure (GPa)", "time step (fs)"),
)
# Trajectories of a block that are named one by one.
_NAMED = 8


def conditions_table(
    trajectories: Sequence[TrajectoryState], conditions: Callable[[TrajectoryState], MDConditions]
) -> list[str]:
    """A header, and a line for each MD block.

    Parameters
    ----------
    trajectories : sequence of TrajectoryState
    conditions : callable
        Trajectory -> what it moves under.
    """
    of_blocks: dict[int, list[TrajectoryState]] = {}
    for trajectory in trajectories:
        of_blocks.setdefault(trajectory.md, []).append(trajectory)
    rows = [
        (_listed([one.index for one in of_it]), *_described(conditions(of_it[0])))
        for of_it in of_blocks.values()
    ]
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEADER, *rows)
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
