"""Integrators by what they must give: analytic motion, distributions, conservation, fluctuations.

Every tolerance is some standard errors of independent samples; all is seeded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import units
from scipy.stats import chi2, kstest
from spring_crystals import (
    BULK_MODULUS,
    CUBE,
    FS,
    LENGTH,
    STIFFNESS,
    VOLUME,
    as_tensors,
    constants,
    nothing,
    run,
    springs,
    thermal,
)

from fhi_al.md.cell_scaling import berendsen_cell, cell_rescaling
from fhi_al.md.integrator import Forces, Integrator, Noise
from fhi_al.md.integrators import THERMOSTATS
from fhi_al.md.langevin import LANGEVIN
from fhi_al.md.mtk import MTK, MTK_FLEXIBLE, flexible_energy, isotropic_energy
from fhi_al.md.nose_hoover import NOSE_HOOVER, thermostat_energy
from fhi_al.md.nve import NVE
from fhi_al.md.pressure import internal_stress, outer_pressure, volumes
from fhi_al.md.state import Constants, MDState
from fhi_al.md.velocity_scaling import BUSSI

CELL_RESCALING = cell_rescaling(LANGEVIN)
SCHEMES: dict[str, Integrator] = {
    **{str(name): scheme for name, scheme in THERMOSTATS.items()},
    "MTK": MTK,
    "MTKFlexible": MTK_FLEXIBLE,
    "CellRescaling": CELL_RESCALING,
    "CellRescaling, Bussi": cell_rescaling(BUSSI),
    "Berendsen cell": berendsen_cell(LANGEVIN),
}


# ------------------------------------------------------------------------------------- by formula


def test_velocity_verlet_moves_a_harmonic_oscillator_by_its_own_frequency() -> None:
    """x_n = x_0 cos(n theta) with cos(theta) = 1 - (omega dt)^2 / 2, exactly."""
    c = constants(1, n_atoms=1, masses=12.0, timestep=3.0)
    state = MDState(np.array([[0.2, -0.1, 0.3]]), np.zeros((1, 3)), np.zeros((1, 3, 3)), {})

    def spring(state: MDState, c: Constants) -> tuple[Any, Forces]:
        return np.zeros(1), Forces(-2.0 * state.positions)

    _, seen = run(NVE, state, c, 200, spring, observe=lambda s, e, f: s.positions[0])
    theta = np.arccos(1 - 2.0 / 12.0 * (3.0 * FS) ** 2 / 2)
    expected = np.cos(np.arange(1, 201) * theta)[:, None] * state.positions[0]
    assert np.array(seen) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["NVE", "NoseHoover", "MTK", "MTKFlexible"])
def test_the_conserved_quantity_drifts_with_the_square_of_the_time_step(name: str) -> None:
    rest: Any = {
        "NVE": lambda state, c: 0.0,
        "NoseHoover": thermostat_energy,
        "MTK": isotropic_energy,
        "MTKFlexible": flexible_energy,
    }[name]
    scheme = {"NVE": NVE, "NoseHoover": NOSE_HOOVER, "MTK": MTK, "MTKFlexible": MTK_FLEXIBLE}[name]
    deviations = []
    for timestep in (8.0, 4.0, 2.0):
        c = constants(8, temperature=300.0, timestep=timestep, masses=[30.0, 40, 50, 60])

        def total(state: MDState, energies: Any, forces: Forces, c: Constants = c) -> Any:
            return energies + c.kinetic_energy(state.momenta) + rest(state, c)

        state = thermal(c, scheme)
        _, seen = run(scheme, state, c, int(800 / timestep), observe=total)
        deviations.append(np.std(seen, axis=0).mean())
    # Second order: 4 for each halving; the next order is a tenth of it at these time steps.
    assert deviations[0] / deviations[1] == pytest.approx(4.0, rel=0.25)
    assert deviations[1] / deviations[2] == pytest.approx(4.0, rel=0.15)
    assert deviations[2] < 1e-3  # eV, of 0.2 eV that flow to and fro


def test_an_ideal_particle_diffuses_by_einsteins_relation() -> None:
    """D = kT / (m gamma); of particles that start with thermal velocities at all times."""
    n, gamma, t = 2000, 0.05, 400.0
    c = constants(n, n_atoms=1, friction=gamma, timestep=2.0, temperature=300.0, masses=20.0)
    start = thermal(c, LANGEVIN, sites=np.zeros((1, 3)))
    end, _ = run(LANGEVIN, start, c, int(t / 2.0), nothing)
    square = float((end.positions**2).sum(axis=1).mean())
    diffusion = 300.0 * units.kB / (20.0 * gamma / FS)
    expected = 6 * diffusion * (t - (1 - np.exp(-gamma * t)) / gamma) * FS
    # 6000 squares of normal numbers: 1.8 %, of which four; the scheme's own error is (gamma dt)^2.
    assert square == pytest.approx(expected, rel=0.073)


# ---------------------------------------------------------------------------------- distributions

N_COPIES = 400
CANONICAL = ["Langevin", "Andersen", "Bussi", "NoseHoover"]
MASSES = np.array([20.0, 40.0, 60.0, 80.0])


def too_hot(c: Constants, scheme: Integrator) -> MDState:
    """Crystals in the ensemble of 130 K, brought there by Langevin's thermostat.

    At rest on their sites all modes would begin in phase: a thermostat that scales all momenta
    heats slow ones more then, and an almost harmonic crystal does not forget that.
    """
    hot = constants(len(c), masses=MASSES, temperature=130.0, friction=0.05)
    state, _ = run(LANGEVIN, thermal(hot, LANGEVIN), hot, 150, seed=11)
    return replace(state, variables=thermal(c, scheme).variables)


@pytest.mark.parametrize("name", CANONICAL)
def test_energies_of_a_crystal_are_distributed_canonically(name: str) -> None:
    """Kinetic and potential energy of nine coordinates: chi squares; each mass has its share."""
    c = constants(N_COPIES, masses=MASSES)
    state, seen = run(
        SCHEMES[name],
        too_hot(c, SCHEMES[name]),
        c,
        400,
        observe=lambda state, energies, forces: energies,
    )
    temperature = 100.0 * units.kB
    kinetic = 2 * c.kinetic_energy(state.momenta) / temperature
    # One sample of each independent copy.
    assert kstest(kinetic, chi2(9).cdf).pvalue > 1e-3
    # The springs' energy is quadratic to 1 % at 100 K, and samples see 5 % (400 of them).
    assert kstest(2 * seen[-1] / temperature, chi2(9).cdf).pvalue > 1e-3
    per_atom = (state.momenta**2 / c.masses).reshape(N_COPIES, 4, 3).mean(axis=(0, 2))
    # The centre of mass rests: an atom has 1 - m / M of its share.  sqrt(2 / 1200) is 4 %.
    expected = temperature * (1 - MASSES / MASSES.sum())
    assert per_atom == pytest.approx(expected, rel=0.16)


def test_berendsens_thermostat_is_not_canonical() -> None:
    """So the test of the others can fail."""
    c = constants(N_COPIES, masses=MASSES)
    state, _ = run(SCHEMES["Berendsen"], too_hot(c, NVE), c, 400)
    kinetic = 2 * c.kinetic_energy(state.momenta) / (100.0 * units.kB)
    assert kinetic.mean() == pytest.approx(9.0, rel=0.1)
    assert kstest(kinetic, chi2(9).cdf).pvalue < 1e-3


# ------------------------------------------------------------------------------- constant pressure


def with_moving_cell(state: MDState, c: Constants) -> MDState:
    """Momenta of the cells, where a scheme has them, with all energy of these modes: kT each."""
    n, random, variables = len(c), np.random.default_rng(5), dict(state.variables)
    square = 2 * (c.degrees_of_freedom + 3) * (c.temperature * c.barostat_time) ** 2
    if "p_eps" in variables:
        variables["p_eps"] = np.sqrt(square) * random.choice([-1.0, 1.0], n)
    if "p_g" in variables:
        signs = np.triu(random.choice([-1.0, 1.0], (n, 3, 3)))
        # Beside the diagonal an element is there twice.
        shear = (signs + signs.swapaxes(1, 2)) / np.sqrt(2)
        matrices = np.where(np.eye(3, dtype=bool), signs, shear)
        variables["p_g"] = np.sqrt(square / 3)[:, None, None] * matrices
    return replace(state, variables=variables)


@pytest.mark.parametrize("name", ["CellRescaling", "CellRescaling, Bussi", "MTK", "MTKFlexible"])
def test_a_crystal_has_the_volume_fluctuations_of_its_bulk_modulus(name: str) -> None:
    scheme, n, pressure = SCHEMES[name], 200, 2.0
    # r at 2 GPa: P = 2 sqrt(2) k (r0 - r) / r^2; the modulus there from the same energy.
    share = pressure * units.GPa / (2 * np.sqrt(2) * STIFFNESS)
    r = (-1 + np.sqrt(1 + 4 * LENGTH * share)) / (2 * share)
    modulus = r / 3 * 2 * np.sqrt(2) * STIFFNESS * (1 / r**2 + 2 * (LENGTH - r) / r**3)
    volume = VOLUME * (r / LENGTH) ** 3
    assert modulus == pytest.approx(BULK_MODULUS, rel=0.1)
    # The volume swings with a period of 2 pi tau / sqrt(9 B V / (12 kT)), slower than the atoms.
    time = 1500.0 if name.startswith("MTK") else 150.0
    c = constants(n, masses=MASSES, temperature=50.0, pressure=pressure, barostat_time=time)
    # At its own volume, with the energy of all its modes in their momenta: those of an almost
    # harmonic crystal hardly mix, and the barostat's chain takes longer than this.
    start = with_moving_cell(thermal(c, scheme, CUBE * r / LENGTH), c)
    state, _ = run(scheme, start, c, 300)

    def observed(state: MDState, energies: Any, forces: Forces) -> Any:
        excess = internal_stress(state, c, forces)
        excess = excess - outer_pressure(state, c)[:, None, None] * np.eye(3)
        return np.concatenate([volumes(state)[:, None], excess.reshape(n, 9)], axis=1)

    _, seen = run(scheme, state, c, 700, seed=3, observe=observed, every=50)
    values = np.array(seen)
    expected = 50.0 * units.kB * volume / modulus
    # 200 copies of some four independent samples: sqrt(2 / 800) is 5 %, more for chains, with which
    # a mode keeps its share of the energy; anharmonicity at 50 K adds 2 %.
    assert values[..., 0].var() == pytest.approx(expected, rel=0.2)
    # Thermal expansion of 0.5 %.
    assert values[..., 0].mean() == pytest.approx(volume, rel=0.01)
    # On average the inner stress is the outer pressure.
    mean = values[..., 1:].mean(axis=(0, 1)).reshape(3, 3)
    spread = np.sqrt(50.0 * units.kB * modulus / volume / 800)
    if name == "MTKFlexible":
        assert mean == pytest.approx(np.zeros((3, 3)), abs=6 * spread)
    else:
        assert np.trace(mean) / 3 == pytest.approx(0.0, abs=5 * spread)


def test_an_ideal_gas_fills_the_volume_of_its_ensemble() -> None:
    """V^N exp(-P V / kT): a mean of (N + 1) kT / P, though the centre of mass is held."""
    n_atoms, n = 8, 200
    c = constants(
        n,
        n_atoms=n_atoms,
        temperature=300.0,
        pressure=0.1,
        friction=0.02,
        barostat_time=1000.0,
        compressibility=1 / (0.1 * units.GPa),
    )
    unit = 300.0 * units.kB / (0.1 * units.GPa)
    cell = np.eye(3) * (9 * unit) ** (1 / 3)
    sites = np.random.default_rng(1).random((n_atoms, 3))
    _, seen = run(
        CELL_RESCALING,
        thermal(c, CELL_RESCALING, cell, sites),
        c,
        1400,
        nothing,
        observe=lambda state, energies, forces: volumes(state) / unit,
        every=50,
    )
    values = np.array(seen)[12:]
    # A standard deviation of 3 and some 800 independent samples (after 2.4 coupling times, for 3.2
    # of them): 0.1; of the variance 6 %.  Without the centre of mass it would be 8.
    assert values.mean() == pytest.approx(n_atoms + 1, abs=0.4)
    assert values.var() == pytest.approx(n_atoms + 1, rel=0.25)


def test_berendsens_barostat_comes_to_its_pressure() -> None:
    scheme = SCHEMES["Berendsen cell"]
    c = constants(50, temperature=50.0, pressure=10.0)
    state, seen = run(
        scheme,
        thermal(c, scheme),
        c,
        600,
        observe=lambda s, e, f: np.trace(internal_stress(s, c, f), axis1=1, axis2=2) / 3,
    )
    found = np.mean(seen[300:]) / units.GPa
    assert found == pytest.approx(10.0, abs=0.2)
    assert (volumes(state) < 0.9 * VOLUME).all()


# ------------------------------------------------------------------------------------- as arrays


@pytest.mark.parametrize("name", SCHEMES)
def test_a_trajectory_alone_is_bitwise_the_one_among_others(name: str) -> None:
    scheme, c = SCHEMES[name], constants(7, masses=MASSES, pressure=1.0)
    start = thermal(c, scheme)
    together, _ = run(scheme, start, c, 40)
    for k in (0, 3, 6):
        own, noise_seed = c.take([k]), k
        alone = start.take(c.owner, [k])
        generator = np.random.Generator(np.random.PCG64([2, noise_seed]))
        noise = scheme.draw(generator, 40, own)
        forces = springs(alone, own)[1]
        for step in range(40):
            alone = scheme.first_half(alone, own, forces, noise.step(step))
            forces = springs(alone, own)[1]
            alone = scheme.second_half(alone, own, forces, noise.step(step))
        among = together.take(c.owner, [k])
        assert alone.positions.tobytes() == among.positions.tobytes()
        assert alone.momenta.tobytes() == among.momenta.tobytes()
        assert alone.cells.tobytes() == among.cells.tobytes()
        for variable, values in alone.variables.items():
            assert values.tobytes() == among.variables[variable].tobytes()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_moves_tensors_as_it_moves_arrays(name: str) -> None:
    """So it can run where the forces are computed; the sums are those of another library."""
    torch = pytest.importorskip("torch")
    scheme, c = SCHEMES[name], constants(3, masses=MASSES, pressure=1.0)
    state = thermal(c, scheme)
    tensors, c_tensors = as_tensors(state, torch), as_tensors(c, torch)
    generator = np.random.default_rng(1)
    noise = Noise.together([scheme.draw(generator, 10, c.take([k])) for k in range(3)])
    for step in range(10):
        one = noise.step(step)
        for half in (scheme.first_half, scheme.second_half):
            forces = springs(state, c)[1]
            state = half(state, c, forces, one)
            tensors = half(tensors, c_tensors, as_tensors(forces, torch), as_tensors(one, torch))
    for name_, values in {**state.variables, "x": state.positions, "p": state.momenta}.items():
        theirs = {**tensors.variables, "x": tensors.positions, "p": tensors.momenta}[name_]
        assert isinstance(theirs, torch.Tensor)
        assert theirs.numpy() == pytest.approx(values, abs=1e-10)
