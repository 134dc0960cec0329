"""The MD that a run from Python can have: thermostats, with units in their arguments' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Dynamics:
    """MD conditions as keys of the MD section; a subclass is a thermostat, by its name."""

    temperature_K: float  # noqa: N815
    timestep_fs: float = 1.0
    seed: int = field(default=42, kw_only=True)

    def keys(self) -> Mapping[str, Any]:
        """Its keys of the MD section; the name of the class is the thermostat."""
        given = {_MD_KEYS.get(one.name, one.name): getattr(self, one.name) for one in fields(self)}
        thermostat = type(self).__name__
        if thermostat == "NVE":
            return {"stat_ensemble": "NVE", **given}
        return {"stat_ensemble": "NVT", "thermostat": thermostat, **given}


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

    pressure_GPa: float = 0.0  # noqa: N815
    barostat_time_fs: float = 1000.0
    barostat: str = "CellRescaling"
    thermostat: str = "Langevin"
    options: Mapping[str, Any] = field(default_factory=dict)

    def keys(self) -> Mapping[str, Any]:
        """See :meth:`Dynamics.keys`."""
        given = {_MD_KEYS.get(one.name, one.name): getattr(self, one.name) for one in fields(self)}
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
