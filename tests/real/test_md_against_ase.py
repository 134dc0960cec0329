"""Step by step against ASE's integrators where they are the same scheme."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixCom
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet
from md_parts import Springs, conditions, crystal, molecule

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Structure
from fhi_al.md.atoms import atoms_of
from fhi_al.md.conditions import can_drift
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import forces_of_calculator
from fhi_al.md.integrator import Forces, Integrator, Noise
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.mtk import MTK, flexible, flexible_energy, isotropic_energy
from fhi_al.md.point import MDPoint, random_stream
from fhi_al.md.state import Constants, MDState, state_of
from fhi_al.md.system import MDSystem

pytestmark = pytest.mark.real

# Sums in another order: 1e-16 of positions of some A; MD of a few steps makes it 100 times as much.
ROUNDING = 1e-12
HALF = np.repeat([[True], [False]], 3, axis=0).repeat(3, axis=1)
FS = units.fs


def verlet(atoms: Atoms, system: MDSystem, generator: np.random.Generator) -> Any:
    return VelocityVerlet(atoms, system.conditions.timestep * FS)


def langevin(atoms: Atoms, system: MDSystem, generator: np.random.Generator) -> Any:
    md = system.conditions
    if can_drift(system.structure):
        atoms.set_constraint(FixCom())
    return Langevin(
        atoms,
        md.timestep * FS,
        temperature_K=md.temperature,
        friction=md.friction / FS,
        fixcm=False,
        rng=generator,
    )


def andersen(atoms: Atoms, system: MDSystem, generator: np.random.Generator) -> Any:
    md = system.conditions
    return Andersen(
        atoms,
        md.timestep * FS,
        temperature_K=md.temperature,
        andersen_prob=md.andersen_prob,
        fixcm=can_drift(system.structure),
        rng=generator,
    )


def bussi(atoms: Atoms, system: MDSystem, generator: np.random.Generator) -> Any:
    md = system.conditions
    made = Bussi(
        atoms,
        md.timestep * FS,
        temperature_K=md.temperature,
        taut=md.thermostat_time * FS,
        rng=generator,
    )
    # ASE counts coordinates that cannot move.
    made.ndof = int(system.constants.degrees_of_freedom[0])
    made.target_kinetic_energy = 0.5 * units.kB * md.temperature * made.ndof
    return made


def berendsen(atoms: Atoms, system: MDSystem, generator: np.random.Generator) -> Any:
    md = system.conditions
    ratio = system.constants.degrees_of_freedom[0] / atoms.get_number_of_degrees_of_freedom()
    return NVTBerendsen(
        atoms,
        md.timestep * FS,
        temperature_K=md.temperature * ratio,
        taut=md.thermostat_time * FS,
        fixcm=can_drift(system.structure),
    )


def nose_hoover(atoms: Atoms, system: MDSystem, generator: np.random.Generator) -> Any:
    md = system.conditions
    made = NoseHooverChainNVT(
        atoms, md.timestep * FS, temperature_K=md.temperature, tdamp=md.thermostat_time * FS
    )
    thermostat = made._thermostat
    thermostat._num_atoms_global = system.constants.degrees_of_freedom[0] / 3
    thermostat._Q[0] *= system.constants.degrees_of_freedom[0] / (3 * len(atoms))
    return made


SCHEMES: dict[Any, Callable[..., Any]] = {
    None: verlet,
    "Langevin": langevin,
    "Andersen": andersen,
    "Bussi": bussi,
    "Berendsen": berendsen,
    "NoseHoover": nose_hoover,
}


@pytest.mark.parametrize("name", ["molecule", "crystal", "half fixed"])
@pytest.mark.parametrize("thermostat", SCHEMES)
def test_thermostats_are_those_of_ase(thermostat: Any, name: str) -> None:
    structure: Structure = {
        "molecule": molecule(), "crystal": crystal(), "half fixed": molecule(HALF)
    }[name]  # fmt: skip
    if thermostat == "NoseHoover" and name == "half fixed":
        pytest.skip("ASE's keeps forces on fixed coordinates in its own momenta")
    system = MDSystem(structure, conditions(thermostat), GeometryLimits())
    calculator: Any = EMT() if structure.pbc else Springs(structure.positions)
    trajectory = LiveTrajectory.start(system, random_stream(1))
    atoms, generator = atoms_of(structure), random_stream(1)
    atoms.set_momenta(system.start(generator).momenta, apply_constraint=False)
    atoms.calc = calculator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamics = SCHEMES[thermostat](atoms, system, generator)
    for _ in range(30):
        (point,) = advance([trajectory], [system], [1], forces_of_calculator(calculator))
        assert isinstance(point, MDPoint)
        trajectory.point = point
        dynamics.step()
        assert point.positions == pytest.approx(atoms.positions, abs=ROUNDING)
        # ASE divides differences of positions by the time step.
        assert point.momenta == pytest.approx(atoms.get_momenta(), abs=20 * ROUNDING)
    assert trajectory.random_state() == dict(generator.bit_generator.state)
    assert np.abs(trajectory.point.positions - structure.positions).max() > 0.01


# ------------------------------------------------------------------------------ constant pressure


def aluminium() -> Atoms:
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.05, seed=1)
    strain = np.array([[0, 0.01, 0], [0.01, 0, 0.02], [0, 0.02, 0]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain))
    atoms.calc = EMT()
    return atoms


def constants_of(atoms: Atoms, pressure: float) -> Constants:
    """As ASE counts: all coordinates, the centre of mass too."""
    structure = Structure(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        True,
        np.zeros((len(atoms), 3), dtype=bool),
        np.zeros(len(atoms)),
        np.zeros(len(atoms)),
    )
    md = conditions(
        "NoseHoover", barostat="MTK", pressure=pressure, barostat_time=100.0, thermostat_time=50.0
    )
    own = MDSystem(structure, md, GeometryLimits()).constants
    return replace(own, degrees_of_freedom=np.array([3.0 * len(atoms)]))


def forces_on(atoms: Atoms, state: MDState) -> Forces:
    moved = atoms.copy()
    moved.set_cell(state.cells[0])
    moved.positions = state.positions
    moved.calc = EMT()
    return Forces(moved.get_forces(), moved.get_stress(voigt=False)[None])


@pytest.mark.parametrize("kind", ["isotropic", "flexible"])
def test_constant_pressure_is_that_of_ase(kind: str) -> None:
    pressure = 5 * units.GPa
    atoms = aluminium()
    atoms.set_momenta(np.random.default_rng(1).normal(0, 1.5, (4, 3)))
    constants = constants_of(atoms, pressure)
    scheme: Integrator = MTK if kind == "isotropic" else flexible(9.0)
    point = MDPoint(atoms.positions.copy(), atoms.get_momenta(), atoms.cell.array.copy())
    state = state_of([point], dict(scheme.variables))
    theirs: Any = {"isotropic": IsotropicMTKNPT, "flexible": MTKNPT}[kind](
        atoms, 1.0 * FS, 300.0, pressure, tdamp=50 * FS, pdamp=100 * FS
    )
    forces, noise = forces_on(atoms, state), Noise.none(1, 4).step(0)
    energies = []
    for _ in range(30):
        state = scheme.first_half(state, constants, forces, noise)
        forces = forces_on(atoms, state)
        state = scheme.second_half(state, constants, forces, noise)
        theirs.step()
        assert state.positions == pytest.approx(atoms.positions, abs=ROUNDING)
        assert state.cells[0] == pytest.approx(atoms.cell.array, abs=ROUNDING)
        assert state.momenta == pytest.approx(atoms.get_momenta(), abs=1e-11)
        rest: Any = (
            isotropic_energy(state, constants)
            if kind == "isotropic"
            else flexible_energy(state, constants, 9.0)
        )
        kinetic = constants.kinetic_energy(state.momenta)
        energies.append(float((rest + kinetic)[0]) + atoms.get_potential_energy())
        assert energies[-1] == pytest.approx(theirs.get_conserved_energy(), abs=1e-9)  # eV
    assert not np.allclose(state.cells[0], point.cell, atol=0.01)
