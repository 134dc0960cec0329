"""ASE calculators as reference engines: tblite, EMT and CHGNet, for real."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, SCFError, all_changes
from mpi4py import MPI
from tblite.ase import TBLite

from fhi_al.core.errors import CannotCompute, EngineError
from fhi_al.core.structure import Structure, structure
from fhi_al.engines.aims_input.atomic import atomic_geometry
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.ase_import import import_calculator
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import AseSpec
from fhi_al.engines.tblite import TBLITE, system_problem, tblite_spec

pytestmark = pytest.mark.real


def from_ase(atoms: Any) -> Structure:
    cell = np.array(atoms.cell) if atoms.pbc.any() else None
    return structure(atoms.numbers, atoms.positions, cell)


@pytest.fixture
def ethanol() -> Structure:
    return from_ase(molecule("CH3CH2OH"))


@pytest.fixture
def diamond() -> Structure:
    return from_ase(bulk("C", "diamond", a=3.567, cubic=True))


def rattled(shape: Structure, seed: int) -> np.ndarray:
    return shape.positions + 0.05 * np.random.default_rng(seed).standard_normal((len(shape), 3))


def same_bits(one: ReferenceResult, other: ReferenceResult) -> bool:
    return one.energy == other.energy and one.forces.tobytes() == other.forces.tobytes()


def test_tblite_labels_equal_a_fresh_calculator(diamond: Structure) -> None:
    engine = AseEngine(pickle.loads(pickle.dumps(tblite_spec("GFN1-xTB", diamond, stress=True))))
    atoms = bulk("C", "diamond", a=3.567, cubic=True)
    for seed in (1, 2):
        result = engine.calculate(rattled(diamond, seed), 1.01 * diamond.cell)
        atoms.positions, atoms.cell = rattled(diamond, seed), 1.01 * diamond.cell
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
        assert result.converged
        assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)  # eV
        assert np.abs(result.forces - atoms.get_forces()).max() < 1e-7  # eV/A
        assert result.stress is not None
        assert np.abs(result.stress - atoms.get_stress(voigt=False)).max() < 1e-9  # eV/A^3
    engine.close()
    engine.close()


@pytest.mark.parametrize("system", ["ethanol", "diamond"])
def test_tblite_labels_do_not_depend_on_the_labels_before(
    system: str, request: pytest.FixtureRequest
) -> None:
    shape = request.getfixturevalue(system)
    spec = tblite_spec("GFN1-xTB", shape)
    engine = AseEngine(spec)
    forward = [engine.calculate(rattled(shape, seed), shape.cell) for seed in (1, 2, 1)]
    alone = AseEngine(spec).calculate(rattled(shape, 2), shape.cell)
    assert same_bits(forward[1], alone)
    assert same_bits(forward[0], forward[2])
    # The test can fail: with a warm start the history shows, within the accuracy of the SCF.
    warm = AseEngine(tblite_spec("GFN1-xTB", shape, scf_warm_start=True))
    second = [warm.calculate(rattled(shape, seed), shape.cell) for seed in (1, 2)][1]
    assert not same_bits(second, alone)
    assert second.energy == pytest.approx(alone.energy, abs=1e-4)


@pytest.mark.parametrize(
    ("number", "energy"),
    [(1, -11.682), (6, -50.032), (7, -74.024), (8, -104.037), (14, -43.494)],  # eV, GFN2-xTB
)
def test_free_atoms_are_spin_polarised(number: int, energy: float) -> None:
    atom = atomic_geometry(number).structure
    result = AseEngine(tblite_spec("GFN2-xTB", atom)).calculate(atom.positions, atom.cell)
    assert result.energy == pytest.approx(energy, abs=1e-3)


def test_charge_comes_from_the_initial_charges_unless_given(ethanol: Structure) -> None:
    charges = np.zeros(len(ethanol))
    charges[0] = -1
    anion = structure(ethanol.numbers, ethanol.positions, initial_charges=charges)
    given = [
        AseEngine(tblite_spec("GFN2-xTB", shape, arguments)).calculate(shape.positions, shape.cell)
        for shape, arguments in ((anion, {}), (ethanol, {"charge": -1}), (anion, {"charge": 0}))
    ]
    assert same_bits(given[0], given[1])
    assert given[2].energy != pytest.approx(given[0].energy, abs=0.1)  # eV


def test_failed_scf_is_flagged_and_the_next_label_is_good(ethanol: Structure) -> None:
    engine = AseEngine(tblite_spec("GFN2-xTB", ethanol, {"max_iterations": 8}))
    stretched = 2.5 * ethanol.positions
    failed = engine.calculate(stretched, ethanol.cell)
    assert not failed.converged
    assert np.isnan(failed.energy)
    assert np.isnan(failed.forces).all()
    assert "converge" in failed.message.lower()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (tblite_spec("GFN2-xTB", structure([1], [[0, 0, 0]]), {"multiplicity": 3}), "compatible"),
        (tblite_spec("GFN2-xTB", structure([92], [[0, 0, 0]])), "No support for elements"),
        (AseSpec("ase.calculators.emt:EMT", structure([9], [[0, 0, 0]])), "No EMT-potential for F"),
    ],
    ids=["multiplicity", "U", "EMT"],
)
def test_a_system_that_cannot_be_computed_is_no_failed_scf(spec: AseSpec, words: str) -> None:
    engine = AseEngine(spec)
    with pytest.raises(CannotCompute, match=words):
        engine.calculate(spec.structure.positions + 0.1, spec.structure.cell)
    if spec.calculator == TBLITE:
        assert words in str(system_problem(spec))


def test_an_scf_that_never_converges_is_no_wrong_input(ethanol: Structure) -> None:
    engine = AseEngine(tblite_spec("GFN2-xTB", ethanol, {"max_iterations": 1}))
    results = [engine.calculate(rattled(ethanol, seed), ethanol.cell) for seed in (1, 2)]
    assert not any(result.converged for result in results)


def test_of_a_large_system_only_elements_and_arguments_are_tried() -> None:
    numbers = [1] * 5000 + [8]
    points = [[3.0 * k, 0.0, 0.0] for k in range(len(numbers))]
    large = structure(numbers, points)
    assert system_problem(tblite_spec("GFN2-xTB", large, {"charge": 1})) is None
    wrong = tblite_spec("GFN2-xTB", large, {"alpb_solvation": "watter"})
    assert "not found among database of solvents" in str(system_problem(wrong))


def test_atoms_on_top_of_each_other_are_a_failed_label(ethanol: Structure) -> None:
    engine = AseEngine(tblite_spec("GFN2-xTB", ethanol))
    assert not engine.calculate(np.zeros((len(ethanol), 3)), ethanol.cell).converged
    assert engine.calculate(ethanol.positions, ethanol.cell).converged


def test_emt_is_reached_by_both_spellings_and_keeps_no_history() -> None:
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    shape = from_ase(atoms)
    spec = AseSpec("ase.calculators.emt:EMT", shape, stress=True)
    engine, dotted = AseEngine(spec), AseEngine(AseSpec("ase.calculators.emt.EMT", shape))
    seeds = (1, 2, 3, 1)
    results = [engine.calculate(rattled(shape, seed), shape.cell) for seed in seeds]
    assert same_bits(results[0], results[3])
    assert same_bits(results[1], dotted.calculate(rattled(shape, 2), shape.cell))
    assert results[0].stress is not None
    assert results[0].stress.shape == (3, 3)
    assert np.array_equal(results[0].stress, results[0].stress.T)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_calculator_is_used_again_only_where_that_is_said(reuse: bool) -> None:
    shape = from_ase(bulk("Cu", cubic=True))
    engine = AseEngine(AseSpec("ase.calculators.emt:EMT", shape, reuse=reuse))
    made = set()
    for seed in (1, 2, 3):
        engine.calculate(rattled(shape, seed), shape.cell)
        made.add(engine._calculator)
    assert len(made) == (1 if reuse else 3)


def test_chgnet_is_made_once_and_keeps_no_history(diamond: Structure) -> None:
    spec = AseSpec(
        "chgnet.model.dynamics:CHGNetCalculator",
        diamond,
        {"use_device": "cpu"},
        stress=True,
        reuse=True,
    )
    engine = AseEngine(spec)
    made = engine._calculator
    results = [engine.calculate(rattled(diamond, seed), diamond.cell) for seed in (1, 2, 1)]
    assert engine._calculator is made
    assert same_bits(results[0], results[2])
    assert results[0].energy != results[1].energy
    assert results[0].stress is not None


SMEARING_K = 8000.0


class Smeared(Calculator):
    """tblite as codes with smearing present themselves: ``energy`` is the estimate for none."""

    implemented_properties = ("energy", "free_energy", "forces")

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        inner = TBLite(electronic_temperature=SMEARING_K, verbosity=0)
        inner.calculate(atoms, ["energy", "forces"])
        share = inner._res["orbital-occupations"] / 2
        share = share[(share > 0) & (share < 1)]
        entropy = -2 * units.kB * np.sum(share * np.log(share) + (1 - share) * np.log(1 - share))
        free = inner.results["energy"]
        self.results = {
            "energy": free + SMEARING_K * entropy / 2,
            "forces": inner.results["forces"],
        }
        if "free_energy" in properties:  # as a code may do that computes what it is asked for
            self.results["free_energy"] = free


@pytest.mark.parametrize(
    "spec",
    [
        lambda shape: AseSpec(f"{__name__}:Smeared", shape),
        lambda shape: tblite_spec("GFN2-xTB", shape, {"electronic_temperature": SMEARING_K}),
    ],
    ids=["two energies", "tblite"],
)
def test_the_energy_is_the_one_the_forces_belong_to(
    spec: Callable[[Structure], AseSpec],
) -> None:
    shape = from_ase(molecule("C2H4"))
    engine = AseEngine(spec(shape))
    positions = rattled(shape, 1)
    forces = engine.calculate(positions, shape.cell).forces
    step = np.zeros_like(positions)
    step[0, 0] = 1e-4  # A
    ahead, behind = (engine.calculate(positions + h * step, shape.cell) for h in (1, -1))
    slope = (ahead.energy - behind.energy) / 2e-4
    # The estimate for no smearing is off by 0.2 eV/A here.
    assert forces[0, 0] == pytest.approx(-slope, abs=1e-4)


class Fussy(Calculator):
    """Fails as the geometry tells it to, in the ways in which ASE's calculators fail."""

    implemented_properties = ("energy", "forces")

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        where = round(atoms.positions[0, 0])
        self.results = {"energy": 1.0, "free_energy": 2.0, "forces": np.zeros((len(atoms), 3))}
        if where == 1:
            raise SCFError("too many cycles")
        if where == 2:
            raise KeyError("a bug")
        if where == 3:
            del self.results["forces"]
        if where == 4:
            self.results["forces"] = np.zeros(3)


