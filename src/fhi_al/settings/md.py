"""The keys of the MD section: ensemble, thermostat and their numbers in ASE's terms."""

from __future__ import annotations

from typing import Annotated, Literal

from fhi_al.settings.schedules import OptionalPressure, Temperature
from fhi_al.settings.value_types import (
    LARGEST_SEED,
    Choice,
    Integer,
    Number,
    OptionalNumber,
    OptionalPlainName,
    Section,
    setting,
)


class MolecularDynamics(Section):
    """The MD that samples, both for the initial dataset and in active learning.

    One block of these keys, or a list of blocks, which trajectories are assigned to in turn.
    """

    name: OptionalPlainName = setting(
        None,
        "Of a block of several: in the log, in tables and in the labels (`md`). Without one it is"
        " called by its temperature (`300K`).",
    )
    stat_ensemble: Annotated[Literal["NVT", "NVE", "NPT"], Choice()] = setting(
        "NVT",
        "Statistical ensemble. NPT needs a crystal without fixed atoms, and `compute_stress`.",
    )
    thermostat: Annotated[
        Literal["Langevin", "Berendsen", "Andersen", "Bussi", "NoseHoover"], Choice()
    ] = setting(
        "Langevin",
        "Thermostat, with NVT and NPT. Berendsen does not sample the canonical ensemble.",
    )
    temperature: Temperature = setting(
        300.0,
        "Temperature of the thermostat and of the first velocities. Also a ramp over MD steps of a"
        " trajectory, `{from: 300, to: 1200, over: 5000}`, or steps, `{0: 300, 2000: 600}`. A list,"
        " `[300, 500, 800]`, makes a block of each.",
        unit="K; > 0",
        try_=300.0,
    )
    timestep: Number = setting(1.0, "Time step.", unit="fs", gt=0, le=20, try_=1.0)
    friction: Number = setting(
        0.01, "Friction of the Langevin thermostat.", unit="1/fs", gt=0, le=1, try_=0.01
    )
    thermostat_time: Number = setting(
        100.0, "Coupling time of Berendsen, Bussi and NoseHoover, and of both MTK.", unit="fs", gt=0
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
    barostat: Annotated[Literal["CellRescaling", "MTK", "MTKFlexible", "Berendsen"], Choice()] = (
        setting(
            "CellRescaling",
            "Barostat, with NPT. All but MTKFlexible keep the cell's shape; both MTK have chains of"
            " their own in place of the thermostat; Berendsen samples no ensemble.",
        )
    )
    pressure: OptionalPressure = setting(
        None,
        "Pressure, with NPT; 0 if it is left out. A ramp or steps as of `temperature`, too.",
        unit="GPa; > -1000 and < 1000",
    )
    barostat_time: OptionalNumber = setting(
        None, "Coupling time of the barostat, with NPT; 1000 if it is left out.", unit="fs", gt=0
    )
    compressibility: Number = setting(
        0.01,
        "Rough guess, for CellRescaling and Berendsen: it scales their coupling time only.",
        unit="1/GPa",
        gt=0,
    )
