"""The displaced structures of a run, from its settings: what --check and the run itself have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from fhi_al.app.options import md_conditions
from fhi_al.app.systems import conditions_of
from fhi_al.core.displaced import CannotDisplace, DisplacedRule, DisplacedSystem
from fhi_al.core.displaced_list import DisplacedList
from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.schedule import highest
from fhi_al.core.stiffness import thermal_amplitudes
from fhi_al.core.structure import Array, Structure
from fhi_al.engines.inputs import Inputs, SystemInput
from fhi_al.md.atoms import radii_of
from fhi_al.settings import Settings

AL = "ACTIVE_LEARNING"
# Of `auto`, where there are labels with a stress.
STRAINED, VOLUMES = 20, 7
USUAL_CUTOFF = 5.0  # A


def displaced_list(settings: Settings, inputs: Inputs, limits: GeometryLimits) -> DisplacedList:
    """The structures of the source `displaced`; drawn when they are first asked for.

    Parameters
    ----------
    settings : Settings
        With those of the models.
    inputs : Inputs
    limits : GeometryLimits
    """
    assert settings.mace is not None
    conditions, moving = md_conditions(settings), conditions_of(settings, inputs)
    temperatures = [
        max(highest(conditions[block].temperature) for block in one.blocks) for one in moving
    ]
    return DisplacedList(
        systems=[
            _system(settings, one.system, inputs.each[one.system], temperature)
            for one, temperature in zip(moving, temperatures, strict=True)
        ],
        rules=[_rule(settings, inputs.systems[one.system]) for one in moving],
        limits=limits,
        # Not every kind of models has one.
        cutoff=float(getattr(settings.mace.architecture, "r_max", USUAL_CUTOFF)),
        goes_on=settings.al.sources == ("displaced",),
    )


def displaced_problems(settings: Settings, inputs: Inputs, limits: GeometryLimits) -> Iterator[str]:
    """What keeps displaced structures from being made, or from being what was asked for."""
    al = settings.al
    if "displaced" not in al.sources:
        return

    def problem(key: str, message: str) -> str:
        return str(settings.problem("active_learning", f"{AL}.displaced.{key}", message))

    if not any(system.pbc for system in inputs.systems):
        for key in ("strained", "volumes"):
            if getattr(al.displaced, key) not in ("auto", 0):
                path = inputs.geometries[0].path
                yield problem(key, f"{path} is a molecule, which has no cell. Set it to 0")
    try:
        n_first = len(displaced_list(settings, inputs, limits).first)
    except CannotDisplace as error:
        yield problem("rattle", f"{error}. Take less, or lower min_distance")
        return
    if n_first == 0:
        yield str(
            settings.problem(
                "active_learning",
                f"{AL}.initial_sampling",
                "names displaced structures, of which there are none. Give displaced.rattled, or "
                "take displaced out",
            )
        )


def _rule(settings: Settings, system: Structure) -> DisplacedRule:
    keys = settings.al.displaced
    has_stress = system.pbc and settings.computes_stress

    def number(given: int | Literal["auto"], usual: int) -> int:
        if given == "auto":
            return usual if has_stress else 0
        return given if system.pbc else 0

    return DisplacedRule(
        rattled=keys.rattled,
        strained=number(keys.strained, STRAINED),
        volumes=number(keys.volumes, VOLUMES),
        strain=keys.strain,
        volume_range=keys.volume_range,
        seed=keys.seed,
    )


def _system(
    settings: Settings, index: int, given: SystemInput, temperature: float
) -> DisplacedSystem:
    own = given.structure
    starts = [replace(own, positions=positions, cell=cell) for positions, cell in given.starts]
    starts = starts or [own]
    amplitudes = [_amplitudes(settings, start, temperature) for start in starts]
    return DisplacedSystem(index, starts, amplitudes, radii_of(own))


def _amplitudes(settings: Settings, system: Structure, temperature: float) -> Array:
    given = settings.al.displaced.rattle
    if given == "auto":
        return thermal_amplitudes(system, temperature)
    return np.full(len(system), given)
