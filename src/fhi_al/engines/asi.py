"""FHI-aims as a shared library through asi4py: one library kept alive, every rank in each call.

asi4py prints exceptions and carries on, enters a folder on each rank by itself, and finalises the
library when it is garbage-collected; a rank that fails alone leaves the others in a barrier.
Hence: everything is verified before it is constructed, the ranks enter the folder together or not
at all, every collective step ends in an agreement between them, and nothing of asi4py's state is
believed unasked.  No torch, no MACE: a labelling rank stays small.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from asi4py.asecalc import ASI_ASE_calculator
from asi4py.pyasi import ASIlib
from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.core.structure import Array
from fhi_al.engines.aims_energies import energy_problem, printed_energies
from fhi_al.engines.aims_input.geometry import write_geometry
from fhi_al.engines.asi_library import library_problem
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import AsiSpec
from fhi_al.parallel.mpi import agree

log = logging.getLogger(__name__)

# Calculations whose energy is compared with what the log says; which energy it is does not change.
ENERGY_CHECKS = 3


class _Library(ASIlib):
    """asi4py's library, which is run and closed in the folder that its user has entered.

    asi4py's own goes into the folder on each rank alone: a rank that cannot would leave the others
    waiting inside the library.
    """

    def run(self) -> None:
        self.lib.ASI_run()

    def close(self) -> None:
        self.lib.ASI_finalize()
        del self.lib


class _Calculator(ASI_ASE_calculator):
    """asi4py's calculator, closed only where we say so."""

    def __del__(self) -> None:
        # asi4py's own calls ASI_finalize, which is collective, at garbage collection: on one rank
        # alone, or after MPI_Finalize.
        pass


