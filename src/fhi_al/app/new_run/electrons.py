"""Charge and spin of a new run's system: as asked for, as the file says, or the least possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ase.data import chemical_symbols

from fhi_al.app.new_run.structure import StartingStructure
from fhi_al.core.errors import InputError
from fhi_al.core.structure import Structure
from fhi_al.engines.open_shell import as_xtb_counts, has_unpaired_electron
from fhi_al.engines.tblite import is_tblite

EngineChoice = Literal["aims", "tblite", "ase"]

OFTEN_MAGNETIC = (24, 25, 26, 27, 28, *range(58, 71))
OWN_KEYWORDS = "with the calculator's own keywords in ACTIVE_LEARNING.reference_arguments"
MOMENTS = "initial_moment below the atoms in geometry.in"


@dataclass(frozen=True)
class Electrons:
    """Charge and spin of a system.

    Parameters
    ----------
    charge : float
        In e.
    multiplicity : int or None
        2S + 1; None where nobody knows.
    notes : tuple of str
        What was assumed.
    """

    charge: float
    multiplicity: int | None
    notes: tuple[str, ...] = ()


def electrons_of(
    start: StartingStructure,
    engine: EngineChoice,
    charge: float | None,
    multiplicity: int | None,
    calculator: str | None = None,
) -> Electrons:
    """Charge and spin: as they are asked for, as the file says, or the least that is possible.

    Parameters
    ----------
    start : StartingStructure
    engine : {"aims", "tblite", "ase"}
    charge, multiplicity : number or None
        What is asked for.
    calculator : str or None
        Import path of the ASE calculator.

    Raises
    ------
    InputError
        If the multiplicity does not go with the number of electrons; or a calculator is asked for
        whose keywords are not known.
    """
    by_path = engine == "ase" and calculator is not None and is_tblite(calculator)
    is_xtb = engine == "tblite" or by_path
    if engine == "ase" and not is_xtb:
        _refuse_options(charge, multiplicity)
        return Electrons(start.charge or 0.0, None, tuple(_notes_on_calculator(start)))
    structure = start.structure
    total = charge if charge is not None else start.charge or 0.0
    numbers = as_xtb_counts(structure.numbers) if is_xtb else structure.numbers
    odd = has_unpaired_electron(numbers, structure.pbc, total)
    if multiplicity is not None:
        if not structure.pbc and total == int(total) and (multiplicity % 2 == 0) != odd:
            n_electrons = int(structure.numbers.sum() - total)
            raise InputError(
                [
                    f"--multiplicity {multiplicity}: {start.formula} with charge {total:g} has"
                    f" {n_electrons} electrons: expected an"
                    f" {'even' if odd else 'odd'} multiplicity. Correct it, or --charge."
                ]
            )
        held = engine == "aims" and structure.initial_moments.any()
        return Electrons(total, multiplicity, (_held(structure, multiplicity),) if held else ())
    if structure.initial_moments.any():  # which rule
        return Electrons(total, None)
    notes = []
    if odd:
        notes.append(
            "an odd number of electrons: a radical, with multiplicity 2; --multiplicity says"
            " otherwise, --charge if it is an ion"
        )
    elif magnetic := _often_magnetic(structure):
        notes.append(
            f"{magnetic}: computed without unpaired electrons. If it is magnetic, say so:"
            f" --multiplicity, or {MOMENTS}"
        )
    return Electrons(total, 2 if odd else None, tuple(notes))


def spin_lines(structure: Structure, electrons: Electrons) -> list[str]:
    """What control.in says of spin."""
    given = bool(structure.initial_moments.any())
    unpaired = (electrons.multiplicity or 1) - 1
    if not given and unpaired == 0:
        return ["spin                   none"]
    lines = ["spin                   collinear"]
    if electrons.multiplicity is not None:
        lines.append(f"fixed_spin_moment      {unpaired}")
    if not given:
        lines += [
            "# A first guess, spread over all atoms; initial_moment in geometry.in is better.",
            f"default_initial_moment {unpaired / len(structure):.4f}",
        ]
    return lines


def _held(structure: Structure, multiplicity: int) -> str:
    return (
        f"fixed_spin_moment {multiplicity - 1} in control.in holds the number of unpaired electrons"
        f" (--multiplicity {multiplicity}); the file's initial moments,"
        f" {structure.initial_moments.sum():g} in all, are the first guess"
    )


def _refuse_options(charge: float | None, multiplicity: int | None) -> None:
    given = {"--charge": charge, "--multiplicity": multiplicity}
    options = [f"{name} {value:g}" for name, value in given.items() if value is not None]
    if options:
        raise InputError(
            [
                f"{' '.join(options)} with --engine ase: what a calculator calls this differs from"
                f" one to the other: expected it {OWN_KEYWORDS}. Leave"
                f" {' and '.join(option.split()[0] for option in options)} out, and put them into"
                " the file that is written."
            ]
        )


def _notes_on_calculator(start: StartingStructure) -> Iterator[str]:
    """What a calculator is not told."""
    structure, total = start.structure, start.charge or 0.0
    if total:
        yield f"the calculator is not told the file's charge, {total:g} e: say so {OWN_KEYWORDS}"
    if structure.initial_moments.any():
        return
    if has_unpaired_electron(structure.numbers, structure.pbc, total):
        yield (
            "an odd number of electrons: a radical, which the calculator is not told: say so"
            f" {OWN_KEYWORDS}, or by {MOMENTS} where it reads that"
        )
    elif magnetic := _often_magnetic(structure):
        yield (
            f"{magnetic}: if it is magnetic, say so {OWN_KEYWORDS}, or by {MOMENTS} where the"
            " calculator reads that"
        )


def _often_magnetic(structure: Structure) -> str:
    """Symbols of the elements that are, of those that there are."""
    found = sorted({int(number) for number in structure.numbers} & set(OFTEN_MAGNETIC))
    return ", ".join(chemical_symbols[number] for number in found)