def test_what_goes_wrong_in_a_calculator_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = structure([1], [[0.0, 0.0, 0.0]])
    engine = AseEngine(AseSpec(f"{__name__}:Fussy", shape))
    good = engine.calculate(np.zeros((1, 3)), shape.cell)
    assert good.energy == 2.0  # the free energy
    failed = engine.calculate(np.array([[1.0, 0, 0]]), shape.cell)
    assert not failed.converged
    assert failed.message == "SCFError: too many cycles"
    for x, words in ((2.0, "a bug"), (3.0, "no forces"), (4.0, "shape")):
        with pytest.raises(EngineError, match=words):
            engine.calculate(np.array([[x, 0, 0]]), shape.cell)
    with pytest.raises(EngineError, match="no stress"):
        AseEngine(AseSpec(f"{__name__}:Fussy", shape, stress=True)).calculate(
            np.zeros((1, 3)), shape.cell
        )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("EMT", "not an import path"),
        ("", "not an import path"),
        ("os; system", "not an import path"),
        ("no_such_package.module:Class", "pip install no_such_package"),
        ("ase.calculators.emt:EMTT", "EMT"),
        ("ase.calculators.nothing:EMT", "no module ase.calculators.nothing"),
    ],
)
def test_a_calculator_that_cannot_be_had_is_explained(path: str, words: str) -> None:
    with pytest.raises(EngineError) as caught:
        import_calculator(path)
    assert words in str(caught.value)


def test_arguments_that_a_calculator_does_not_take_are_explained(ethanol: Structure) -> None:
    with pytest.raises(EngineError, match="did you mean max_iterations"):
        AseEngine(tblite_spec("GFN2-xTB", ethanol, {"max_iteration": 3}))
    with pytest.raises(EngineError, match="model=3"):
        AseEngine(AseSpec("chgnet.model.dynamics:CHGNetCalculator", ethanol, {"model": 3}))
    with pytest.raises(ValueError, match="GFN2-xTB"):
        tblite_spec("GFN3-xTB", ethanol)


def test_an_ase_engine_runs_on_one_rank(ethanol: Structure) -> None:
    spec = tblite_spec("GFN2-xTB", ethanol)
    assert not spec.is_collective
    engine = spec.build(MPI.COMM_SELF)
    assert engine.calculate(ethanol.positions, ethanol.cell).converged
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.calculate(ethanol.positions, ethanol.cell)
