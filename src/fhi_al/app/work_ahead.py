"""What ``--check`` says of the work ahead of a run.  Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, pi, sqrt

import numpy as np
from ase import units
from ase.data import chemical_symbols

from fhi_al.app.checks import Inputs, elements, geometry_limits
from fhi_al.app.displaced import displaced_list
from fhi_al.app.needs import EVERYTHING, Needs
from fhi_al.app.options import md_conditions
from fhi_al.app.systems import trajectory_table
from fhi_al.core.assignment import trajectories_of
from fhi_al.core.final_test import LABELS_PER_TEST_LABEL, MOST_LABELS
from fhi_al.core.schedule import lowest, quantity_of
from fhi_al.core.split import n_to_sample
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.md.conditions import MDConditions
from fhi_al.md.table import Described, conditions_table
from fhi_al.settings import ActiveLearning, Settings
from fhi_al.settings.md_blocks import md_blocks


def work_ahead(settings: Settings, inputs: Inputs, needs: Needs = EVERYTHING) -> list[str]:
    """An estimate of the work that is left, as lines for ``--check``."""
    al = settings.al
    lines = [_systems(inputs)]
    if needs.sampling and "none" in al.sources:
        lines.append("initial dataset: none; active learning begins with the foundation model")
    elif needs.sampling:
        rounds = ceil(al.max_initial_epochs / al.intermediate_epochs)
        per_round = n_to_sample(0, al.n_samples * al.ensemble_size, al.test_ratio)
        calls = ceil(per_round * al.calls_per_point)
        if "displaced" in al.sources:
            made = displaced_list(settings, inputs, geometry_limits(settings))
            lines.append(f"initial dataset: displaced structures: {made.described()}")
        first = "" if al.initial_data is None else "where initial_data is not enough, "
        lines.append(
            f"initial dataset: {first}{per_round} points and {calls} reference calculations per "
            f"round, at most {rounds} rounds ({rounds * calls} calculations, "
            f"{al.max_initial_epochs} epochs for each of {al.ensemble_size} members)"
        )
    if needs.labels:
        lines += _active_learning_ahead(al, len(trajectory_table(settings, inputs)))
    if needs.models and al.converge_al:
        members = 1 if al.converge_best else al.ensemble_size
        lines.append(
            f"final convergence: at most {al.max_final_epochs} epochs of {members} member(s)"
        )
    if needs.labels and al.final_test != 0:
        lines.append(f"final test: {_test_labels(al)} of structures of the finished models' own MD")
    if needs.labels and al.label_budget is not None:
        lines.append(f"label_budget: at most {al.label_budget} reference calculations in all")
    if needs.labels and max(len(inputs.moving), len(md_blocks(settings.md))) > 1:
        lines += [f"MD: {line}" for line in _table(settings, inputs)]
    lines += _energies_of_atoms(settings, inputs, needs)
    lines += _advice(settings, needs)
    return lines + list(_fast_barostats(settings, inputs, needs))


# Vibrations of a molecule decay and mix in a tenth of a picosecond and more.
SHORT_MD_FS = 500.0


def _systems(inputs: Inputs) -> str:
    described = [
        (f"{one.name}: " if one.name else "")
        + formula(one.geometry)
        + (f", {len(one.starts)} starts" if one.starts else "")
        for one in inputs.moving
    ]
    return f"system{'s' if len(described) > 1 else ''}: {'; '.join(described)}"


def _energies_of_atoms(settings: Settings, inputs: Inputs, needs: Needs) -> Iterator[str]:
    """Where the systems' compositions do not determine the energies of their elements."""
    assert settings.mace is not None
    if not needs.models or len(inputs.each) == 1 or settings.mace.architecture.atomic_energies:
        return
    numbers = elements(inputs)
    counts = [[np.count_nonzero(one.numbers == z) for z in numbers] for one in inputs.systems]
    rank = int(np.linalg.matrix_rank(np.array(counts, dtype=float)))
    if rank < len(numbers):
        symbols = ", ".join(chemical_symbols[z] for z in numbers)
        yield (
            f"note: energies of atoms (E0s) are fitted to the labels, whose {len(counts)} systems "
            f"determine {rank} of the {len(numbers)} of {symbols}: right for these systems, not "
            "for others, such as one that is added later. FHI_AL-atomic-energies computes them for "
            "ARCHITECTURE.atomic_energies"
        )


def _table(settings: Settings, inputs: Inputs) -> list[str]:
    """Which trajectory of active learning runs what."""
    conditions = md_conditions(settings)

    def moving(trajectory: TrajectoryState) -> Described:
        one = inputs.each[trajectory.system]
        return Described(conditions[trajectory.md], one.name, one.starts)

    return conditions_table(trajectories_of(trajectory_table(settings, inputs)), moving)


