"""Structures of other atoms than the system's: pairs of atoms, and crystals that lack one.  Pure.

Owns which ones there are and how far apart; how an engine computes them is its own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np

from fhi_al.core.structure import Array, Structure

# A crystal without one atom that has fewer shows nothing.
FEWEST_ATOMS = 3


def element_pairs(elements: Sequence[int]) -> list[tuple[int, int]]:
    """Every pair of elements once, those of one element included."""
    return list(combinations_with_replacement(sorted(set(elements)), 2))


def dimer_distances(contact: float, cutoff: float, n: int) -> list[float]:
    """Distances of the atoms of dimers, closer to each other the nearer the atoms are.

    Parameters
    ----------
    contact : float
        The shortest, in A.
    cutoff : float
        Of the models, in A: at it a model has nothing to learn, so that it is left out.
    n : int

    Returns
    -------
    list of float
        In A, in a geometric series; empty if the atoms touch at the cutoff.
    """
    if cutoff <= contact:
        return []
    return [contact * (cutoff / contact) ** (k / n) for k in range(n)]


def dimer_positions(distance: float) -> Array:
    """(2, 3) Of two atoms along x, in A."""
    return np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])


def vacancy_sites(system: Structure, n: int, *seed: int) -> list[int]:
    """Atoms that are taken out, one for each structure: the elements in turn, sites at random.

    Parameters
    ----------
    system : Structure
    n : int
    seed : int

    Returns
    -------
    list of int
        Indices of atoms; one comes again only when all of its element have been out.
    """
    if len(system) < FEWEST_ATOMS:
        return []
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    sites = [
        generator.permutation(np.flatnonzero(system.numbers == number)).tolist()
        for number in np.unique(system.numbers)
    ]
    return [
        of_element[(k // len(sites)) % len(of_element)]
        for k in range(n)
        for of_element in [sites[k % len(sites)]]
    ]


def order_without(system: Structure, site: int) -> list[int]:
    """The atoms that are left, sorted by element, in the order they had otherwise.

    So that crystals are of one composition in one order whichever atom of an element is out.
    """
    left = [atom for atom in range(len(system)) if atom != site]
    return sorted(left, key=lambda atom: int(system.numbers[atom]))
