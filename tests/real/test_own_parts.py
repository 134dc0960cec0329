"""The parts of one's own that docs/how_to/python.md shows keep what such parts promise."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from md_parts import driver
from md_parts import molecule as six_atoms

from fhi_al.core.structure import structure
from fhi_al.engines import conformance as engine_conformance
from fhi_al.md.atoms import atoms_of
from fhi_al.md.point import random_stream
from fhi_al.models import conformance as model_conformance

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "python"))
import own_parts

pytestmark = pytest.mark.real


def test_the_engine_conforms() -> None:
    water = molecule("H2O")
    engine = own_parts.Springs(water, stiffness=30.0)
    with np.errstate(invalid="ignore", divide="ignore"):  # of atoms in one place
        engine_conformance.check(engine, structure(list(water.numbers), water.positions))


def test_the_models_conform() -> None:
    model_conformance.check(own_parts.LinearModel)


@pytest.mark.parametrize("integrator", [own_parts.COOLED, own_parts.cooled], ids=["own", "ASE's"])
def test_the_integrators_hold_half_of_the_temperature(integrator: object) -> None:
    system = six_atoms()
    md = driver(system, "Langevin", timestep=2.0, own_integrator=integrator)
    generator = random_stream(4)
    point, seen = md.start(generator), []
    masses = atoms_of(system).get_masses()[:, None]
    for block in range(110):
        point = md.advance(point, 10, generator)
        if block >= 10:
            energy = float((point.momenta**2 / (2 * masses)).sum())
            # Langevin turns a molecule: 15 coordinates; 18 with a centre of mass that moves.
            n = 15 if integrator is own_parts.COOLED else 18
            seen.append(2 * energy / (n * units.kB))
    # 100 samples of 15 coordinates: 4 % standard error, four of them.
    assert np.mean(seen) == pytest.approx(150.0, rel=0.16)
