"""Everything that can be known to be wrong before any reference calculation.  Runs nothing.

Owns reading the FHI-aims inputs of a run and what ``--check`` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.calculators.calculator import BaseCalculator, all_changes
from ase.data import chemical_symbols

from fhi_al.app.cluster_checks import cluster_problems
from fhi_al.app.needs import EVERYTHING, Needs
from fhi_al.core.errors import InputError
from fhi_al.core.plausible import GeometryLimits, geometry_problem, motion_problem
from fhi_al.core.structure import Array, Structure
from fhi_al.engines.aims_input.control import Control, read_control
from fhi_al.engines.aims_input.engine_input import (
    control_problems,
    engine_input,
    species_masses,
)
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry, read_geometry, with_masses
from fhi_al.engines.ase_calculator import calculator_problem
from fhi_al.engines.asi_library import library_problem
from fhi_al.engines.spec import AseSpec, AsiSpec, EngineSpec
from fhi_al.engines.tblite import is_tblite, system_problem, tblite_spec
from fhi_al.md.atoms import atoms_of, radii_of
from fhi_al.models.devices import cuequivariance_problem
from fhi_al.settings import ActiveLearning, Settings

AL = "ACTIVE_LEARNING"


@dataclass(frozen=True, eq=False)
class Inputs:
    """The FHI-aims inputs of a run, one entry per system; ``controls`` is None without aims."""

    geometries: tuple[Geometry, ...]
    control: Control | None

    @property
    def systems(self) -> tuple[Structure, ...]:
        """The structure of each geometry.in."""
        return tuple(geometry.structure for geometry in self.geometries)

    def with_masses(self, masses: Sequence[Array | None]) -> Inputs:
        """The same with other masses of each system's atoms, in u; None for the elements'."""
        pairs = zip(self.geometries, masses, strict=True)
        geometries = (
            replace(geometry, structure=replace(geometry.structure, masses=of_atoms))
            for geometry, of_atoms in pairs
        )
        return Inputs(tuple(geometries), self.control)


def read_inputs(folder: Path, settings: Settings) -> Inputs:
    """Read geometry.in, and control.in if the engine needs it.

    Raises
    ------
    InputError
        With the problems of both files.
    """
    problems: list[str] = []
    control = None
    if settings.al.reference_engine == "aims":
        try:
            control = read_control(folder / "control.in")
        except AimsInputError as error:
            problems.append(str(error))
    geometries: tuple[Geometry, ...] = ()
    try:
        nuclei = control.nuclei if control else None
        geometry = read_geometry(folder / "geometry.in", nuclei)
        if control is not None:
            geometry = with_masses(geometry, _masses(control, geometry, settings))
        geometries = (geometry,)
    except AimsInputError as error:
        problems.append(str(error))
    if problems:
        raise InputError(problems)
    return Inputs(geometries, control)


def _masses(control: Control, geometry: Geometry, settings: Settings) -> dict[str, float]:
    try:
        return species_masses(control, geometry.species, species_dir(settings))
    except AimsInputError:
        return {}  # a species without a block, say: told by check(), if it is needed at all


def check(folder: Path, settings: Settings, inputs: Inputs, needs: Needs = EVERYTHING) -> None:
    """Check all that needs no reference calculation.

    Parameters
    ----------
    folder : Path
    settings : Settings
    inputs : Inputs
    needs : Needs
        What is not needed any more may be missing.

    Raises
    ------
    InputError
        With all problems found.
    """
    problems = list(_structure_problems(settings, inputs))
    if needs.cluster:
        problems += cluster_problems(settings)
    if needs.labels:
        problems += _engine_problems(settings, inputs)
    if needs.models and settings.mace is not None:
        problems += _model_problems(settings, inputs)
    if needs.sampling and settings.mace is not None:
        problems += _foundation_problems(settings, inputs)
    if problems:
        raise InputError(problems)


def geometry_limits(settings: Settings) -> GeometryLimits:
    """When a structure of this run makes no sense."""
    return GeometryLimits(settings.al.min_distance, settings.al.max_distance)


def engine_specs(folder: Path, settings: Settings, inputs: Inputs) -> list[EngineSpec]:
    """What each rank needs to build the engine of each system, without a cluster."""
    al = settings.al
    specs: list[EngineSpec] = []
    for geometry in inputs.geometries:
        if al.reference_engine == "tblite":
            spec: EngineSpec = tblite_spec(
                al.reference_method,
                geometry.structure,
                al.reference_arguments,
                scf_warm_start=al.scf_warm_start,
            )
        elif al.reference_engine == "ase":
            assert al.reference_calculator is not None
            spec = AseSpec(
                al.reference_calculator,
                geometry.structure,
                al.reference_arguments,
                cold_start=not al.scf_warm_start,
            )
        else:
            assert inputs.control is not None and al.aims_lib_path is not None
            prepared = engine_input(inputs.control, geometry, species_dir(settings), stress=False)
            spec = AsiSpec(
                library=settings.resolve(al.aims_lib_path),
                work_dir=folder / "aims",
                control=prepared.text,
                geometry=geometry,
            )
        specs.append(spec)
    return specs


def added_to_control(settings: Settings, inputs: Inputs) -> tuple[str, ...]:
    """What we add to the user's control.in, for the log."""
    if inputs.control is None:
        return ()
    return engine_input(
        inputs.control, inputs.geometries[0], species_dir(settings), stress=False
    ).added


