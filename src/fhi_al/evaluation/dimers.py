"""Pairs of atoms from contact to the cutoff: whether they repel, and have no holes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from fhi_al.core.structure import Array, Structure
from fhi_al.evaluation.check import Finding
from fhi_al.evaluation.limits import HOLE_BARRIER, Judgement
from fhi_al.evaluation.surfaces import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In sums of covalent radii: where the curves begin, and below which atoms that attract each other
# fall together.
NEAREST, CONTACT = 0.4, 0.75
N_POINTS = 150
# What stands for a barrier where there is no hole, in eV.
NO_HOLE = 1000.0


@dataclass(frozen=True, eq=False)
class Dimer:
    """The curve of one pair.

    Parameters
    ----------
    name : str
    distances : (n,)
        In A, ascending.
    energies : (n,)
        In eV, from that of the largest distance.
    barrier : float
        In eV: how far two atoms have to climb from the lowest energy outside of the hole before
        they fall together; 0 if they attract each other all the way, :data:`NO_HOLE` if they never
        fall.
    """

    name: str
    distances: Array
    energies: Array
    barrier: float


def pairs_of(structures: Iterable[Structure]) -> list[tuple[int, int]]:
    """Pairs of elements that can meet: of a single atom in a molecule there is no second one."""
    found: set[tuple[int, int]] = set()
    for one in structures:
        numbers, counts = np.unique(one.numbers, return_counts=True)
        count = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        for first, second in combinations_with_replacement(sorted(count), 2):
            if first != second or one.pbc or count[first] > 1:
                found.add((first, second))
    return sorted(found)


def dimers(pairs: Sequence[tuple[int, int]], model: Surface, cutoff: float) -> Finding:
    """The curves of pairs of elements.

    Parameters
    ----------
    pairs : sequence of (int, int)
        Atomic numbers, at least one pair.
    model : Surface
    cutoff : float
        In A, where the curves end.
    """
    curves = [dimer(pair, model, cutoff) for pair in pairs]
    worst = min(curves, key=lambda curve: curve.barrier)
    holes = [curve for curve in curves if curve.barrier < NO_HOLE]
    if holes:
        found = ", ".join(
            f"{curve.name} behind {curve.barrier:.1f} eV"
            if curve.barrier > 0
            else f"{curve.name} without a barrier"
            for curve in holes
        )
        line = f"dimers: {len(holes)} of {len(curves)} pairs fall together when forced: {found}"
    else:
        line = f"dimers: all {len(curves)} pairs repel each other at contact, and have no holes"
    return Finding(
        "dimers",
        "",
        [line],
        {
            curve.name: {
                "barrier_ev": None if curve.barrier == NO_HOLE else curve.barrier,
                "distances_a": curve.distances.tolist(),
                "energies_ev": curve.energies.tolist(),
            }
            for curve in curves
        },
        [Judgement(HOLE_BARRIER, worst.barrier, worst.name if holes else "")],
        {"dimers.png": lambda axes: _draw(axes, curves)},
    )


def dimer(pair: tuple[int, int], surface: Surface, cutoff: float) -> Dimer:
    """The curve of one pair of atomic numbers."""
    contact = float(covalent_radii[list(pair)].sum())
    distances = np.linspace(NEAREST * contact, max(cutoff, 2 * contact) + 0.1, N_POINTS)
    points = surface([Atoms(list(pair), [[0, 0, 0], [0, 0, r]]) for r in distances])
    energies = np.array([point.energy for point in points])
    energies = energies - energies[-1]
    name = "-".join(chemical_symbols[number] for number in pair)
    return Dimer(name, distances, energies, _barrier(distances / contact, energies))


def _barrier(reduced: Array, energies: Array) -> float:
    """See :class:`Dimer`; 0 of a curve that is not finite."""
    if not np.isfinite(energies).all():
        return 0.0
    inside = np.flatnonzero(reduced < CONTACT)
    # Where the energy falls as atoms come nearer still.
    falling = [int(k) for k in inside if energies[k] < energies[k + 1]]
    if not falling:
        return NO_HOLE
    edge = max(falling) + 1
    # A hole may be wider than contact.
    while edge + 1 < len(energies) and energies[edge] < energies[edge + 1]:
        edge += 1
    outside = energies[edge:]
    lowest = int(outside.argmin())
    # What is farther out than the lowest energy is not in the way.
    return float(outside[: lowest + 1].max() - outside[lowest])


def _draw(axes: Axes, curves: Sequence[Dimer]) -> None:
    lowest = min(float(curve.energies.min()) for curve in curves)
    for curve in curves:
        axes.plot(curve.distances, curve.energies, label=curve.name, linewidth=1.2)
    axes.set(ylim=(lowest - 0.5, 5), xlabel="distance (Å)", ylabel="energy (eV)")
    axes.legend(fontsize="small", ncols=2)
