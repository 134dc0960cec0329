"""Wire ``FHI_AL-atomic-energies``: an engine for each element, as an isolated atom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from fhi_al.app import checks
from fhi_al.app.cluster_options import aims_command, cluster_options
from fhi_al.app.isolated_atoms import AtomicEnergiesProcedure
from fhi_al.app.needs import Needs
from fhi_al.app.process_set_up import Process
from fhi_al.core.errors import EngineError, InputError
from fhi_al.core.structure import geometry_key
from fhi_al.engines.aims_input.atomic import atomic_geometry, atomic_input
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.ase_calculator import default_arguments
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.isolated_atom import arguments_of_atom, left_out
from fhi_al.engines.spec import AimsCommandSpec, AseSpec, AsiSpec, EngineSpec
from fhi_al.engines.tblite import TBLITE, tblite_spec
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.engine_service import EngineService
from fhi_al.labels.workers import Job
from fhi_al.report.logs import terminal_log
from fhi_al.settings import Settings, read_settings

if TYPE_CHECKING:
    from mpi4py import MPI

log = logging.getLogger(__name__)

POLL_S = 0.1
AnySpec = EngineSpec | AimsCommandSpec


def compute(folder: Path, symbols: Sequence[str] | None, process: Process) -> None:
    """On rank 0, the others serving: compute the elements of geometry.in, or some of them.

    Parameters
    ----------
    folder : Path
    symbols : sequence of str or None
        Element symbols; None for all.
    process : Process

    Raises
    ------
    SettingsError, InputError
        If the inputs are wrong.
    EngineError
        If an atom did not converge or the engine is broken.
    """
    settings, specs = _read(folder, symbols)
    process.changes.enter_context(terminal_log("INFO"))
    for line in _left_out(settings, specs):
        log.info("%s", line)
    tasks: dict[int, Callable[[], ReferenceResult]] = {}
    with ExitStack() as parts:
        jobs = [spec for spec in specs.values() if isinstance(spec, AimsCommandSpec)]
        if jobs:
            workers = ClusterWorkers(jobs, cluster_options(settings), folder / "cluster" / "atoms")
            parts.callback(workers.close)
        for number, spec in specs.items():
            if isinstance(spec, AimsCommandSpec):
                tasks[number] = partial(_calculate_as_job, workers, jobs.index(spec), spec)
            else:
                tasks[number] = partial(_calculate, process.comm, spec)
        AtomicEnergiesProcedure(folder, tasks).run()


def checked(folder: Path, symbols: Sequence[str] | None) -> list[str]:
    """What ``--check`` prints for inputs without problems.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    """
    settings, specs = _read(folder, symbols)
    names = ", ".join(chemical_symbols[number] for number in specs)
    lines = [settings.as_yaml("active_learning"), f"isolated atoms: {names}"]
    lines += _left_out(settings, specs)
    for number, spec in specs.items():
        if isinstance(spec, AsiSpec | AimsCommandSpec):
            lines += [f"control.in of {chemical_symbols[number]}:", spec.control]
    return [*lines, "all inputs are in order; nothing was run"]


def _read(folder: Path, symbols: Sequence[str] | None) -> tuple[Settings, dict[int, AnySpec]]:
    settings = read_settings(folder, needs_mace=False)
    inputs = checks.read_inputs(folder, settings)
    # Of all engines, only FHI-aims' executable computes an atom as a job on a cluster.
    jobs = settings.al.reference_engine == "aims"
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
    try:
        return settings, {
            number: _spec(folder, settings, inputs, number) for number in dict.fromkeys(numbers)
        }
    except AimsInputError as error:
        raise InputError([str(error)]) from error


def _spec(folder: Path, settings: Settings, inputs: checks.Inputs, number: int) -> AnySpec:
    al = settings.al
    atom = atomic_geometry(number, _species(inputs, number))
    if al.reference_engine == "tblite":
        return tblite_spec(al.reference_method, atom.structure, _arguments(settings, atom))
    if al.reference_engine == "ase":
        assert al.reference_calculator is not None
        return AseSpec(al.reference_calculator, atom.structure, _arguments(settings, atom))
    assert inputs.control is not None
    prepared = atomic_input(inputs.control, atom, checks.species_dir(settings))
    if al.cluster is not None:
        return AimsCommandSpec(aims_command(settings), prepared.text, atom)
    assert al.aims_lib_path is not None
    return AsiSpec(
        library=settings.resolve(al.aims_lib_path),
        work_dir=folder / "aims" / f"atom_{chemical_symbols[number]}",
        control=prepared.text,
        geometry=atom,
    )


def _arguments(settings: Settings, atom: Geometry) -> dict[str, Any]:
    """The calculator's arguments without those that are about the whole system."""
    al = settings.al
    calculator = al.reference_calculator if al.reference_engine == "ase" else TBLITE
    assert calculator is not None
    unpaired = round(float(atom.structure.initial_moments[0]))
    return arguments_of_atom(al.reference_arguments, unpaired, default_arguments(calculator))


def _left_out(settings: Settings, specs: Mapping[int, AnySpec]) -> list[str]:
    """Which of the user's arguments the atoms do not have, as lines for the user."""
    given = settings.al.reference_arguments
    specs_with_arguments = [spec for spec in specs.values() if isinstance(spec, AseSpec)]
    names = dict.fromkeys(
        n for spec in specs_with_arguments for n in left_out(given, spec.arguments)
    )
    return [f"isolated atoms: without {name}, which is of the whole system" for name in names]


def _species(inputs: checks.Inputs, number: int) -> str | None:
    """The user's own species name of an element, where control.in defines one."""
    for geometry in inputs.geometries:
        for name, z in zip(geometry.species, geometry.structure.numbers, strict=True):
            if z == number:
                return name
    return None


def _calculate(comm: MPI.Intracomm, spec: EngineSpec) -> ReferenceResult:
    structure = spec.geometry.structure if isinstance(spec, AsiSpec) else spec.structure
    service = EngineService(comm, [spec])
    try:
        return service.calculate(0, structure.positions, structure.cell)
    finally:
        service.close()


def _calculate_as_job(
    workers: ClusterWorkers, system: int, spec: AimsCommandSpec
) -> ReferenceResult:
    atom = spec.structure
    key = geometry_key(system, atom.positions, atom.cell)
    workers.begin(Job(key, system, atom.positions, atom.cell))
    while not (finished := workers.collect()):
        time.sleep(POLL_S)
    result = finished[0].result
    if isinstance(result, EngineError):
        raise result
    if isinstance(result, str):
        return ReferenceResult(float("nan"), np.full((1, 3), np.nan), None, False, result)
    return result