def elements(inputs: Inputs) -> list[int]:
    """Atomic numbers of all systems, ascending."""
    return sorted({int(z) for g in inputs.geometries for z in g.structure.numbers})


def species_dir(settings: Settings) -> Path | None:
    """Folder of the species defaults, absolute; None if none was given."""
    given = settings.al.species_dir
    return None if given is None else settings.resolve(given)


def _structure_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    for geometry in inputs.geometries:
        s = geometry.structure
        limits = geometry_limits(settings)
        problem = geometry_problem(s.positions, s.cell, s.pbc, radii_of(s), limits)
        if problem is not None:
            yield f"{geometry.path}: {problem}. Correct the positions."


def _engine_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    al = settings.al
    if al.reference_engine == "aims":
        assert inputs.control is not None
        for geometry in inputs.geometries:
            folder = species_dir(settings)
            for error in control_problems(inputs.control, geometry, folder, False):
                if error.path == folder:
                    # What has to be corrected is the key that names the folder.
                    message = f"{error.what}: {error.expected}. {error.fix}"
                    yield str(settings.problem("active_learning", f"{AL}.species_dir", message))
                else:
                    yield str(error)
        path = al.aims_lib_path  # None with a cluster, which runs the executable
        problem = None if path is None else library_problem(settings.resolve(path))
        if problem is not None:
            yield str(settings.problem("active_learning", f"{AL}.aims_lib_path", problem))
        return
    key = "reference_calculator"
    if al.reference_engine == "tblite":
        key = "reference_arguments" if al.reference_arguments else "reference_engine"
    for spec in engine_specs(settings.folder, settings, inputs):
        assert isinstance(spec, AseSpec)
        problem = calculator_problem(spec)
        if problem is None and is_tblite(spec.calculator):
            problem = system_problem(spec)
        if problem is not None:
            yield str(settings.problem("active_learning", f"{AL}.{key}", problem))


def _model_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    """What keeps models from being trained; isolated atoms need none of it."""
    assert settings.mace is not None
    for geometry in inputs.geometries:
        problem = motion_problem(geometry.structure.fixed)
        if problem is not None:
            yield f"{geometry.path}: {problem}."
    if settings.mace.misc.device != "cpu":
        # Imported here: torch takes seconds, which a check on the CPU can do without.
        from fhi_al.models.ensemble import device_problem

        problem = device_problem(settings.mace.misc.device)
        if problem is not None:
            yield str(settings.problem("mace", "MISC.device", problem))
    if settings.mace.misc.enable_cueq and (absent := cuequivariance_problem()):
        yield str(settings.problem("mace", "MISC.enable_cueq", absent))
    given = settings.mace.architecture.atomic_energies
    if given:
        missing = [chemical_symbols[z] for z in elements(inputs) if z not in given]
        if missing:
            yield str(
                settings.problem(
                    "mace",
                    "ARCHITECTURE.atomic_energies",
                    f"no energy for {', '.join(missing)}: expected one for every element in "
                    "geometry.in, in eV. FHI_AL-atomic-energies computes them; without the key "
                    "averages from the data are used",
                )
            )


def _foundation_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    al = settings.al
    if al.initial_sampling == "aimd":
        return
    from fhi_al.app.foundation import foundation_calculator, foundation_problem

    chosen = foundation_settings(settings)
    problem = foundation_problem(chosen)
    if problem is None and al.initial_sampling == "foundation":
        problem = _sampling_problem(foundation_calculator(chosen), inputs.geometries[0].structure)
    if problem is not None:
        key = "initial_sampling"
        if al.initial_sampling == "foundation":
            key = "foundation_model" if al.foundation_model else "foundation_calculator"
        yield str(settings.problem("active_learning", f"{AL}.{key}", problem))


def _sampling_problem(calculator: BaseCalculator, system: Structure) -> str | None:
    """Why a calculator cannot sample from a structure: its forces are tried once."""
    try:
        calculator.calculate(atoms_of(system), ["energy", "forces"], all_changes)
        forces = np.asarray(calculator.results["forces"])
    except Exception as error:  # what a foreign calculator raises cannot be foreseen
        return (
            f"it cannot compute geometry.in ({type(error).__name__}: {error}): expected energy and "
            "forces. Some models know periodic systems only; choose another one"
        )
    if forces.shape != (len(system), 3) or not np.isfinite(forces).all():
        return "its forces on geometry.in are not finite: choose another one"
    return None


def foundation_settings(settings: Settings) -> ActiveLearning:
    """The ACTIVE_LEARNING section with the path of the foundation model made absolute."""
    al = settings.al
    if al.foundation_model is None:
        return al
    return al.model_copy(update={"foundation_model": settings.resolve(al.foundation_model)})
