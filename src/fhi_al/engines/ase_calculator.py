"""Any ASE calculator, tblite among them, as a reference engine.  Runs on one rank.

Every label is a cold start unless the user says otherwise: a new calculator is made for each one,
so that no wave function, neighbour list or cache of an earlier geometry can colour it.  Whoever
knows that a calculator keeps nothing, and that making it takes long, has it used again.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    InputError,
    ReadError,
    all_changes,
)

from fhi_al.core.errors import CannotCompute, EngineError
from fhi_al.core.structure import Array
from fhi_al.engines.ase_import import calculator_problem, import_calculator
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import AseSpec

log = logging.getLogger(__name__)

# Making a calculator for each label that takes longer than this is worth a word to the user.
LONG_TO_MAKE_S = 1.0
# What ASE's calculators raise when this geometry cannot be computed.  InputError is among them:
# tblite raises it for atoms that are too close.
FAILED = (CalculationFailed, InputError, ReadError, np.linalg.LinAlgError)
# What a calculator's constructor raises that is given what it does not take.
WRONG_ARGUMENT = (TypeError, ValueError, LookupError, AttributeError, InputError)
# And what they raise when they can compute none of a system, next to these.
NOT_FOR_THIS_SYSTEM = (*FAILED, NotImplementedError)


class AseEngine:
    """A reference engine on an ASE calculator.

    Parameters
    ----------
    spec : AseSpec

    Raises
    ------
    EngineError
        If the calculator cannot be imported.
    CannotCompute
        If it does not take its arguments.
    """

    def __init__(self, spec: AseSpec, comm: object = None) -> None:
        problem = calculator_problem(spec)
        if problem is not None:
            raise EngineError(problem)
        self._spec = spec
        self._maker = import_calculator(spec.calculator)
        self._is_reused = spec.reuse or not spec.cold_start
        started = time.monotonic()
        self._calculator: Any = self._new_calculator()
        seconds = time.monotonic() - started
        if seconds > LONG_TO_MAKE_S and not self._is_reused:
            log.warning(
                "%s took %.1f s to make, which every label pays; if its results depend on the"
                " geometry alone, set ACTIVE_LEARNING.reuse_calculator to true",
                spec.calculator,
                seconds,
            )
        self._n_calls = 0
        self._has_succeeded = False
        self._is_open = True

    def calculate(self, positions: Array, cell: Array) -> ReferenceResult:
        """Energy, forces and, if asked for, stress of one geometry.

        Parameters
        ----------
        positions : (n_atoms, 3)
            In A.
        cell : (3, 3)
            In A; zeros for a molecule.

        Returns
        -------
        ReferenceResult
            Not converged, with the calculator's message, if it failed for this geometry.

        Raises
        ------
        EngineError
            If it failed for a reason that the next geometry would meet too.
        CannotCompute
            If it has computed no geometry so far and fails for that of the spec, too, and not
            because an SCF did not converge.
        """
        if not self._is_open:
            raise EngineError(f"{self._spec.calculator} is closed")
        try:
            self._run(positions, cell)
        except Exception as error:
            return self._failed(error)
        result = self._result()
        self._has_succeeded = True
        return result

    def _run(self, positions: Array, cell: Array) -> None:
        if self._n_calls > 0 and not self._is_reused:
            self._calculator = self._new_calculator()
        # With everything changed a calculator starts afresh; a warm start is told the truth.
        warm = self._n_calls > 0 and not self._spec.cold_start
        changes = ["positions", "cell"] if warm else all_changes
        self._n_calls += 1
        self._calculator.results = {}
        self._calculator.calculate(self._atoms(positions, cell), self._properties(), changes)

    def close(self) -> None:
        """Let the calculator go.  Twice is harmless."""
        self._calculator = None
        self._is_open = False

    def _properties(self) -> list[str]:
        """What the calculator is asked for."""
        declared = getattr(self._calculator, "implemented_properties", ())
        properties = ["energy", "forces"]
        properties += ["free_energy"] if "free_energy" in declared else []
        return [*properties, "stress"] if self._spec.stress else properties

    def _new_calculator(self) -> Any:
        try:
            return self._maker(**self._spec.arguments)
        except Exception as error:
            message = ", ".join(f"{key}={value!r}" for key, value in self._spec.arguments.items())
            kind = CannotCompute if isinstance(error, WRONG_ARGUMENT) else EngineError
            raise kind(
                f"{self._spec.calculator}({message}): {type(error).__name__}: {error}:"
                " expected arguments that the calculator takes"
            ) from error

    def _atoms(self, positions: Array, cell: Array) -> Atoms:
        shape = self._spec.structure
        atoms = Atoms(
            shape.numbers,
            positions=positions,
            cell=cell if shape.pbc else None,
            pbc=shape.pbc,
        )
        # Set only where given: some calculators turn spin polarisation on at the sight of them.
        if shape.initial_moments.any():
            atoms.set_initial_magnetic_moments(shape.initial_moments)
        if shape.initial_charges.any():
            atoms.set_initial_charges(shape.initial_charges)
        return atoms

    def _failed(self, error: Exception) -> ReferenceResult:
        message = f"{type(error).__name__}: {error}"
        # What is left of the failed attempt must not be the start of the next one.
        self._n_calls = 0
        self._calculator = self._new_calculator()
        if not _did_not_converge(error):
            if not self._has_succeeded and isinstance(error, NOT_FOR_THIS_SYSTEM):
                self._require_one_geometry()
            if not isinstance(error, FAILED):
                raise EngineError(f"{self._spec.calculator}: {message}") from error
        return ReferenceResult.failed(len(self._spec.structure), message)

    def _require_one_geometry(self) -> None:
        """Return if the geometry of the spec can be computed: the one that failed was at fault."""
        try:
            self._run(self._spec.structure.positions, self._spec.structure.cell)
        except Exception as error:
            if isinstance(error, NOT_FOR_THIS_SYSTEM) and not _did_not_converge(error):
                raise CannotCompute(
                    f"{self._spec.calculator} cannot compute this system: {type(error).__name__}:"
                    f" {error}: expected elements, a charge, unpaired electrons and arguments that"
                    " it takes. Correct geometry.in or reference_arguments, or choose another"
                    " engine"
                ) from error
        else:
            self._has_succeeded = True
        self._n_calls = 0
        self._calculator = self._new_calculator()

    def _result(self) -> ReferenceResult:
        results = self._calculator.results
        needed = ("energy", "forces", "stress") if self._spec.stress else ("energy", "forces")
        missing = [name for name in needed if results.get(name) is None]
        if missing:
            raise EngineError(
                f"{self._spec.calculator} gave no {' and no '.join(missing)}:"
                " expected a calculator that computes them"
            )
        forces = np.array(results["forces"], dtype=np.float64)
        if forces.shape != (len(self._spec.structure), 3):
            raise EngineError(
                f"{self._spec.calculator} gave forces of shape {forces.shape},"
                f" expected ({len(self._spec.structure)}, 3)"
            )
        stress = _full_stress(results["stress"]) if self._spec.stress else None
        return ReferenceResult(_energy_of_forces(results), forces, stress, True)


def _did_not_converge(error: Exception) -> bool:
    # Codes have their own names for it: KohnShamConvergenceError, SCFNotConverged, ...
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    return "Converge" in kinds or "SCF" in kinds or "not converge" in str(error).lower()


def _energy_of_forces(results: Any) -> float:
    """The energy (eV) whose derivatives the forces are.

    ASE calls it ``free_energy``; with smearing, ``energy`` is an estimate for no smearing (GPAW,
    VASP, ...).  A calculator that knows no difference need not have it.
    """
    free = results.get("free_energy")
    return float(np.squeeze(results["energy"] if free is None else free))


def _full_stress(stress: Any) -> Array:
    """The (3, 3) stress from ASE's six components (xx, yy, zz, yz, xz, xy) or from itself."""
    values = np.array(stress, dtype=np.float64)
    if values.shape == (3, 3):
        return values
    xx, yy, zz, yz, xz, xy = values
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
