"""The displaced structures of a run, from its settings: what --check and the run itself have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np

from fhi_al.app.derived import DerivedSystem, derived_systems
from fhi_al.app.options import md_conditions
from fhi_al.app.systems import conditions_of
from fhi_al.core.derived import FEWEST_ATOMS
from fhi_al.core.displaced import (
    CannotDisplace,
    Displaced,
    DisplacedRule,
    DisplacedSystem,
    Kind,
    Vacancy,
    dimers,
    vacancies,
)
from fhi_al.core.displaced_list import DisplacedList
from fhi_al.core.label import DERIVED_KINDS
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
    systems = [
        _system(settings, one.system, inputs.each[one.system], temperature)
        for one, temperature in zip(moving, temperatures, strict=True)
    ]
    rules = [_rule(settings, inputs.systems[one.system]) for one in moving]
    # Not every kind of models has one.
    cutoff = float(getattr(settings.mace.architecture, "r_max", USUAL_CUTOFF))
    places = {name: place for place, name in enumerate(inputs.names)}
    derived = [(places[one.given.name], one) for one in derived_systems(settings, inputs)]
    keys = settings.al.displaced
    return DisplacedList(
        systems=systems,
        rules=rules,
        limits=limits,
        cutoff=cutoff,
        goes_on=settings.al.sources == ("displaced",),
        others=_Others(derived, keys.dimers, keys.dimer_contact, cutoff, systems, rules, limits),
    )


@dataclass(frozen=True, eq=False)
class _Others:
    """Makes the structures of other atoms than the systems': dimers by pair, vacancies by crystal.

    Parameters
    ----------
    derived : sequence of (int, DerivedSystem)
        With their places among the systems.
    n_dimers : int
        Of each pair of elements.
    contact : float
        Their shortest distance, in sums of covalent radii.
    cutoff : float
        In A.
    systems, rules : sequences of DisplacedSystem and DisplacedRule
        The run's own.
    limits : GeometryLimits
    """

    derived: Sequence[tuple[int, DerivedSystem]]
    n_dimers: int
    contact: float
    cutoff: float
    systems: Sequence[DisplacedSystem]
    rules: Sequence[DisplacedRule]
    limits: GeometryLimits

    def __call__(self) -> list[list[Displaced]]:
        found: list[list[Displaced]] = []
        out: dict[int, list[Vacancy]] = {}
        for index, one in self.derived:
            if one.kind is Kind.DIMER:
                contact = self.contact * float(radii_of(one.given.structure).sum())
                found.append(dimers(index, contact, self.cutoff, self.n_dimers))
            else:
                out.setdefault(one.parent, []).extend(Vacancy(site, index) for site in one.sites)
        for parent, sites in out.items():
            whole, rule = self.systems[parent], self.rules[parent]
            found.append(vacancies(whole, rule, self.limits, sites))
        return found


def displaced_problems(settings: Settings, inputs: Inputs, limits: GeometryLimits) -> Iterator[str]:
    """What keeps displaced structures from being made, or from being what was asked for."""
    al = settings.al
    if "displaced" not in al.sources:
        return

    def problem(key: str, message: str) -> str:
        return str(settings.problem("active_learning", f"{AL}.displaced.{key}", message))

    crystals = [one.structure for one in inputs.moving if one.structure.pbc]
    if not crystals:
        for key in ("strained", "volumes", "vacancies"):
            if getattr(al.displaced, key) not in ("auto", 0):
                path = inputs.geometries[0].path
                yield problem(key, f"{path} is a molecule, which has no cell. Set it to 0")
    elif al.displaced.vacancies and min(map(len, crystals)) < FEWEST_ATOMS:
        yield problem(
            "vacancies", f"needs cells of at least {FEWEST_ATOMS} atoms. Take a supercell"
        )
    try:
        found = displaced_list(settings, inputs, limits)
        is_empty = not found.first
    except CannotDisplace as error:
        yield problem("rattle", f"{error}. Take less, or lower min_distance")
        return
    if is_empty:
        yield str(
            settings.problem(
                "active_learning",
                f"{AL}.initial_sampling",
                "names displaced structures, of which there are none. Give displaced.rattled, or "
                "take displaced out",
            )
        )
    for key in ("dimers", "vacancies"):
        if getattr(al.displaced, key) > 0:
            n_derived = sum(each.kind in DERIVED_KINDS for each in found.first)
            yield from (problem(key, why) for why in _against_others(settings, n_derived))


def _against_others(settings: Settings, n_derived: int) -> Iterator[str]:
    """Why there cannot be so many structures of other atoms than the run's systems."""
    assert settings.mace is not None
    if not settings.mace.architecture.atomic_energies:
        yield (
            "needs ARCHITECTURE.atomic_energies in mace_settings.yaml: without E0s energies of"
            " other compositions mean nothing. FHI_AL-atomic-energies computes them"
        )
    al = settings.al
    first_round = ceil(al.n_samples * al.ensemble_size * al.calls_per_point)
    if al.label_budget is not None and al.label_budget <= first_round + n_derived:
        yield (
            f"{n_derived} dimers and vacancies come on top of the {first_round} calculations of"
            f" the first round: expected fewer than label_budget = {al.label_budget} in all. Take"
            " fewer, or more label_budget"
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
