"""Distances between atoms in MD on models and on the reference: g(r), or of molecules h(r)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from fhi_al.core.structure import Array
from fhi_al.evaluation.check import Finding
from fhi_al.evaluation.limits import DISTANCES, Judgement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FARTHEST = 6.0
N_BINS = 60
# Fewer say nothing.
FEWEST_STRUCTURES = 10


def distances(name: str, of_models: Sequence[Atoms], of_reference: Sequence[Atoms]) -> Finding:
    """Compare the distances in structures of two MD runs under the same conditions.

    Parameters
    ----------
    name : str
        Of the system, with its temperature.
    of_models, of_reference : sequence of Atoms
        At least :data:`FEWEST_STRUCTURES`.
    """
    own, true = distribution(of_models), distribution(of_reference)
    half = len(of_reference) // 2
    # Two halves differ by 2 standard errors of the whole, two such runs by the root of 2.
    first, second = distribution(of_reference[:half]), distribution(of_reference[half:])
    noise = apart(first, second) / np.sqrt(2)
    error = apart(own, true)
    beyond = float(np.sqrt(max(0.0, error**2 - noise**2)))
    kind = "g(r)" if of_reference[0].pbc.all() else "distribution of distances"
    line = (
        f"{kind} in MD of {name}: {100 * error:.1f} % off the reference's; two such runs of"
        f" {len(of_reference)} structures differ by {100 * noise:.1f} % by chance"
    )
    is_judged = 100 * noise <= DISTANCES.fair
    if not is_judged:
        line += ", too much to judge: take more --structures"
    return Finding(
        "rdf",
        name,
        [line],
        {
            "error": error,
            "noise": noise,
            "r_a": bin_centres().tolist(),
            "models": own.tolist(),
            "reference": true.tolist(),
        },
        [Judgement(DISTANCES, 100 * beyond, name)] if is_judged else [],
        {"rdf.png": lambda axes: _draw(axes, own, true, kind)},
    )


def bin_centres() -> Array:
    """In A, (n_bins,)."""
    centres: Array = (np.arange(N_BINS) + 0.5) * FARTHEST / N_BINS
    return centres


def distribution(structures: Sequence[Atoms]) -> Array:
    """Radial distribution function of crystals; of molecules the density of distances in 1/A."""
    counts = np.zeros(N_BINS)
    expected = np.zeros(N_BINS)
    edges = np.linspace(0, FARTHEST, N_BINS + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    for atoms in structures:
        lengths = neighbor_list("d", atoms, FARTHEST)
        counts += np.histogram(lengths, bins=edges)[0]
        if atoms.pbc.all():
            expected += shells * len(atoms) ** 2 / atoms.get_volume()
    if expected.any():
        found: Array = counts / expected
        return found
    return counts / max(1.0, counts.sum()) / (FARTHEST / N_BINS)


def apart(one: Array, other: Array) -> float:
    """Integral of the absolute difference, as a share of the integral of the second."""
    return float(np.abs(one - other).sum() / other.sum())


def _draw(axes: Axes, own: Array, true: Array, kind: str) -> None:
    axes.plot(bin_centres(), true, "k", label="reference")
    axes.plot(bin_centres(), own, "C0", label="models")
    axes.set(xlabel="distance (Å)", ylabel=kind)
    axes.legend(fontsize="small")
