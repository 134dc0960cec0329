"""The keys of the MD section: ensemble, thermostat and their numbers in ASE's terms."""

from __future__ import annotations

from typing import Annotated, Literal

from fhi_al.settings.value_types import (
    LARGEST_SEED,
    Choice,
    Integer,
    Number,
    OptionalNumber,
    Section,
    setting,
)

NPT_REFUSED = {
    "NPT": "is not supported yet: it needs a model trained on stress. Use NVT or NVE",
}


class MolecularDynamics(Section):
    """The MD that samples, both for the initial dataset and in active learning."""

    stat_ensemble: Annotated[Literal["NVT", "NVE"], Choice(NPT_REFUSED)] = setting(
        "NVT", "Statistical ensemble; NPT is not supported yet."
    )
    thermostat: Annotated[
        Literal["Langevin", "Berendsen", "Andersen", "Bussi", "NoseHoover"], Choice()
    ] = setting(
        "Langevin",
        "Thermostat, with NVT. Berendsen does not sample the canonical ensemble.",
    )
    temperature: Number = setting(
        300.0, "Temperature of the thermostat and of the first velocities.", unit="K", gt=0
    )
    timestep: Number = setting(1.0, "Time step.", unit="fs", gt=0, le=20, try_=1.0)
    friction: Number = setting(
        0.01, "Friction of the Langevin thermostat.", unit="1/fs", gt=0, le=1, try_=0.01
    )
    thermostat_time: Number = setting(
        100.0, "Coupling time of Berendsen, Bussi and NoseHoover.", unit="fs", gt=0
    )
    andersen_prob: Number = setting(
        0.01, "Probability per step that Andersen redraws a velocity.", gt=0, le=1, try_=0.01
    )
    seed: Integer = setting(
        42,
        "Seed of velocities and thermostats; every trajectory derives its own.",
        ge=0,
        le=LARGEST_SEED,
    )
    pressure: OptionalNumber = setting(
        None, "Pressure, with NPT; not supported yet.", unit="eV/A^3"
    )
    barostat_time: OptionalNumber = setting(
        None, "Coupling time of the barostat, with NPT; not supported yet.", unit="fs", gt=0
    )
