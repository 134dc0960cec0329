"""Which physical checks there will be: of which systems, with how much of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fhi_al.app.evaluate.data import EvaluatedData, formula_of
from fhi_al.app.evaluate.order import ALL, CHECKS, ChecksOrder
from fhi_al.app.options import md_conditions
from fhi_al.app.systems import conditions_of
from fhi_al.core.label import Label
from fhi_al.core.schedule import highest
from fhi_al.core.structure import structure
from fhi_al.engines.inputs import Inputs
from fhi_al.evaluation.check import Subject
from fhi_al.evaluation.equation_of_state import N_VOLUMES
from fhi_al.evaluation.vibrations import n_reference_calculations
from fhi_al.settings import Settings

# Of a file without a run: room temperature, and steps that hydrogen allows.
TEMPERATURE, TIMESTEP_FS, TIMESTEP_WITH_HYDROGEN_FS = 300.0, 1.0, 0.5
# Of a file with many.
MOST_SUBJECTS = 4


@dataclass(frozen=True, eq=False)
class ChecksWork:
    """Which checks of which systems.

    Parameters
    ----------
    names : tuple of str
    subjects : tuple of Subject
        Without a reference.
    planned : mapping
        (check, system's name) -> calculations of the engine that the comparison takes.
    left_out : tuple of str
        What will not be looked at, and why.
    """

    names: tuple[str, ...]
    subjects: tuple[Subject, ...]
    planned: dict[tuple[str, str], int]
    left_out: tuple[str, ...]

    @property
    def n_calculations(self) -> int:
        """Of the engine, about."""
        return sum(self.planned.values())

    def described(self) -> list[str]:
        """Lines that say what is ahead."""
        systems = ", ".join(one.name for one in self.subjects)
        lines = [f"checks of {systems}: {', '.join(self.names)}"]
        if self.planned:
            each = ", ".join(f"{check} of {name} {n}" for (check, name), n in self.planned.items())
            lines.append(f"checks: about {self.n_calculations} calculations of the engine: {each}")
        return [*lines, *(f"note: {one}" for one in self.left_out)]


def subjects_of_run(settings: Settings, inputs: Inputs) -> tuple[Subject, ...]:
    """The run's systems that move, at the temperature of the first of their MD blocks."""
    blocks = md_conditions(settings)
    found = []
    for at in conditions_of(settings, inputs):
        one, block = inputs.each[at.system], blocks[at.blocks[0]]
        name = one.name or formula_of(one.structure)
        found.append(
            Subject(name, one.structure, float(highest(block.temperature)), block.timestep)
        )
    return tuple(found)


def subjects_of_data(data: EvaluatedData) -> tuple[Subject, ...]:
    """The lowest structure of each system of a file, of the systems with most structures."""
    groups: dict[str, list[Label]] = {}
    for each in data.structures:
        groups.setdefault(each.system, []).append(each.label)
    found = []
    for name, labels in sorted(groups.items(), key=lambda each: -len(each[1]))[:MOST_SUBJECTS]:
        lowest = min(labels, key=lambda label: label.energy / len(label.numbers))
        cell = lowest.cell if lowest.pbc else None
        own = structure(lowest.numbers, lowest.positions, cell)
        timestep = TIMESTEP_WITH_HYDROGEN_FS if 1 in lowest.numbers else TIMESTEP_FS
        found.append(Subject(name, own, TEMPERATURE, timestep))
    return tuple(found)


def plan_checks(
    order: ChecksOrder,
    subjects: Sequence[Subject],
    temperatures: Sequence[float],
    n_allowed: int,
    *,
    has_md: bool,
) -> ChecksWork:
    """Which checks there will be.

    Parameters
    ----------
    order : ChecksOrder
    subjects : sequence of Subject
    temperatures : sequence of float
        In K, of which the first counts; empty: those of the subjects.
    n_allowed : int
        Calculations of the engine.
    has_md : bool
        Whether there is an MD of the reference.
    """
    if temperatures:
        subjects = [replace(one, temperature=temperatures[0]) for one in subjects]
    every = ALL in order.names
    fitting = [n for n in CHECKS if any(_fits(n, one) for one in subjects)]
    names = tuple(name for name in fitting if every or name in order.names)
    left_out = [
        f"{name} is of {'crystals' if name == 'eos' else 'molecules'}, and there is none: left out"
        for name in CHECKS
        if name in order.names and name not in names
    ]
    if "rdf" in names and not has_md:
        names = tuple(name for name in names if name != "rdf")
        left_out.append("rdf needs structures of an MD of the engine: left out without --on md")
    planned: dict[tuple[str, str], int] = {}
    for check, n_of in (("eos", _n_eos), ("vibrations", _n_vibrations)):
        for one in subjects if check in names else ():
            n = n_of(one)
            if not n or not n_allowed:
                continue
            if sum(planned.values()) + n > n_allowed:
                left_out.append(
                    f"{check} of {one.name} is not compared with the engine, which would take about"
                    f" {n} calculations: allow more with --reference"
                )
            else:
                planned[check, one.name] = n
    return ChecksWork(names, tuple(subjects), planned, tuple(left_out))


def _fits(check: str, subject: Subject) -> bool:
    """Whether a check looks at a system."""
    if check == "eos":
        return subject.structure.pbc
    if check == "vibrations":
        return not subject.structure.pbc and len(subject.structure) > 1
    return True


def _n_eos(subject: Subject) -> int:
    return N_VOLUMES if subject.structure.pbc else 0


def _n_vibrations(subject: Subject) -> int:
    n_atoms = len(subject.structure)
    is_molecule = not subject.structure.pbc and n_atoms > 1
    return n_reference_calculations(n_atoms) if is_molecule else 0