class AsiEngine:
    """A reference engine on an ASI library.  Collective over `comm`, as all of its methods are.

    Parameters
    ----------
    spec : AsiSpec
        The same on all ranks.
    comm : MPI.Intracomm
        Every rank of it takes part in every call.

    Raises
    ------
    EngineError
        On all ranks alike: inputs, folder or library cannot be used.
    """

    # Libraries keep their state in global variables: one at a time in a process.
    _open: AsiEngine | None = None

    def __init__(self, spec: AsiSpec, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._spec = spec
        self._n_atoms = len(spec.geometry.structure)
        self._work_dir = spec.work_dir.resolve()
        self._library = spec.library.resolve()
        self._n_runs = 0
        self._calculator: _Calculator | None = None
        self._on_rank_0(self._prepare)
        self._on_all_ranks(self._try_to_load)
        self._calculator = self._on_all_ranks(self._start)
        AsiEngine._open = self
        log.info(
            "ASI library %s started in %s on %d ranks", self._library, self._work_dir, comm.size
        )

    def calculate(self, positions: Array, cell: Array) -> ReferenceResult:
        """Collective over `comm`: energy, forces and, if asked for, stress of one geometry.

        Parameters
        ----------
        positions : (n_atoms, 3)
            In A; the same bits on every rank.
        cell : (3, 3)
            In A; zeros for a molecule.

        Raises
        ------
        EngineError
            On all ranks alike, if the engine is closed or broken, or the geometries differ.
        """
        self._require_same_geometry(positions, cell)
        with self._in_folder():
            result = self._on_all_ranks(lambda: self._run(positions, cell))
        # An engine may give the last bits differently on each rank: rank 0's count.
        shared: ReferenceResult = self._comm.bcast(result, root=0)
        return shared

    def close(self) -> None:
        """Collective over `comm`: finalise the library.  Twice is harmless."""
        calculator, self._calculator = self._calculator, None
        if AsiEngine._open is self:
            AsiEngine._open = None
        if calculator is not None:
            # A library may write there once more.
            self._on_rank_0(lambda: self._work_dir.mkdir(parents=True, exist_ok=True))
            with self._in_folder():
                self._on_all_ranks(calculator.close)

    @contextlib.contextmanager
    def _in_folder(self) -> Iterator[None]:
        """Collective: all ranks are in the engine's folder, or the same error is raised on all."""
        here = self._on_all_ranks(Path.cwd)
        try:
            self._on_all_ranks(self._enter)
            yield
        finally:
            self._on_all_ranks(lambda: os.chdir(here))

    def _enter(self) -> None:
        try:
            os.chdir(self._work_dir)
        except FileNotFoundError as error:
            raise self._folder_gone() from error

    def _on_rank_0(self, act: Callable[[], None]) -> None:
        error: Exception | None = None
        if self._comm.rank == 0:
            try:
                act()
            except Exception as failure:  # agreed on, and raised, below
                error = failure
        agree(self._comm, error)

    def _on_all_ranks(self, act: Callable[[], Any]) -> Any:
        error: Exception | None = None
        result = None
        try:
            result = act()
        except Exception as failure:  # agreed on, and raised, below
            error = failure
        agree(self._comm, error)
        return result

    def _prepare(self) -> None:
        problem = library_problem(self._library)
        if problem is not None:
            raise EngineError(f"{self._library}: {problem}")
        try:
            self._work_dir.mkdir(parents=True, exist_ok=True)
            geometry = write_geometry(self._spec.geometry)
            (self._work_dir / "control.in").write_text(self._spec.control, encoding="utf-8")
            (self._work_dir / "geometry.in").write_text(geometry, encoding="utf-8")
        except OSError as error:
            raise EngineError(f"{self._work_dir}: cannot write inputs: {error.strerror}") from error

    def _try_to_load(self) -> None:
        if AsiEngine._open is not None:
            raise EngineError("another ASI library is open in this process: close it first")
        if not os.access(self._work_dir, os.R_OK | os.W_OK | os.X_OK):
            raise EngineError(f"{self._work_dir}: cannot be entered or written")
        # As asi4py does it: a failure inside asi4py would leave the other ranks in ASI_init.
        ctypes.CDLL(str(self._library), mode=ctypes.RTLD_GLOBAL)

    def _start(self) -> _Calculator:
        with _asi4py_output() as output:
            # The inputs are there already: an initialiser that raises would hang the other ranks.
            library = _Library(
                str(self._library),
                lambda asi: None,
                self._comm,
                None,
                str(self._work_dir),
                self._spec.log.name,
            )
            started = library.init()
        if started is not library:  # init() returns None after an exception it has printed
            raise EngineError(f"{self._library} did not start: {output.getvalue().strip()}")
        if library.n_atoms != self._n_atoms:
            raise EngineError(
                f"{self._library} read {library.n_atoms} atoms, expected {self._n_atoms}"
            )
        return _Calculator(library)

    def _require_same_geometry(self, positions: Array, cell: Array) -> None:
        error: Exception | None = None
        digest = ""
        shape = np.shape(positions), np.shape(cell)
        if self._calculator is None:
            error = EngineError("the ASI library is closed")
        elif shape != ((self._n_atoms, 3), (3, 3)):
            error = EngineError(f"shapes {shape}, expected ({self._n_atoms}, 3) and (3, 3)")
        elif not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            error = EngineError("the geometry holds NaN or infinity")
        else:
            data = np.concatenate([positions, cell]).astype(np.float64)
            digest = hashlib.sha256(data.tobytes()).hexdigest()
        agree(self._comm, error)
        if len(set(self._comm.allgather(digest))) > 1:
            raise EngineError("the ranks were given different geometries")

    def _folder_gone(self) -> EngineError:
        return EngineError(f"{self._work_dir}: the engine's folder is gone")

    def _run(self, positions: Array, cell: Array) -> ReferenceResult:
        try:
            return self._run_in_folder(positions, cell)
        except (EngineError, OSError) as error:
            # Gone in the midst of the call: whatever the library says of it is no help.
            if not os.access(self._work_dir, os.X_OK):
                raise self._folder_gone() from error
            raise

    def _run_in_folder(self, positions: Array, cell: Array) -> ReferenceResult:
        assert self._calculator is not None
        calculator = self._calculator
        calculator.results = {}
        periodic = self._spec.geometry.structure.pbc
        properties = ["energy", "forces", "stress"] if self._spec.stress else ["energy", "forces"]
        atoms = Atoms(
            self._spec.geometry.structure.numbers,
            positions=positions,
            cell=cell if periodic else None,
            pbc=periodic,
        )
        # Never through atoms.calc: ASE's cache could serve one rank while others run.
        calculator.calculate(atoms, properties)
        self._n_runs += 1
        result = self._result(calculator)
        if result.converged and self._comm.rank == 0 and self._n_runs <= ENERGY_CHECKS:
            self._compare_energy(result.energy)
        return result

    def _compare_energy(self, energy: float) -> None:
        """Warn if the energy is not the one that the forces are derivatives of."""
        text = self._spec.log.read_text(errors="replace") if self._spec.log.is_file() else ""
        printed = printed_energies(text)
        if printed is None:
            return  # not written yet, or another output than FHI-aims'
        problem = energy_problem(energy / units.Hartree, printed, self._n_atoms)
        if problem is not None:
            log.warning("%s: %s", self._library, problem)

    def _result(self, calculator: _Calculator) -> ReferenceResult:
        if not calculator.asi.is_scf_converged:
            return ReferenceResult.failed(self._n_atoms, "the SCF did not converge")
        forces = calculator.results.get("forces")
        if forces is None or forces.shape != (self._n_atoms, 3):
            raise EngineError("the library gave no forces")
        stress = None
        if self._spec.stress:
            if "stress" not in calculator.results:
                raise EngineError("the library gave no stress")
            xx, yy, zz, yz, xz, xy = calculator.results["stress"]
            stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        return ReferenceResult(float(calculator.results["energy"]), forces, stress, True)


@contextlib.contextmanager
def _asi4py_output() -> Iterator[io.StringIO]:
    """Catch what asi4py prints, its tracebacks above all, and come back to the current folder."""
    here = Path.cwd()
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            yield output
    finally:
        os.chdir(here)