def _advice(settings: Settings, needs: Needs) -> Iterator[str]:
    """Where the same labels, or fewer, give better models."""
    al = settings.al
    if needs.sampling and "aimd" in al.sources:
        yield (
            f"advice: initial_sampling: aimd computes {al.skip_step_initial} MD steps for each "
            "point, neighbours on one short trajectory. Of a cheap method's MD only the points are "
            "computed, and they are farther apart: initial_sampling: mace-mp0, or foundation with "
            "foundation_calculator: tblite.ase.TBLite, foundation_arguments: {method: GFN1-xTB}"
        )
    longest_fs = (al.max_MD_steps or 0) * min(md.timestep for md in settings.md)
    if needs.labels and 0 < longest_fs < SHORT_MD_FS:
        yield (
            f"advice: max_MD_steps: {al.max_MD_steps} lets a trajectory run {longest_fs:g} fs: it "
            "hardly leaves where it starts. The models' MD is cheap, labels are asked for only "
            f"where they disagree: take {SHORT_MD_FS / min(md.timestep for md in settings.md):.0f} "
            "or more"
        )


# The slowest vibrations of atoms in solids take about as long.
SLOW_VIBRATION_FS = 100.0
# Of an oscillation, at least: the integrators are of second order.
STEPS_PER_PERIOD = 20
# Of solids, 40 (sodium chloride 25) to 440 (diamond); what it is, is not known before.
BULK_MODULUS_GPA = 100.0


def volume_period_fs(
    temperature: float, barostat_time_fs: float, bulk_modulus_gpa: float, volume_per_atom: float
) -> float:
    """Period with which the volume of a crystal swings under Martyna-Tobias-Klein barostats.

    2 pi tau sqrt(k_B T / (3 B v)): a volume of mass 3 N k_B T tau^2 in a cell that resists with B.

    Parameters
    ----------
    temperature : float
        In K.
    barostat_time_fs, bulk_modulus_gpa : float
    volume_per_atom : float
        In A^3.
    """
    stiffness = 3 * bulk_modulus_gpa * units.GPa * volume_per_atom
    return 2 * pi * barostat_time_fs * sqrt(units.kB * temperature / stiffness)


def _fast_barostats(settings: Settings, inputs: Inputs, needs: Needs) -> Iterator[str]:
    """MTK's barostats whose volume would swing faster than the atoms."""
    crystals = [geometry.structure for geometry in inputs.geometries if geometry.structure.pbc]
    if not crystals or not (needs.labels or needs.sampling):
        return
    volume = min(abs(float(np.linalg.det(one.cell))) / len(one.numbers) for one in crystals)
    warned = set()
    for block in md_blocks(settings.md):
        md = block.settings
        if md.stat_ensemble != "NPT" or not md.barostat.startswith("MTK"):
            continue
        barostat_time = md.barostat_time or MDConditions.barostat_time
        coldest = lowest(quantity_of(md.temperature))
        period = volume_period_fs(coldest, barostat_time, BULK_MODULUS_GPA, volume)
        shortest = max(SLOW_VIBRATION_FS, STEPS_PER_PERIOD * md.timestep)
        if period < shortest and block.label not in warned:
            warned.add(block.label)
            yield (
                f"warning: {block.label}.barostat_time: {barostat_time:g} fs lets the volume swing "
                f"with a period of about {period:.0f} fs ({md.barostat}, at a bulk modulus of "
                f"{BULK_MODULUS_GPA:g} GPa), shorter than slow vibrations of atoms or "
                f"{STEPS_PER_PERIOD} steps: take {barostat_time * shortest / period:.0f} or more, "
                "or barostat: CellRescaling"
            )


def _test_labels(al: ActiveLearning) -> str:
    if al.final_test == "auto":
        return f"a label for each {LABELS_PER_TEST_LABEL} computed before, at most {MOST_LABELS},"
    return f"{al.final_test} labels"


def _active_learning_ahead(al: ActiveLearning, n_trajectories: int) -> Iterator[str]:
    if al.max_MD_steps is None:
        yield f"active learning: MD on {n_trajectories} trajectories without a limit of steps"
    else:
        n_checks = n_trajectories * ceil(al.max_MD_steps / al.skip_step_mlff)
        yield (
            f"active learning: at most {n_trajectories * al.max_MD_steps} MD steps, "
            f"{n_checks} uncertainty checks, each of which may ask for a label"
        )
    if al.max_set_size is not None:
        yield f"active learning: stops at {al.max_set_size} training points per member"
    if al.analysis:
        yield f"analysis: one more label every {al.sanity_skip} MD steps of a trajectory"


def formula(geometry: Geometry) -> str:
    """Of a system, and what it is: ``H2O (molecule)``."""
    numbers = geometry.structure.numbers
    counts = [(chemical_symbols[z], int((numbers == z).sum())) for z in sorted(set(numbers))]
    kind = "crystal" if geometry.structure.pbc else "molecule"
    return "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts) + f" ({kind})"
