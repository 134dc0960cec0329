"""Everything that can be known to be wrong before any reference calculation.  Runs nothing.

Owns what ``--check`` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.calculators.calculator import BaseCalculator, all_changes
from ase.data import chemical_symbols

from fhi_al.app import fine_tuning
from fhi_al.app.cluster_checks import cluster_problems
from fhi_al.app.displaced import displaced_problems
from fhi_al.app.metrics import logger_problems
from fhi_al.app.needs import EVERYTHING, Needs
from fhi_al.app.systems import conditions_of, read_systems
from fhi_al.app.systems_apart import apart_problems
from fhi_al.core.errors import InputError
from fhi_al.core.plausible import GeometryLimits, LabelLimits, geometry_problem, motion_problem
from fhi_al.engines import registry
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.inputs import Inputs as Inputs
from fhi_al.engines.inputs import elements as elements
from fhi_al.md.atoms import atoms_of, radii_of
from fhi_al.models.devices import cuequivariance_problem
from fhi_al.settings import ActiveLearning, Settings
from fhi_al.settings.md_blocks import md_blocks

AL = "ACTIVE_LEARNING"


def read_inputs(settings: Settings) -> Inputs:
    """Read the geometries of the systems, and control.in if the engine needs it.

    Raises
    ------
    InputError
        With the problems of all files, or if there is no such engine after all.
    """
    kind = registry.engine_kind(settings)
    inputs = read_systems(settings, needs_control=kind.needs_control)
    return registry.completed(settings, inputs)


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
    problems = [*_structure_problems(settings, inputs), *_stress_problems(settings, inputs)]
    if needs.cluster:
        problems += cluster_problems(folder, settings)
    if needs.labels:
        problems += registry.engine_problems(folder, settings, inputs)
        if needs.models:  # isolated atoms are computed one by one
            problems += apart_problems(settings, inputs)
    if needs.models and settings.mace is not None:
        problems += _model_problems(settings, inputs)
        problems += fine_tuning.problems(settings, elements(inputs))
        problems += _npt_problems(settings, inputs)
    if needs.models:
        problems += logger_problems(settings)
    if needs.sampling and settings.mace is not None:
        problems += _foundation_problems(settings, inputs)
        problems += displaced_problems(settings, inputs, geometry_limits(settings))
    if problems:
        raise InputError(problems)


def geometry_limits(settings: Settings) -> GeometryLimits:
    """When a structure of this run makes no sense."""
    return GeometryLimits(settings.al.min_distance, settings.al.max_distance)


def label_limits(settings: Settings) -> LabelLimits:
    """What a label of this run must not exceed."""
    al = settings.al
    max_stress = al.max_stress if settings.computes_stress else None
    return LabelLimits(al.max_force, al.max_energy_per_atom, max_stress)


def _stress_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    """What is asked of the stress of systems that have none, or of labels that have none."""
    if settings.computes_stress:
        if not any(one.structure.pbc for one in inputs.moving):
            paths = ", ".join(str(one.geometry.path) for one in inputs.moving)
            yield str(
                settings.problem(
                    "mace",
                    "GENERAL.compute_stress",
                    f"{paths} is a molecule, which has no stress: expected three lattice_vector"
                    " lines. Set it to false",
                )
            )
    elif settings.mace is not None and settings.al.stress_threshold is not None:
        yield str(
            settings.problem(
                "active_learning",
                f"{AL}.stress_threshold",
                "is about the stress, which labels do not have. Set GENERAL.compute_stress in"
                " mace_settings.yaml to true, or remove this key",
            )
        )


def _npt_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    """What a cell that moves lacks: a stress, three lattice vectors, atoms that move with it.

    Said of the first MD block that moves it.
    """
    blocks = md_blocks(settings.md)
    labels = [block.label for block in blocks if block.settings.stat_ensemble == "NPT"]
    if not labels:
        return

    def problem(message: str) -> str:
        return str(settings.problem("active_learning", f"{labels[0]}.stat_ensemble", message))

    if not settings.computes_stress:
        yield problem(
            "needs the stress, which labels and models do not have. Set GENERAL.compute_stress in"
            " mace_settings.yaml to true, or use NVT"
        )
    moving = {block.label for block in blocks if block.settings.stat_ensemble == "NPT"}
    for conditions in conditions_of(settings, inputs):
        if not any(blocks[k].label in moving for k in conditions.blocks):
            continue
        geometry = inputs.geometries[conditions.system]
        if not geometry.structure.pbc:
            yield problem(
                f"{geometry.path} is a molecule, which has no cell that could move: expected three"
                " lattice_vector lines. Use NVT"
                + (", or name the MD blocks of each system (md)" if len(inputs.each) > 1 else "")
            )
        elif geometry.structure.fixed.any():
            yield problem(
                f"{geometry.path} has atoms fixed by constrain_relaxation, which would not move"
                " with the cell. Take these lines out, or use NVT"
            )


def _structure_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    limits = geometry_limits(settings)
    for one in inputs.each:
        s = one.structure
        starts = one.starts or ((s.positions, s.cell),)
        for number, (positions, cell) in enumerate(starts):
            problem = geometry_problem(positions, cell, s.pbc, radii_of(s), limits)
            if problem is not None:
                which = f" (start {number})" if one.starts else ""
                yield f"{one.geometry.path}{which}: {problem}. Correct the positions."


def _model_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    """What keeps models from being trained; isolated atoms need none of it."""
    assert settings.mace is not None
    for one in inputs.moving:
        problem = motion_problem(one.structure.fixed)
        if problem is not None:
            yield f"{one.geometry.path}: {problem}."
    if settings.mace.misc.device != "cpu":
        # Imported here: torch takes seconds, which a check on the CPU can do without.
        from fhi_al.models.ensemble import device_problem

        problem = device_problem(settings.mace.misc.device)
        if problem is not None:
            yield str(settings.problem("mace", "MISC.device", problem))
    absent = cuequivariance_problem(settings.mace.misc.device)
    if settings.mace.misc.enable_cueq is True and absent is not None:
        yield str(settings.problem("mace", "MISC.enable_cueq", absent))
    given = settings.mace.architecture.atomic_energies
    if given:
        missing = [chemical_symbols[z] for z in elements(inputs) if z not in given]
        if missing:
            yield str(
                settings.problem(
                    "mace",
                    "ARCHITECTURE.atomic_energies",
                    f"no energy for {', '.join(missing)}: expected one for every element "
                    "of the systems, in eV. FHI_AL-atomic-energies computes them; without the key "
                    "averages from the data are used",
                )
            )


def _foundation_problems(settings: Settings, inputs: Inputs) -> Iterator[str]:
    """Of each foundation model that a source of the initial dataset needs."""
    al, chosen = settings.al, foundation_settings(settings)
    for source in al.sources:
        if source not in ("mace-mp0", "foundation"):
            continue
        from fhi_al.app.foundation import foundation_calculator, foundation_problem

        key, problem = "initial_sampling", foundation_problem(chosen, source)
        if source == "foundation":
            key = "foundation_model" if al.foundation_model else "foundation_calculator"
            if problem is None:
                needs_stress = any(md.stat_ensemble == "NPT" for md in settings.md)
                calculator = foundation_calculator(chosen, source)
                found = (
                    _sampling_problem(calculator, one.geometry, needs_stress and one.structure.pbc)
                    for one in inputs.moving
                )
                problem = next((each for each in found if each is not None), None)
        if problem is not None:
            yield str(settings.problem("active_learning", f"{AL}.{key}", problem))


def _sampling_problem(
    calculator: BaseCalculator, geometry: Geometry, needs_stress: bool
) -> str | None:
    """Why a calculator cannot sample from a structure: its forces are tried once."""
    system, name = geometry.structure, geometry.path.name
    wanted = ["energy", "forces", *(["stress"] if needs_stress else [])]
    try:
        calculator.calculate(atoms_of(system), wanted, all_changes)
        forces = np.asarray(calculator.results["forces"])
    except Exception as error:  # what a foreign calculator raises cannot be foreseen
        return (
            f"it cannot compute {name} ({type(error).__name__}: {error}): expected "
            f"{', '.join(wanted)}. Some models know periodic systems only; choose another one"
        )
    if forces.shape != (len(system), 3) or not np.isfinite(forces).all():
        return f"its forces on {name} are not finite: choose another one"
    if needs_stress and not np.isfinite(calculator.results.get("stress", np.nan)).all():
        return f"it gives no stress for {name}, which NPT needs: choose another one"
    return None


def foundation_settings(settings: Settings) -> ActiveLearning:
    """The ACTIVE_LEARNING section with the path of the foundation model made absolute."""
    al = settings.al
    if al.foundation_model is None:
        return al
    return al.model_copy(update={"foundation_model": settings.resolve(al.foundation_model)})
