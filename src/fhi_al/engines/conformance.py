"""Does an engine keep the promises that the program relies on?  A test for whoever writes one.

    from fhi_al.engines.conformance import check
    check(MySpec(structure, ...))

Takes about 15 calculations, and four more for a stress.  Imports no test framework.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fhi_al.core.errors import EngineError
from fhi_al.core.structure import Array, Structure
from fhi_al.engines.engine import ReferenceEngine, ReferenceResult
from fhi_al.engines.fingerprint import fingerprint
from fhi_al.engines.spec import EngineSpec

RATTLE_A = 0.02
STEP_A = 0.001
STRAIN = 1e-4
N_COORDINATES = 3


class NotConforming(AssertionError):
    """What an engine does otherwise than promised; ``problems`` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def check(
    given: EngineSpec | ReferenceEngine,
    structure: Structure | None = None,
    *,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> None:
    """Check an engine on one system.

    Forces must be derivatives of the energy (finite differences), and the stress of the strain; a
    geometry has one label, whatever was computed before; a geometry that cannot be computed is an
    unconverged result or an EngineError and harms no other; ``close`` may be called twice; a spec
    survives pickling with its fingerprint.

    Parameters
    ----------
    given : EngineSpec or ReferenceEngine
        An engine is closed at the end.
    structure : Structure, optional
        A sensible geometry; that of the spec if not given.
    tolerance : float
        Of forces against finite differences, in eV/A; of the stress in eV/A^3.
    seed : int
        Of the small displacements.

    Raises
    ------
    NotConforming
        With all that was found.
    """
    problems: list[str] = []
    if isinstance(given, EngineSpec):
        structure = structure or given.structure
        problems += _of_spec(given)
        engine: ReferenceEngine = given.build(None)
    else:
        engine = given
    if structure is None:
        raise ValueError("an engine needs a structure to be checked on")
    try:
        wants_stress = isinstance(given, EngineSpec) and given.wants_stress
        rng = np.random.default_rng(seed)
        problems += _of_engine(engine, structure, tolerance, rng, wants_stress)
    finally:
        engine.close()
    engine.close()
    if problems:
        raise NotConforming(problems)


def _of_spec(spec: EngineSpec) -> list[str]:
    try:
        # Its own bytes, as mpi4py sends them to other ranks.
        copy = pickle.loads(pickle.dumps(spec))
    except Exception as error:  # of foreign fields
        return [f"the spec cannot be pickled: {type(error).__name__}: {error}"]
    if fingerprint(copy) != fingerprint(spec):
        return ["a pickled spec has another fingerprint: identity() must be made of plain values"]
    if spec.wants_stress:
        without: Any = replace(spec, stress=False)  # type: ignore[type-var]
        if not fingerprint(without).matches(fingerprint(spec).value):
            return ["with and without a stress the fingerprints differ: leave it out of identity()"]
    return []


def _of_engine(
    engine: ReferenceEngine,
    system: Structure,
    tolerance: float,
    rng: np.random.Generator,
    wants_stress: bool,
) -> list[str]:
    positions = system.positions + RATTLE_A * rng.standard_normal(system.positions.shape)
    other = system.positions + RATTLE_A * rng.standard_normal(system.positions.shape)

    def computed(points: Array, cell: Array = system.cell) -> ReferenceResult:
        return engine.calculate(points.copy(), cell.copy())

    first = computed(positions)
    problems = _of_shapes(first, len(system))
    if problems:
        return problems
    problems += _of_forces(computed, positions, first, tolerance, rng)
    if wants_stress and first.stress is None:
        problems.append("the spec asks for a stress, and the result has none")
    if first.stress is not None:
        problems += _of_stress(computed, positions, system, first.stress, tolerance)
    computed(other)
    if not _same(computed(positions), first):
        problems.append("the same geometry has another label after others: keep no history")
    problems += _of_failures(computed, np.zeros_like(positions))
    if not _same(computed(positions), first):
        problems.append("after a geometry that cannot be computed the labels are others")
    return problems


def _of_shapes(result: ReferenceResult, n_atoms: int) -> list[str]:
    problems = []
    if not result.converged:
        return [f"a sensible geometry did not converge: {result.message}"]
    if not isinstance(result.energy, float) or not np.isfinite(result.energy):
        problems.append(f"the energy is {result.energy!r}: expected a finite float in eV")
    forces: Any = result.forces
    if getattr(forces, "shape", None) != (n_atoms, 3) or forces.dtype != np.float64:
        shape = getattr(forces, "shape", type(forces).__name__)
        problems.append(f"the forces are {shape}: expected ({n_atoms}, 3) of float64 in eV/A")
    elif not np.isfinite(forces).all():
        problems.append("the forces are not finite")
    if result.stress is not None and np.shape(result.stress) != (3, 3):
        problems.append(f"the stress is {np.shape(result.stress)}: expected (3, 3) in eV/A^3")
    return problems


def _of_forces(
    computed: Callable[..., ReferenceResult],
    positions: Array,
    first: ReferenceResult,
    tolerance: float,
    rng: np.random.Generator,
) -> list[str]:
    problems = []
    places = rng.choice(positions.size, min(N_COORDINATES, positions.size), replace=False)
    for place in places:
        atom, axis = divmod(int(place), 3)
        step = np.zeros_like(positions)
        step[atom, axis] = STEP_A
        ahead, behind = computed(positions + step).energy, computed(positions - step).energy
        slope = (ahead - behind) / (2 * STEP_A)
        force = first.forces[atom, axis]
        if not abs(force + slope) <= tolerance:
            problems.append(
                f"force {'xyz'[axis]} on atom {atom + 1} is {force:.6f} eV/A, the energy falls by"
                f" {-slope:.6f} eV/A: expected the same (units? which energy?)"
            )
    return problems


def _of_stress(
    computed: Callable[..., ReferenceResult],
    positions: Array,
    system: Structure,
    stress: Array,
    tolerance: float,
) -> list[str]:
    if not np.allclose(stress, stress.T, rtol=0.0, atol=tolerance):
        return ["the stress is not symmetric"]
    problems = []
    for a, b in ((0, 0), (1, 2)):
        energies = []
        for size in (STRAIN, -STRAIN):
            strain = np.zeros((3, 3))
            strain[a, b] += size / 2
            strain[b, a] += size / 2
            stretched = np.eye(3) + strain
            energies.append(computed(positions @ stretched, system.cell @ stretched).energy)
        slope = (energies[0] - energies[1]) / (2 * STRAIN * abs(np.linalg.det(system.cell)))
        if not abs(stress[a, b] - slope) <= tolerance:
            problems.append(
                f"stress {'xyz'[a]}{'xyz'[b]} is {stress[a, b]:.6f} eV/A^3, the energy's derivative"
                f" {slope:.6f} (sign? ASE's: positive where the crystal is stretched)"
            )
    return problems


def _of_failures(computed: Callable[..., ReferenceResult], points: Array) -> list[str]:
    """All atoms in one place."""
    try:
        result = computed(points)
    except EngineError:
        return []
    except Exception as error:  # what must not be
        return [
            f"{type(error).__name__} ({error}) for a geometry that cannot be computed: expected a"
            " result with converged=False, or EngineError"
        ]
    if result.converged:
        return []
    problems = []
    if not result.message:
        problems.append("a result that did not converge has no message")
    if not isinstance(result.energy, float) or np.shape(result.forces) != points.shape:
        problems.append(
            f"a result that did not converge has the energy {result.energy!r} and forces of shape"
            f" {np.shape(result.forces)}: expected NaN, {points.shape} of them as forces"
            " (ReferenceResult.failed makes one)"
        )
    return problems


def _same(one: ReferenceResult, other: ReferenceResult) -> bool:
    return one.energy == other.energy and np.array_equal(one.forces, other.forces)
