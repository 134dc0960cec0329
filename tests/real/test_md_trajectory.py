"""One trajectory alone: physics, exact resume, fixed atoms, explosions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from md_parts import THERMOSTATS, Alone, Springs, bits, conditions, crystal, driver, molecule
from scipy.stats import chi2

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Structure, structure
from fhi_al.md.atoms import atoms_of, constraints_of
from fhi_al.md.checks import hottest
from fhi_al.md.conditions import degrees_of_freedom
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint, random_stream
from fhi_al.md.system import MDSystem

pytestmark = pytest.mark.real

NVT = [thermostat for thermostat in THERMOSTATS if thermostat is not None]
HALF = np.repeat([[True], [False]], 3, axis=0).repeat(3, axis=1)  # three of six atoms
ONE_COORDINATE = np.zeros((6, 3), dtype=bool)
ONE_COORDINATE[2, 1] = True


def masses(system: Structure) -> np.ndarray:
    return atoms_of(system).get_masses()[:, None]


def kinetic_energy(system: Structure, point: MDPoint) -> float:
    return float((point.momenta**2 / (2 * masses(system))).sum())


# ---------------------------------------------------------------------------------- physics


def test_nve_conserves_the_energy_of_a_crystal() -> None:
    system = crystal()
    nve = driver(system, None, EMT(), timestep=2.0)
    generator = random_stream(1)
    point = nve.start(generator)
    energies = []
    for _ in range(10):
        point = nve.advance(point, 5, generator)
        atoms = atoms_of(system, point.positions)
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy() + kinetic_energy(system, point))
    # 0.3 eV of kinetic energy flow to and fro; velocity Verlet at 2 fs keeps the sum within 1 %.
    assert np.ptp(energies) < 3e-3  # eV
    assert kinetic_energy(system, point) < 0.8 * kinetic_energy(system, nve.start(random_stream(1)))


def test_nve_errors_fall_with_the_square_of_the_timestep() -> None:
    """So it is velocity Verlet that runs, with forces that belong to the positions."""
    system = molecule()
    deviations = []
    for timestep in (2.0, 1.0, 0.5):
        nve = driver(system, None, timestep=timestep)
        point = nve.start(random_stream(1))
        energies = []
        for _ in range(int(40 / timestep)):
            point = nve.advance(point, 1, random_stream(0))
            atoms = atoms_of(system, point.positions)
            atoms.calc = Springs(system.positions)
            energies.append(atoms.get_potential_energy() + kinetic_energy(system, point))
        deviations.append(np.ptp(energies))
    assert deviations[0] / deviations[1] == pytest.approx(4.0, rel=0.3)
    assert deviations[1] / deviations[2] == pytest.approx(4.0, rel=0.3)


def mean_temperature(system: Structure, thermostat: Any, dof: int, n_blocks: int) -> float:
    """Mean over blocks of 20 fs, after the first ten, of 2 E_kin / (dof k_B)."""
    nvt = driver(system, thermostat, timestep=2.0)
    generator = random_stream(4)
    point = nvt.start(generator)
    seen = []
    for block in range(10 + n_blocks):
        point = nvt.advance(point, 10, generator)
        if block >= 10:
            seen.append(2 * kinetic_energy(system, point) / (dof * units.kB))
    return float(np.mean(seen))


# Langevin and Andersen turn a molecule, the others cannot: 3 or 6 coordinates less than 18.
@pytest.mark.parametrize(
    ("thermostat", "dof"),
    [("Langevin", 15), ("Andersen", 15), ("Bussi", 12), ("Berendsen", 12), ("NoseHoover", 12)],
)
def test_thermostats_keep_a_molecule_at_its_temperature(thermostat: Any, dof: int) -> None:
    # 200 samples of 12 to 15 coordinates: 3 to 4 % standard error, three of them here.
    # Counting all 18 coordinates (as ASE does) would be 50 % off where 6 cannot move.
    temperature = mean_temperature(molecule(), thermostat, dof, n_blocks=200)
    assert temperature == pytest.approx(300.0, rel=0.12)


@pytest.mark.parametrize("thermostat", NVT)
def test_thermostats_keep_their_temperature_with_fixed_atoms(thermostat: Any) -> None:
    temperature = mean_temperature(molecule(HALF), thermostat, dof=9, n_blocks=100)
    # 5 % standard error; counting the fixed coordinates too would be 100 % off.
    assert temperature == pytest.approx(300.0, rel=0.15)


def test_degrees_of_freedom_by_hand() -> None:
    assert degrees_of_freedom(molecule()) == 12
    assert degrees_of_freedom(molecule(HALF)) == 9
    assert degrees_of_freedom(molecule(ONE_COORDINATE)) == 17
    assert degrees_of_freedom(crystal()) == 21
    carbon_dioxide = structure([8, 6, 8], [[-1.1, 0.1, 0], [0, 0, 0], [1.1, -0.1, 0]])
    assert degrees_of_freedom(carbon_dioxide) == 4
    water = structure([8, 1, 1], [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]])
    assert degrees_of_freedom(water) == 3
    assert degrees_of_freedom(structure([8], [[0, 0, 0]])) == 3


@pytest.mark.parametrize("system", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_first_velocities_have_the_temperature_and_no_drift(system: Structure) -> None:
    nvt = driver(system, "Langevin")
    dof = degrees_of_freedom(system)
    energies = []
    for seed in range(400):
        point = nvt.start(random_stream(seed))
        assert np.array_equal(point.positions, system.positions)
        assert np.abs(point.momenta.sum(axis=0)).max() < 1e-12
        if not system.pbc:
            centre = (masses(system) * point.positions).sum(axis=0) / masses(system).sum()
            angular = np.cross(point.positions - centre, point.momenta).sum(axis=0)
            assert np.abs(angular).max() < 1e-12
        energies.append(kinetic_energy(system, point))
    # 400 samples of dof coordinates: standard error sqrt(2 / (400 dof)), 2 % for 12.
    expected = 0.5 * dof * units.kB * 300.0
    assert np.mean(energies) == pytest.approx(expected, rel=5 * np.sqrt(2 / (400 * dof)))


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_the_centre_of_mass_stays(thermostat: Any) -> None:
    system = molecule()
    nvt = driver(system, thermostat)
    generator = random_stream(5)
    point = nvt.advance(nvt.start(generator), 200, generator)
    moved = (masses(system) * (point.positions - system.positions)).sum(axis=0)
    assert np.abs(moved / masses(system).sum()).max() < 1e-10  # A
    assert np.abs(point.momenta.sum(axis=0)).max() < 1e-10
    assert np.abs(point.positions - system.positions).max() > 0.01  # something did move


# ------------------------------------------------------------------------------ exact resume


SYSTEMS = {
    "molecule": (molecule(), Springs(molecule().positions)),
    "half fixed": (molecule(HALF), Springs(molecule().positions)),
    "one coordinate fixed": (molecule(ONE_COORDINATE), Springs(molecule().positions)),
    "crystal": (crystal(), EMT()),
}


@pytest.mark.parametrize("thermostat", THERMOSTATS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_blocks_are_bitwise_one_block(name: str, thermostat: Any) -> None:
    system, calculator = SYSTEMS[name]
    whole_driver = driver(system, thermostat, calculator)
    generator = random_stream(6)
    whole = whole_driver.advance(whole_driver.start(generator), 20, generator)
    generator = random_stream(6)
    point = driver(system, thermostat, calculator).start(generator)
    for n_steps in (7, 13):
        point = driver(system, thermostat, calculator).advance(point, n_steps, generator)
    assert bits(point) == bits(whole)
    assert np.abs(point.positions - system.positions).max() > 1e-3


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_a_stored_trajectory_goes_on_bitwise(thermostat: Any) -> None:
    system = molecule()
    md = driver(system, thermostat)
    trajectory = LiveTrajectory.start(md.system, random_stream(7))
    trajectory.point = md.advance(trajectory.point, 9, trajectory.generator)
    trajectory.restart_point = trajectory.point
    trajectory.point = md.advance(trajectory.point, 4, trajectory.generator)
    # As a snapshot does it: arrays as they are, the random state through JSON.
    arrays = {name: values.copy() for name, values in trajectory.arrays("3").items()}
    state = json.loads(json.dumps(trajectory.random_state()))
    assert all(name.startswith("3/") for name in arrays)
    stored = LiveTrajectory.from_arrays("3", arrays, state)
    assert bits(stored.restart_point) == bits(trajectory.restart_point)
    for one in (trajectory, stored):
        one.point = driver(system, thermostat).advance(one.point, 11, one.generator)
    assert bits(stored.point) == bits(trajectory.point)
    for one in (trajectory, stored):
        one.roll_back(md.system)
    assert bits(stored.point) == bits(trajectory.point)


def test_trajectories_of_one_snapshot_do_not_mix() -> None:
    md = driver(molecule(), "NoseHoover")
    trajectories = [LiveTrajectory.start(md.system, random_stream(7, index)) for index in range(12)]
    arrays: dict[str, Any] = {}
    for index, trajectory in enumerate(trajectories):
        trajectory.point = md.advance(trajectory.point, 1 + index, trajectory.generator)
        arrays |= trajectory.arrays(str(index))
    for index, trajectory in enumerate(trajectories):
        stored = LiveTrajectory.from_arrays(str(index), arrays, trajectory.random_state())
        assert bits(stored.point) == bits(trajectory.point)
        assert bits(stored.restart_point) == bits(trajectory.restart_point)


def test_forces_of_old_weights_do_not_survive_into_the_next_block() -> None:
    """The calculator changes between blocks (training): its cache must not be believed."""
    system = molecule()
    springs = Springs(system.positions)
    md = driver(system, None, springs)
    point = md.advance(md.start(random_stream(1)), 3, random_stream(0))
    springs.rest = springs.rest * 1.05
    changed = md.advance(point, 1, random_stream(0))
    stiffer = Springs(system.positions)
    stiffer.rest = springs.rest
    fresh = driver(system, None, stiffer).advance(point, 1, random_stream(0))
    assert bits(changed) == bits(fresh)
    assert bits(changed) != bits(driver(system, None).advance(point, 1, random_stream(0)))


# ---------------------------------------------------------------------------- random streams


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_trajectories_differ_and_seeds_repeat(thermostat: Any) -> None:
    system = molecule()

    def end(seed: int, *purpose: int) -> MDPoint:
        md = driver(system, thermostat)
        trajectory = LiveTrajectory.start(md.system, random_stream(seed, *purpose))
        return md.advance(trajectory.point, 50, trajectory.generator)

    first = end(4, 1, 0)
    assert bits(end(4, 1, 0)) == bits(first)
    for other in (end(4, 1, 1), end(4, 0, 0), end(5, 1, 0)):
        assert np.abs(other.positions - first.positions).max() > 1e-3


def test_langevin_trajectories_do_not_synchronise() -> None:
    """Trajectories that shared a stream would become copies within a picosecond."""
    system = molecule()
    md = driver(system, "Langevin")
    ends = []
    for shared in (False, True):
        points = []
        for index in range(2):
            start = md.start(random_stream(4, 1, index))
            stream = random_stream(4, 9) if shared else random_stream(4, 9, index)
            points.append(md.advance(start, 400, stream))
        ends.append(float(np.abs(points[0].positions - points[1].positions).max()))
    apart, copies = ends
    assert apart > 0.05  # A
    assert copies < 0.2 * apart  # the test can fail


@pytest.mark.parametrize("thermostat", ["Langevin", "Andersen", "Bussi"])
def test_streams_are_the_callers_not_numpys_global_one(thermostat: Any) -> None:
    md = driver(molecule(), thermostat)
    ends = []
    for seed in (1, 2):
        np.random.seed(seed)
        generator = random_stream(3)
        ends.append(bits(md.advance(md.start(generator), 5, generator)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_velocities_and_accelerations_are_those_of_the_masses(thermostat: Any) -> None:
    isotopes = 1.0 + np.arange(6.0)
    light = replace(molecule(ONE_COORDINATE), masses=isotopes)
    heavy = replace(light, masses=4 * isotopes)
    assert atoms_of(heavy).get_masses().tolist() == [4.0, 8.0, 12.0, 16.0, 20.0, 24.0]
    bent = light.positions + np.random.default_rng(2).normal(0, 0.05, (6, 3))
    starts, steps = [], []
    for system in (light, heavy):
        md = driver(system, thermostat, Springs(bent))
        starts.append(md.start(random_stream(3)).momenta)
        rest = MDPoint(system.positions, np.zeros((6, 3)), system.cell)
        steps.append(md.advance(rest, 1, random_stream(1)).positions - system.positions)
    # Equal kinetic energies: momenta grow with the root of the mass.
    assert starts[1] == pytest.approx(2 * starts[0], rel=1e-12)
    if thermostat not in ("Langevin", "Andersen"):  # which do not let it rest
        assert steps[1] == pytest.approx(steps[0] / 4, rel=1e-9)


# -------------------------------------------------------------------- little or nothing moves


def one_free(n_coordinates: int) -> Structure:
    """A molecule of which one atom may move, in some coordinates."""
    fixed = np.ones((6, 3), dtype=bool)
    fixed[3, :n_coordinates] = False
    return molecule(fixed)


TWO_ATOMS = structure([6, 8], [[0.0, 0, 0], [0, 0, 1.2]])


@pytest.mark.parametrize("thermostat", THERMOSTATS)
@pytest.mark.parametrize(
    "system",
    [molecule(), crystal(), one_free(1), one_free(3), TWO_ATOMS],
    ids=["molecule", "crystal", "one coordinate", "one atom", "two atoms"],
)
def test_a_system_at_rest_is_set_in_motion_by_its_forces(
    system: Structure, thermostat: Any
) -> None:
    # At rest, at 1e-13 of the thermal energy and in between: no thermostat may divide by it.
    rest = system.positions.copy()
    rest[3 % len(system), 0] += 0.1
    md = driver(system, thermostat, EMT() if system.pbc else Springs(rest))
    start = md.start(random_stream(3))
    for slower in (0.0, 1e-160, 1e-7):
        generator = random_stream(5)
        point = MDPoint(start.positions, slower * start.momenta, start.cell)
        with np.errstate(all="raise", under="ignore"):
            for _ in range(2):
                point = md.advance(point, 5, generator)
        assert np.isfinite(point.positions).all()
        assert np.isfinite(point.momenta).all()
        if not system.pbc or thermostat in ("Langevin", "Andersen"):
            assert (point.positions != system.positions)[~system.fixed].any()


@pytest.mark.parametrize("thermostat", NVT)
def test_one_degree_of_freedom_has_the_temperature_of_its_thermostat(thermostat: Any) -> None:
    # 200 samples of one coordinate: 10 % standard error, a bit more as they are correlated.
    temperature = mean_temperature(one_free(1), thermostat, dof=1, n_blocks=200)
    assert temperature == pytest.approx(300.0, rel=0.4)


def test_one_degree_of_freedom_may_be_hot_for_a_while() -> None:
    system = one_free(1)
    md = driver(system, None)
    momenta = np.zeros((6, 3))
    momenta[3, 0] = np.sqrt(20 * 300.0 * units.kB * masses(system)[3, 0])
    point = md.advance(MDPoint(system.positions, momenta, system.cell), 1, random_stream(1))
    assert kinetic_energy(system, point) > 0.5 * 15 * 300.0 * units.kB
    with pytest.raises(MDFailure, match="at most 14983 K"):
        md.advance(MDPoint(system.positions, 2 * momenta, system.cell), 1, random_stream(1))


def test_chance_does_not_reach_the_temperature_of_an_explosion() -> None:
    for dof in range(1, 40):
        # A kinetic energy of dof coordinates in units of kT / 2 is a chi square of dof.
        assert chi2.sf(hottest(dof) * dof, dof) < 3e-9
    assert hottest(8) == hottest(300) == 10.0
    assert chi2.sf(10.0, 1) > 1e-3


def test_a_system_that_cannot_move_is_refused() -> None:
    with pytest.raises(ValueError, match="every coordinate of the structure is fixed"):
        driver(molecule(np.ones((6, 3), dtype=bool)), "Bussi")


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"timestep": -1.0}])
def test_conditions_without_motion_are_refused(change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=rf"MDConditions\.{name} = .*, expected more than 0"):
        conditions("Langevin", **change)


# ------------------------------------------------------------------------------- fixed atoms


@pytest.mark.parametrize("thermostat", THERMOSTATS)
@pytest.mark.parametrize(
    "fixed",
    [
        HALF,
        ONE_COORDINATE,
        np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=bool),
    ],
    ids=["half", "one coordinate", "mixed"],
)
def test_fixed_coordinates_do_not_move_and_others_do(fixed: np.ndarray, thermostat: Any) -> None:
    system = molecule(fixed)
    md = driver(system, thermostat)
    trajectory = LiveTrajectory.start(md.system, random_stream(8))
    assert not trajectory.point.momenta[fixed].any()
    for _ in range(3):
        trajectory.point = md.advance(trajectory.point, 20, trajectory.generator)
    trajectory.roll_back(md.system)
    trajectory.point = md.advance(trajectory.point, 30, trajectory.generator)
    assert np.array_equal(trajectory.point.positions[fixed], system.positions[fixed])
    assert not trajectory.point.momenta[fixed].any()
    moved = np.abs(trajectory.point.positions - system.positions)
    assert (moved[~fixed] > 0).all()


def test_constraints_say_what_is_fixed() -> None:
    mixed = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=bool)
    found = np.zeros((6, 3), dtype=bool)
    for constraint in constraints_of(molecule(mixed)):
        forces = np.ones((6, 3))
        constraint.adjust_forces(atoms_of(molecule()), forces)
        found |= forces == 0.0
    assert np.array_equal(found, mixed)
    assert constraints_of(molecule()) == []


# -------------------------------------------------------------------------------- explosions


def test_an_overlap_on_the_way_ends_the_block_before_any_engine_sees_it() -> None:
    h2 = structure([1, 1], [[0, 0, 0], [0, 0, 0.74]])
    springs = Springs(h2.positions)
    md = driver(h2, None, springs, timestep=4.0)
    towards = np.array([[0, 0, 1.0], [0, 0, -1.0]])  # about 1 eV: they meet
    point = MDPoint(h2.positions, 3 * towards, h2.cell)
    with pytest.raises(MDFailure, match=r"atoms 1 and 2 overlap: .* at least 0\.248 A"):
        md.advance(point, 20, random_stream(0))
    calls = springs.n_calls
    overlapping = MDPoint(np.array([[0, 0, 0], [0, 0, 0.1]]), 0 * towards, h2.cell)
    with pytest.raises(MDFailure, match="overlap"):
        md.advance(overlapping, 1, random_stream(0))
    assert springs.n_calls == calls


def test_the_last_structure_of_a_block_is_checked_too() -> None:
    """After the last step no forces may be asked for any more; the point must still make sense."""
    argon = structure([18, 18], [[0, 0, 0], [0, 0, 3.8]])
    md = driver(argon, None, LennardJones(sigma=3.4, epsilon=0.01, rc=8.0), timestep=10.0)
    away = np.array([[0, 0, -40.0], [0, 0, 40.0]])
    with pytest.raises(MDFailure, match="flown apart"):
        md.advance(MDPoint(argon.positions, away, argon.cell), 20, random_stream(0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_forces_that_are_not_finite_end_the_block(bad: float) -> None:
    class Broken(Springs):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            if self.n_calls == 5:
                self.results["forces"][2, 1] = bad

    system = molecule()
    md = driver(system, "Langevin", Broken(system.positions))
    with pytest.raises(MDFailure, match="forces are not finite"):
        md.advance(md.start(random_stream(1)), 10, random_stream(1))


def test_a_structure_that_is_too_hot_ends_the_block() -> None:
    system = molecule()
    md = driver(system, None)
    point = md.start(random_stream(1))
    hot = MDPoint(point.positions, 10 * point.momenta, point.cell)
    with pytest.raises(MDFailure, match=r"temperature is \d+ K, at most 3000 K was expected"):
        md.advance(hot, 1, random_stream(1))
    md.advance(MDPoint(point.positions, 2 * point.momenta, point.cell), 1, random_stream(1))


def test_a_molecule_that_flies_apart_ends_the_block() -> None:
    class Free(Springs):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            self.results["forces"][:] = 0.0

    system = molecule()
    hot = conditions(None, temperature=3000.0, timestep=20.0)
    md = Alone(MDSystem(system, hot, GeometryLimits(min_distance=0.0)), Free(system.positions))
    with pytest.raises(MDFailure, match="flown apart"):
        md.advance(md.start(random_stream(1)), 100, random_stream(1))


def test_after_a_failure_it_goes_back_with_new_velocities_and_its_stream_goes_on() -> None:
    class Broken(Springs):
        broken = False

        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            if self.broken:
                self.results["forces"][:] = np.nan

    system = molecule()
    springs = Broken(system.positions)
    md = driver(system, "NoseHoover", springs)
    trajectory = LiveTrajectory.start(md.system, random_stream(1))
    first = trajectory.point
    trajectory.point = md.advance(trajectory.point, 5, trajectory.generator)
    springs.broken = True
    before = bits(trajectory.point)
    with pytest.raises(MDFailure):
        md.advance(trajectory.point, 5, trajectory.generator)
    assert bits(trajectory.point) == before
    springs.broken = False
    trajectory.roll_back(md.system)
    assert np.array_equal(trajectory.point.positions, first.positions)
    assert not np.array_equal(trajectory.point.momenta, first.momenta)
    assert trajectory.point.thermostat == {}
    assert bits(trajectory.restart_point) == bits(first)
    once = trajectory.point
    trajectory.roll_back(md.system)
    assert not np.array_equal(trajectory.point.momenta, once.momenta)
    md.advance(trajectory.point, 5, trajectory.generator)


def test_advancing_leaves_the_point_and_the_structure_alone() -> None:
    system = crystal()
    md = driver(system, "NoseHoover", EMT())
    generator = random_stream(1)
    point = md.advance(md.start(generator), 3, generator)
    before = bits(point)
    later = md.advance(point, 3, generator)
    assert bits(point) == before
    assert bits(later) != before
    assert np.array_equal(system.positions, crystal().positions)
    assert np.array_equal(later.cell, np.array((bulk("Cu", cubic=True) * (2, 1, 1)).cell))


def test_one_atom_moves_like_any_other() -> None:
    class Free(Springs):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            self.results["forces"][:] = 0.0

    atom = structure([8], [[0, 0, 0]])
    for thermostat in THERMOSTATS:
        md = driver(atom, thermostat, Free(atom.positions))
        generator = random_stream(2)
        point = md.advance(md.start(generator), 5, generator)
        assert np.isfinite(point.positions).all()
        assert point.positions.any()
