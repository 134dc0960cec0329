"""Structures without MD: how far atoms are displaced, what is drawn, in which order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from fhi_al.core.displaced import (
    CannotDisplace,
    DisplacedRule,
    DisplacedSystem,
    Kind,
    displaced,
    mixed,
    volume_factors,
)
from fhi_al.core.displaced_list import DisplacedList
from fhi_al.core.environments import radial_descriptors
from fhi_al.core.neighbours import neighbours_within
from fhi_al.core.plausible import BOLTZMANN, GeometryLimits, geometry_problem
from fhi_al.core.stiffness import force_constants, stiffness, thermal_amplitudes
from fhi_al.core.structure import Structure, structure

LIMITS = GeometryLimits()
RULE = DisplacedRule(
    rattled=12, strained=8, volumes=5, strain=0.03, volume_range=(0.9, 1.1), seed=4
)


def of(atoms: Atoms) -> Structure:
    return system_of(atoms).starts[0]


def system_of(atoms: Atoms, index: int = 0, amplitude: float = 0.05, **changes: Any):
    made = structure(
        atoms.numbers,
        atoms.positions,
        np.array(atoms.cell) if atoms.pbc.all() else None,
        **changes,
    )
    amplitudes = np.full(len(made), amplitude)
    return DisplacedSystem(index, [made], [amplitudes], covalent_radii[made.numbers])


DIAMOND, ETHANOL = bulk("C", cubic=True), molecule("CH3CH2OH")


@pytest.mark.parametrize(
    "atoms",
    [ETHANOL, DIAMOND, bulk("Si"), bulk("NaCl", "rocksalt", 5.64), bulk("Cu", cubic=True) * 4],
    ids=["molecule", "cell below the cutoff", "skewed", "salt", "large cell"],
)
def test_neighbours_are_those_that_ase_finds(atoms: Atoms) -> None:
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=1)
    atoms.positions += 3.7  # atoms outside of their cell
    first, second, distances = neighbours_within(
        atoms.positions, np.array(atoms.cell), bool(atoms.pbc.all()), 5.0
    )
    theirs = sorted(zip(*neighbor_list("ijd", atoms, 5.0), strict=True))
    ours = sorted(zip(first, second, distances, strict=True))
    assert [pair[:2] for pair in ours] == [pair[:2] for pair in theirs]
    np.testing.assert_allclose([p[2] for p in ours], [p[2] for p in theirs], atol=1e-10)


def test_rattled_springs_have_the_energy_of_vibrations_in_the_mean() -> None:
    # Of a harmonic system 3/2 N k_B T; here with the springs that the amplitudes are made from.
    system, temperature = of(ETHANOL), 300.0
    amplitudes = thermal_amplitudes(system, temperature)
    first, second, distances = neighbours_within(system.positions, system.cell, False, 6.0)
    springs = force_constants(system.numbers[first], system.numbers[second], distances)
    lines = (system.positions[second] - system.positions[first]) / distances[:, None]
    steps = np.random.default_rng(2).standard_normal((20_000, len(system), 3))
    steps *= amplitudes[:, None]
    stretched = np.einsum("spx,px->sp", steps[:, second] - steps[:, first], lines)
    energies = 0.25 * (springs * stretched**2).sum(axis=1)  # every pair is there twice
    expected = 1.5 * len(system) * BOLTZMANN * temperature
    # 20,000 draws of about 27 degrees of freedom: a per cent is four standard errors.
    assert energies.mean() == pytest.approx(expected, rel=0.01)


def test_amplitudes_are_those_of_solids_and_grow_with_the_root_of_the_temperature() -> None:
    copper = thermal_amplitudes(of(bulk("Cu", cubic=True)), 300.0)
    # Measured, from Debye-Waller factors at room temperature: 0.084 A (B = 0.55 A^2).
    assert np.all((copper > 0.04) & (copper < 0.16))
    diamond = thermal_amplitudes(of(DIAMOND), 300.0)
    assert np.all((diamond > 0.01) & (diamond < 0.05))  # 0.04 A, of which half at 0 K
    np.testing.assert_allclose(thermal_amplitudes(of(DIAMOND), 1200.0), 2 * diamond)


@pytest.mark.parametrize(
    ("atoms", "debye", "factor"),
    [
        # Debye temperatures in K, as in textbooks of solid-state physics (C. Kittel).
        (bulk("C", cubic=True), 2230, 2.2),
        (bulk("Si", cubic=True), 645, 2.2),
        (bulk("Al", cubic=True), 428, 2.2),
        (bulk("Cu", cubic=True), 343, 2.2),
        (bulk("Fe", cubic=True), 470, 2.2),
        (bulk("Pt", cubic=True), 240, 2.2),
        (bulk("NaCl", "rocksalt", 5.64, cubic=True), 321, 2.2),
        (bulk("W", cubic=True), 400, 5.0),
        (bulk("Na", cubic=True), 158, 5.0),
    ],
    ids=["C", "Si", "Al", "Cu", "Fe", "Pt", "NaCl", "W", "Na"],
)
def test_solids_are_as_stiff_as_their_debye_temperature_says(
    atoms: Atoms, debye: float, factor: float
) -> None:
    # <omega^2> = 3/5 omega_D^2, and the trace of an atom's force constants is 3 m <omega^2>.
    mass = atoms.get_masses().mean() * units._amu
    frequency = units._k * debye / units._hbar
    measured = 1.8 * mass * frequency**2 / units._e * 1e-20  # eV/A^2
    ratio = stiffness(of(atoms)).mean() / measured
    assert 1 / factor < ratio < factor


def test_rattled_copper_is_as_hot_as_it_should_be() -> None:
    # EMT knows nothing of our force constants: its energy says how hot the structures are.
    atoms = bulk("Cu", cubic=True) * 2
    made = of(atoms)
    system = DisplacedSystem(
        0, [made], [thermal_amplitudes(made, 600.0)], covalent_radii[made.numbers]
    )
    atoms.calc = EMT()
    at_rest = atoms.get_potential_energy()
    above = []
    for each in displaced(system, DisplacedRule(10, 0, 0, 0.0, (0.9, 1.1), 0), LIMITS, 5.0):
        atoms.positions = each.positions
        above.append(atoms.get_potential_energy() - at_rest)
    temperature = np.mean(above) / (1.5 * len(atoms) * BOLTZMANN)
    assert 400 < temperature < 900


def test_strain_and_pressure_of_a_volume_scan_have_the_right_sign() -> None:
    atoms = bulk("Cu", cubic=True)
    rule = DisplacedRule(0, 0, 7, 0.03, (0.9, 1.1), 0)
    found = displaced(system_of(atoms), rule, LIMITS, 5.0)
    points = []
    for each in found:
        copy = Atoms(atoms.numbers, each.positions, cell=each.cell, pbc=True, calculator=EMT())
        points.append(
            (copy.get_volume(), copy.get_potential_energy(), copy.get_stress()[:3].mean())
        )
    volumes, energies, stresses = np.array(sorted(points)).T
    own = atoms.get_volume()
    np.testing.assert_allclose(volumes / own, np.linspace(0.9, 1.1, 7))
    # dE/dV by central differences is the stress: at evenly spaced volumes, to second order.
    slopes = (energies[2:] - energies[:-2]) / (volumes[2:] - volumes[:-2])
    np.testing.assert_allclose(slopes, stresses[1:-1], atol=0.02 * np.abs(stresses).max())
    assert stresses[0] < 0 < stresses[-1]  # ASE's sign: a compressed crystal pushes


def test_strained_cells_have_a_stress_that_the_strain_explains() -> None:
    atoms = bulk("Cu", cubic=True)
    rule = DisplacedRule(0, 10, 0, 0.004, (0.9, 1.1), 0)
    found = displaced(system_of(atoms, amplitude=1e-9), rule, LIMITS, 5.0)
    strains, stresses = [], []
    for each in found:
        deformation = np.linalg.inv(np.array(atoms.cell)) @ each.cell
        strain = deformation - np.eye(3)
        np.testing.assert_allclose(strain, strain.T, atol=1e-12)
        assert np.abs(strain).max() <= 0.004
        copy = Atoms(atoms.numbers, each.positions, cell=each.cell, pbc=True, calculator=EMT())
        strains.append(strain[np.triu_indices(3)])
        stresses.append(copy.get_stress(voigt=False)[np.triu_indices(3)])
    strains, stresses = np.array(strains), np.array(stresses)
    # Hooke's law of a cubic crystal: the shears, which nothing else couples to.
    for shear in (1, 2, 4):
        slope = (strains[:, shear] @ stresses[:, shear]) / (strains[:, shear] @ strains[:, shear])
        assert slope > 0
        rest = stresses[:, shear] - slope * strains[:, shear]
        assert np.abs(rest).max() < 0.2 * np.abs(stresses[:, shear]).max()


def test_the_same_list_at_every_start_and_another_by_another_seed() -> None:
    def positions(seed: int, index: int = 0) -> bytes:
        rule = DisplacedRule(6, 4, 3, 0.03, (0.9, 1.1), seed)
        found = displaced(system_of(DIAMOND, index), rule, LIMITS, 5.0)
        return b"".join(each.positions.tobytes() + each.cell.tobytes() for each in found)

    assert positions(1) == positions(1)
    assert positions(1) != positions(2)
    assert positions(1) != positions(1, index=1)


def test_kinds_have_their_numbers_and_are_spread_evenly() -> None:
    found = displaced(system_of(DIAMOND), RULE, LIMITS, 5.0)
    kinds = [each.kind for each in found]
    assert Counter(kinds) == {Kind.RATTLED: 12, Kind.STRAINED: 8, Kind.VOLUME: 5}
    for kind, n in Counter(kinds).items():
        in_first_half = kinds[: len(kinds) // 2].count(kind)
        assert abs(in_first_half - n / 2) <= 2
    # A molecule has no cell.
    of_molecule = displaced(system_of(ETHANOL), RULE, LIMITS, 5.0)
    assert {each.kind for each in of_molecule} == {Kind.RATTLED}


def test_mixing_keeps_the_order_of_each_list() -> None:
    found = mixed([list("abcdef"), list("123")], 5)
    assert [each for each in found if each.isalpha()] == list("abcdef")
    assert [each for each in found if each.isdigit()] == list("123")
    assert mixed([list("abc"), []], 5) == list("abc")


def test_the_most_different_come_first() -> None:
    rule = DisplacedRule(0, 0, 5, 0.03, (0.8, 1.2), 0)
    volumes = [
        abs(np.linalg.det(each.cell)) / DIAMOND.get_volume()
        for each in displaced(system_of(DIAMOND), rule, LIMITS, 5.0)
    ]
    assert sorted(volumes) == pytest.approx([0.8, 0.9, 1.0, 1.1, 1.2])
    # Both ends before all that is between them, the cell itself last.
    assert sorted(volumes[:2]) == pytest.approx([0.8, 1.2])
    assert volumes[-1] == pytest.approx(1.0)


def test_chosen_structures_differ_more_than_those_that_are_merely_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nearest_pair(choice: int) -> float:
        monkeypatch.setattr("fhi_al.core.displaced.CHOICE", choice)
        rule = DisplacedRule(10, 0, 0, 0.03, (0.9, 1.1), 0)
        found = displaced(system_of(ETHANOL, amplitude=0.1), rule, LIMITS, 5.0)
        numbers = ETHANOL.numbers
        features = [
            radial_descriptors(numbers, each.positions, each.cell, False, [1, 6, 8], 5.0)
            for each in found
        ]
        gaps = [np.linalg.norm(a - b) for k, a in enumerate(features) for b in features[:k]]
        return float(min(gaps))

    assert nearest_pair(6) > nearest_pair(1)


def test_no_structure_has_overlaps_and_those_that_would_are_drawn_again() -> None:
    rule = DisplacedRule(30, 0, 0, 0.03, (0.9, 1.1), 0)
    limits = GeometryLimits(min_distance=0.75)
    system = system_of(ETHANOL, amplitude=0.15)
    found = displaced(system, rule, limits, 5.0)
    assert len(found) == 30
    for each in found:
        assert geometry_problem(each.positions, each.cell, False, system.radii, limits) is None
    # Among as many that are drawn without looking, some overlap.
    generator = np.random.default_rng(0)
    loose = [ETHANOL.positions + 0.15 * generator.standard_normal((9, 3)) for _ in range(30)]
    assert any(geometry_problem(p, each.cell, False, system.radii, limits) for p in loose)


def test_displacements_that_overlap_always_are_refused() -> None:
    with pytest.raises(CannotDisplace, match=r"rattled structures: of \d+ draws .* overlap"):
        displaced(system_of(DIAMOND, amplitude=0.5), RULE, GeometryLimits(0.9), 5.0)


def test_fixed_coordinates_stay() -> None:
    fixed = np.zeros((9, 3), dtype=bool)
    fixed[2], fixed[4, 1] = True, True
    rule = DisplacedRule(5, 0, 0, 0.03, (0.9, 1.1), 0)
    for each in displaced(system_of(ETHANOL, fixed=fixed), rule, LIMITS, 5.0):
        moved = each.positions != ETHANOL.positions
        np.testing.assert_array_equal(moved, ~fixed)


def test_a_list_that_goes_on_never_repeats_itself() -> None:
    rule = DisplacedRule(4, 0, 0, 0.03, (0.9, 1.1), 0)
    systems = [system_of(ETHANOL), system_of(DIAMOND, 1)]
    endless = DisplacedList(systems, [rule, RULE], LIMITS, 5.0, goes_on=True)
    numbers = range(3 * len(endless.first))
    found = [endless.structure(number) for number in numbers]
    keys = {(each.system, each.positions.tobytes()) for each in found if each is not None}
    assert len(keys) == len(found)
    assert {each.system for each in found[:8] if each is not None} == {0, 1}
    # From any number on, in another process.
    again = DisplacedList(systems, [rule, RULE], LIMITS, 5.0, goes_on=True)
    last = again.structure(numbers[-1])
    assert last is not None and found[-1] is not None
    assert last.positions.tobytes() == found[-1].positions.tobytes()
    ends = DisplacedList(systems, [rule, RULE], LIMITS, 5.0, goes_on=False)
    assert ends.structure(len(ends.first)) is None


def test_a_scan_of_one_volume_is_in_the_middle() -> None:
    assert volume_factors(1, (0.9, 1.1)) == [pytest.approx(1.0)]
    assert volume_factors(3, (0.9, 1.1)) == pytest.approx([0.9, 1.0, 1.1])
