"""The public check of engines: ours pass it, and broken ones are told what is wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule

from fhi_al.core.structure import Structure, structure
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.conformance import NotConforming, check
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import AseSpec, EngineSpec
from fhi_al.engines.tblite import tblite_spec

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "engine_package"))
from morse_engine import MorseSpec

pytestmark = pytest.mark.real

TRIMER = structure([6, 6, 6], [[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [0.75, 1.3, 0.0]])


def from_ase(atoms: Any) -> Structure:
    cell = np.array(atoms.cell) if atoms.pbc.any() else None
    return structure(atoms.numbers, atoms.positions, cell)


@pytest.mark.parametrize(
    "spec",
    [
        tblite_spec("GFN2-xTB", from_ase(molecule("H2O"))),
        tblite_spec("GFN1-xTB", from_ase(bulk("C", "diamond", 3.567, cubic=True)), stress=True),
        AseSpec("ase.calculators.emt:EMT", from_ase(bulk("Cu", cubic=True)), stress=True),
        MorseSpec(TRIMER, 1.0, 1.5),
        MorseSpec(from_ase(bulk("C", "fcc", 2.1, cubic=True)), 1.0, 1.5, stress=True),
    ],
    ids=["tblite", "crystal", "EMT", "package", "crystal of a package"],
)
def test_engines_conform(spec: EngineSpec) -> None:
    check(spec)


def test_the_documentation_shows_the_engine_that_is_tested() -> None:
    root = Path(__file__).parents[2]
    module = root / "tests" / "workflow" / "engine_package" / "morse_engine.py"
    page = (root / "docs" / "how_to" / "engines.md").read_text()
    assert module.read_text() in page
    (checked,) = re.findall(r"```python\n(from .*?)```", page, flags=re.DOTALL)
    exec(checked, {})


class Broken:
    """tblite whose results are spoilt."""

    def __init__(self, spoil: Callable[[ReferenceResult, int], ReferenceResult]) -> None:
        self.system = from_ase(molecule("H2O"))
        self._engine = AseEngine(tblite_spec("GFN2-xTB", self.system))
        self._spoil = spoil
        self._n_calls = 0

    def calculate(self, positions: Any, cell: Any) -> ReferenceResult:
        self._n_calls += 1
        return self._spoil(self._engine.calculate(positions, cell), self._n_calls)

    def close(self) -> None:
        self._engine.close()


class StressedCopper:
    """EMT on a crystal whose stress is spoilt."""

    def __init__(self, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
        self.system = from_ase(bulk("Cu", a=3.5, cubic=True))
        self._engine = AseEngine(AseSpec("ase.calculators.emt:EMT", self.system, stress=True))
        self._spoil = spoil

    def calculate(self, positions: Any, cell: Any) -> ReferenceResult:
        found = self._engine.calculate(positions, cell)
        stress = None if found.stress is None else self._spoil(found.stress)
        return replace(found, stress=stress)

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda stress: -stress, "stress xx is "),
        (lambda stress: stress + 0.01 * (1 - np.eye(3)), "stress yz is "),
        (lambda stress: stress + 0.1 * np.eye(3, k=1), "the stress is not symmetric"),
        (lambda stress: stress[0], "the stress is (3,)"),
    ],
    ids=["sign", "shear", "asymmetric", "shape"],
)
def test_what_is_wrong_with_a_stress_is_said(
    spoil: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    engine = StressedCopper(spoil)
    with pytest.raises(NotConforming) as caught:
        check(engine, engine.system)
    assert words in str(caught.value)


@dataclass(frozen=True, eq=False)
class Forgetful(AseSpec):
    """Asks for a stress, and calls labels with it others."""

    engine_class = "fhi_al.engines.ase_calculator:AseEngine"

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "stress": self.stress}


def test_a_stress_must_not_make_another_engine() -> None:
    spec = Forgetful("ase.calculators.emt:EMT", from_ase(bulk("Cu", cubic=True)), stress=True)
    with pytest.raises(NotConforming, match="with and without a stress the fingerprints differ"):
        check(spec)


def hartree(result: ReferenceResult, call: int) -> ReferenceResult:
    return ReferenceResult(result.energy / 27.2, result.forces, None, result.converged, "x")


def flat(result: ReferenceResult, call: int) -> ReferenceResult:
    return ReferenceResult(result.energy, result.forces.ravel(), None, True)


def drifting(result: ReferenceResult, call: int) -> ReferenceResult:
    energy = result.energy + 1e-9 * call
    return ReferenceResult(energy, result.forces, None, result.converged, "x")


def raising(result: ReferenceResult, call: int) -> ReferenceResult:
    if not result.converged:
        raise KeyError("what is this?")
    return result


def without_numbers(result: ReferenceResult, call: int) -> ReferenceResult:
    missing: Any = None
    return result if result.converged else ReferenceResult(missing, missing, None, False, "no")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (hartree, "units"),
        (flat, "expected (3, 3) of float64"),
        (drifting, "keep no history"),
        (raising, "expected a result with converged=False, or EngineError"),
        (without_numbers, "has the energy None and forces of shape (): expected NaN, (3, 3) of"),
    ],
)
def test_what_is_wrong_is_said(
    spoil: Callable[[ReferenceResult, int], ReferenceResult], words: str
) -> None:
    engine = Broken(spoil)
    with pytest.raises(NotConforming) as caught:
        check(engine, engine.system)
    assert words in str(caught.value)
