"""How far above the initial dataset a label may lie for MD to go on from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from label_parts import some_label
from scipy.stats import gamma

from fhi_al.active_learning.excess_energy import ExcessEnergy
from fhi_al.core.plausible import GeometryLimits, thermal_excess
from fhi_al.core.structure import structure
from fhi_al.md.conditions import MDConditions
from fhi_al.md.system import MDSystem

TEMPERATURE = 500.0
CONDITIONS = MDConditions("Langevin", 300.0, 0.5, 0.01, 100.0, 0.01, 1)


@pytest.mark.parametrize("n_atoms", [3, 9, 100])
def test_vibrations_never_come_to_the_limit(n_atoms: int) -> None:
    """The potential energy of 3 N harmonic vibrations has a gamma distribution."""
    kt = units.kB * TEMPERATURE
    energy = gamma(1.5 * n_atoms, scale=kt)
    limit = thermal_excess(n_atoms, TEMPERATURE)
    assert energy.sf(energy.mean() + limit) < 1e-7
    # Counted from the minimum itself the eight standard deviations are left.
    assert energy.sf(limit) < 1e-5
    assert limit == pytest.approx(energy.mean() + 8 * energy.std(), rel=1e-6)


def test_a_broken_bond_is_beyond_it_in_a_molecule() -> None:
    assert thermal_excess(9, TEMPERATURE) < 0.7 * 3.6  # eV, of a C-C bond


def test_auto_goes_by_the_temperature_and_none_by_nothing() -> None:
    at = some_label(1)
    start = structure(at.numbers, at.positions)
    system = MDSystem(start, CONDITIONS, GeometryLimits())
    hot = replace(system, conditions=replace(system.conditions, temperature=900.0))

    def problem(allowed: float | str | None, above: float, md: int = 0) -> str:
        excess = ExcessEnergy(
            allowed,  # type: ignore[arg-type]
            lambda _: at.energy,
            lambda _, block: [system, hot][block],
        )
        return excess.problem(replace(at, energy=at.energy + above), md)

    limit = thermal_excess(len(at.numbers), 300.0)
    assert problem("auto", 0.999 * limit) == ""
    found = problem("auto", 1.001 * limit)
    assert "eV per atom above the mean of the initial dataset" in found
    assert "max_excess_energy" in found
    assert problem("auto", 2.999 * limit, md=1) == ""
    assert problem("auto", 3.001 * limit, md=1)
    assert problem(None, 1e6) == ""
    assert problem(0.1, 0.1001 * len(at.numbers))
    assert problem(0.1, -np.inf) == ""


def test_without_an_initial_dataset_there_is_nothing_to_compare_with() -> None:
    excess = ExcessEnergy("auto", lambda _: None, lambda *_: pytest.fail("not needed"))
    assert excess.problem(some_label(1), 0) == ""
