"""Which systems of a run have given atoms, and what is said of atoms that none has.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from fhi_al.core.structure import Structure


@dataclass(frozen=True, eq=False)
class ExpectedSystem:
    """A system of the run.

    Parameters
    ----------
    name : str
        Of its geometry, in messages.
    structure : Structure
    e0_sum : float or None
        Sum of the E0s of its atoms, in eV; None if nobody knows.
    e0_words : str
        Whose they are.
    """

    name: str
    structure: Structure
    e0_sum: float | None = None
    e0_words: str = ""


def systems_with(
    numbers: NDArray[np.int64], pbc: bool, systems: Mapping[int, ExpectedSystem]
) -> list[int] | str:
    """The systems that have these atoms in this order or, if none has, in another one.

    Parameters
    ----------
    numbers : (n_atoms,)
        Atomic numbers.
    pbc : bool
        Whether they are a crystal.
    systems : mapping
        By their places.

    Returns
    -------
    list of int or str
        Their places, at least one; or why there is none: what was expected, how to fix it.
    """
    same = [k for k, each in systems.items() if np.array_equal(each.structure.numbers, numbers)]
    found = [k for k in same if systems[k].structure.pbc == pbc]
    if same and not found:
        kinds = ("a molecule", "a crystal (with a cell)")
        name = systems[same[0]].name
        return (
            f"is {kinds[pbc]}, {name} is {kinds[not pbc]}: expected the same kind. "
            f"Correct Lattice and pbc, or {name}"
        )
    if not found:
        atoms = np.sort(numbers)
        found = [
            k
            for k, each in systems.items()
            if each.structure.pbc == pbc and np.array_equal(np.sort(each.structure.numbers), atoms)
        ]
    return found or _other_atoms(numbers, list(systems.values()))


def order_like(numbers: NDArray[np.int64], like: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order in which atoms are like others: those of one element stay in theirs.

    Parameters
    ----------
    numbers, like : (n_atoms,)
        Atomic numbers, each as often in one as in the other.

    Returns
    -------
    (n_atoms,)
        ``numbers[order]`` is ``like``.
    """
    order = np.empty(len(numbers), dtype=np.int64)
    for number in np.unique(like):
        order[like == number] = np.flatnonzero(numbers == number)
    return order


def _other_atoms(numbers: NDArray[np.int64], systems: Sequence[ExpectedSystem]) -> str:
    if len(systems) > 1:
        names = ", ".join(f"{one.name}: {_formula(one.structure.numbers)}" for one in systems)
        return (
            f"has the atoms {_formula(numbers)}, which no system has ({names}): expected "
            "those of one. Remove the frame, or add a system"
        )
    name, system = systems[0].name, systems[0].structure
    if len(numbers) != len(system):
        return (
            f"has {len(numbers)} atoms, {name} has {len(system)}: expected as many. Remove "
            "the frame"
        )
    return (
        f"has other atoms ({_formula(numbers)}) than {name} ({_formula(system.numbers)}): "
        "expected the same. Remove the frame"
    )


def _formula(numbers: NDArray[np.int64]) -> str:
    elements, counts = np.unique(numbers, return_counts=True)
    pairs = zip(elements, counts, strict=True)
    return "".join(f"{chemical_symbols[z]}{n if n > 1 else ''}" for z, n in pairs)
