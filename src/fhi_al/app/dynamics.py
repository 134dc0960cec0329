"""The MD that a run from Python can have: thermostats, with units in their arguments' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Ramp:
    """A temperature or a pressure that changes evenly, and then stays.

    Parameters
    ----------
    start, end : float
    over : int
        MD steps of a trajectory.
    """

    start: float
    end: float
    over: int


# A number, a ramp, or MD step -> value from there on.
Scheduled = float | Ramp | Mapping[int, float]


@dataclass(frozen=True)
class Dynamics:
    """MD conditions as keys of the MD section; a subclass is a thermostat, by its name.

    Parameters
    ----------
    temperature_K : float, Ramp, mapping, or sequence of these
        A mapping is of MD steps of a trajectory, and what holds from there on.  A sequence makes as
        many MD blocks.
    timestep_fs : float
    seed : int
    name : str, optional
        Of the block, where there are several.
    """

    temperature_K: Scheduled | Sequence[Scheduled]  # noqa: N815
    timestep_fs: float = 1.0
    seed: int = field(default=42, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def keys(self) -> Mapping[str, Any]:
        """Its keys of the MD section; the name of the class is the thermostat."""
        given = self._given()
        thermostat = type(self).__name__
        if thermostat == "NVE":
            return {"stat_ensemble": "NVE", **given}
        return {"stat_ensemble": "NVT", "thermostat": thermostat, **given}

    def _given(self) -> dict[str, Any]:
        found = {one.name: _written(getattr(self, one.name)) for one in fields(self)}
        return {_MD_KEYS.get(name, name): value for name, value in found.items()}


def _written(value: Any) -> Any:
    """A value as the file has it."""
    if isinstance(value, Ramp):
        return {"from": value.start, "to": value.end, "over": value.over}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_written(each) for each in value]
    return value


_MD_KEYS = {
    "temperature_K": "temperature",
    "timestep_fs": "timestep",
    "friction_per_fs": "friction",
    "time_fs": "thermostat_time",
    "probability": "andersen_prob",
    "pressure_GPa": "pressure",
    "barostat_time_fs": "barostat_time",
}


@dataclass(frozen=True)
class NPT(Dynamics):
    """Constant pressure; of a crystal, with ``MACE(compute_stress=True)``.

    Parameters
    ----------
    barostat : str
        ``CellRescaling``, ``MTK``, ``MTKFlexible`` or ``Berendsen``.
    thermostat : str
        By its name; both MTK have chains of their own.
    options : mapping
        Other keys of the section MD: ``friction``, ``thermostat_time``, ``compressibility``, ...
    """

    pressure_GPa: Scheduled = 0.0  # noqa: N815
    barostat_time_fs: float = 1000.0
    barostat: str = "CellRescaling"
    thermostat: str = "Langevin"
    options: Mapping[str, Any] = field(default_factory=dict)

    def keys(self) -> Mapping[str, Any]:
        """See :meth:`fhi_al.app.dynamics.Dynamics.keys`."""
        given = self._given()
        return {"stat_ensemble": "NPT", **given.pop("options"), **given}


@dataclass(frozen=True)
class NVE(Dynamics):
    """MD without a thermostat; the temperature is that of the starting velocities."""


@dataclass(frozen=True)
class Langevin(Dynamics):
    """Langevin dynamics."""

    friction_per_fs: float = 0.01


@dataclass(frozen=True)
class _WithTime(Dynamics):
    """A thermostat with a time constant."""

    time_fs: float = 100.0


@dataclass(frozen=True)
class Berendsen(_WithTime):
    """Berendsen's thermostat, which does not sample the canonical ensemble."""


@dataclass(frozen=True)
class Bussi(_WithTime):
    """Stochastic velocity rescaling."""


@dataclass(frozen=True)
class NoseHoover(_WithTime):
    """A Nose-Hoover chain."""


@dataclass(frozen=True)
class Andersen(Dynamics):
    """Andersen's thermostat: velocities are redrawn with a probability per step."""

    probability: float = 0.01
