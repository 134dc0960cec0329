"""Wire ``FHI_AL-atomic-energies``: an engine for each element, as an isolated atom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ase.data import atomic_numbers, chemical_symbols

from fhi_al.app import checks
from fhi_al.app.cluster_options import cluster_options
from fhi_al.app.isolated_atoms import AtomicEnergiesProcedure
from fhi_al.app.needs import Needs
from fhi_al.app.process_set_up import Process
from fhi_al.core.errors import EngineError, InputError
from fhi_al.core.structure import geometry_key
from fhi_al.engines import registry
from fhi_al.engines.aims_input.atomic import atomic_geometry
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.engine_service import EngineService
from fhi_al.labels.workers import Job
from fhi_al.report.logs import terminal_log
from fhi_al.settings import Settings, read_settings

if TYPE_CHECKING:
    from mpi4py import MPI

log = logging.getLogger(__name__)

POLL_S = 0.1


def compute(
    folder: Path, symbols: Sequence[str] | None, process: Process, given: Sequence[str] = ()
) -> None:
    """On rank 0, the others serving: compute the elements of geometry.in, or some of them.

    Parameters
    ----------
    folder : Path
    symbols : sequence of str or None
        Element symbols; None for all.
    process : Process
    given : sequence of str
        Keys of the command line, ``SECTION.key=value``.

    Raises
    ------
    SettingsError, InputError
        If the inputs are wrong.
    EngineError
        If an atom did not converge or the engine is broken.
    """
    settings, specs, left_out = _read(folder, symbols, given)
    process.changes.enter_context(terminal_log("INFO"))
    for line in left_out:
        log.info("%s", line)
    tasks: dict[int, Callable[[], ReferenceResult]] = {}
    with ExitStack() as parts:
        jobs = [spec for spec in specs.values() if spec.needs_job]
        if jobs:
            workers = ClusterWorkers(jobs, cluster_options(settings), folder / "cluster" / "atoms")
            parts.callback(workers.close)
        for number, spec in specs.items():
            if spec.needs_job:
                tasks[number] = partial(_calculate_as_job, workers, jobs.index(spec), spec)
            else:
                tasks[number] = partial(_calculate, process.comm, spec)
        AtomicEnergiesProcedure(folder, tasks).run()


def checked(folder: Path, symbols: Sequence[str] | None, given: Sequence[str] = ()) -> list[str]:
    """What ``--check`` prints for inputs without problems.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    """
    settings, specs, left_out = _read(folder, symbols, given)
    names = ", ".join(chemical_symbols[number] for number in specs)
    lines = [settings.as_yaml("active_learning"), f"isolated atoms: {names}"]
    lines += left_out
    for number, spec in specs.items():
        if spec.text:
            lines += [f"control.in of {chemical_symbols[number]}:", spec.text]
    return [*lines, "all inputs are in order; nothing was run"]


def _read(
    folder: Path, symbols: Sequence[str] | None, given: Sequence[str]
) -> tuple[Settings, dict[int, EngineSpec], list[str]]:
    """Settings, the spec of each atom, and what of the user's arguments atoms do not get."""
    settings = read_settings(folder, needs_mace=False, given=given)
    inputs = checks.read_inputs(settings)
    jobs = registry.engine_kind(settings).needs_job
    needs = Needs(initial_data=False, sampling=False, labels=True, cluster=jobs, models=False)
    checks.check(folder, settings, inputs, needs)
    numbers = checks.elements(inputs)
    if symbols:
        known = [chemical_symbols[number] for number in numbers]
        strange = [symbol for symbol in symbols if symbol not in known]
        if strange:
            raise InputError(
                [
                    f"--elements {' '.join(strange)}: not in geometry.in, which has "
                    f"{', '.join(known)}."
                ]
            )
        numbers = [atomic_numbers[symbol] for symbol in symbols]
    specs = {
        number: registry.atom_spec(
            folder, settings, inputs, atomic_geometry(number, _species(inputs, number))
        )
        for number in dict.fromkeys(numbers)
    }
    names = registry.left_out_of_atoms(settings, specs.values())
    left_out = [f"isolated atoms: without {name}, which is of the whole system" for name in names]
    return settings, specs, left_out


def _species(inputs: checks.Inputs, number: int) -> str | None:
    """The user's own species name of an element, where control.in defines one."""
    for geometry in inputs.geometries:
        for name, z in zip(geometry.species, geometry.structure.numbers, strict=True):
            if z == number:
                return name
    return None


def _calculate(comm: MPI.Intracomm, spec: EngineSpec) -> ReferenceResult:
    structure = spec.structure
    service = EngineService(comm, [spec])
    try:
        return service.calculate(0, structure.positions, structure.cell)
    finally:
        service.close()


def _calculate_as_job(workers: ClusterWorkers, system: int, spec: EngineSpec) -> ReferenceResult:
    atom = spec.structure
    key = geometry_key(system, atom.positions, atom.cell)
    workers.begin(Job(key, system, atom.positions, atom.cell))
    while not (finished := workers.collect()):
        time.sleep(POLL_S)
    result = finished[0].result
    if isinstance(result, EngineError):
        raise result
    if isinstance(result, str):
        return ReferenceResult.failed(1, result)
    return result
