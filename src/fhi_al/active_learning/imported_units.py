"""Units of frames that a user brings, hinted at by magnitude: energies, forces, lengths.

Energies are compared with the E0s, or with each other; changes of the energy from frame to frame
with the work of the forces, which knows no constant; distances with those of the run's geometry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from fhi_al.active_learning.imported_frames import Expected
from fhi_al.active_learning.matching import ExpectedSystem
from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.labels.labelled_frames import Frame

Found = list[tuple[Frame, str]]

# CODATA 2018.
HARTREE, BOHR = 27.211386, 0.529177
# In eV.
ENERGY_UNITS = {
    "Hartree": HARTREE,
    "Rydberg": HARTREE / 2,
    "kcal/mol": 0.0433641,
    "kJ/mol": 0.0103643,
}
# In eV/A.
FORCE_UNITS = {
    "Hartree/Bohr": HARTREE / BOHR,
    "Rydberg/Bohr": HARTREE / BOHR / 2,
    "kcal/mol/A": ENERGY_UNITS["kcal/mol"],
    "kJ/mol/A": ENERGY_UNITS["kJ/mol"],
}
# No binding energy per atom comes near it, in eV.
NEAR_E0 = 15.0
# Nor the energy per atom of what MD meets to that of the others.
NEAR_OTHERS = 3.0
# Of two structures, in A: beyond, the mean of their forces says little of the work between them.
LARGEST_STEP = 0.4
# Pairs of structures that are looked at, and of which there have to be so many.
MOST_PAIRS, FEWEST_PAIRS = 400, 10
# The squared correlation of changes of the energy with the work, above which their ratio is
# believed.  It was 0.6 to 1.1 for rattled and MD structures of ethanol, water, benzene and copper
# at up to 1000 K (docs/developer/facts.md); no wrong unit makes it less than 13 times larger or
# smaller.
CORRELATED = 0.8
LOWEST_RATIO, HIGHEST_RATIO = 0.2, 4.0
# Logarithm of how far the ratio may be from that of units that are named.
ALIKE = math.log(1.6)
# Of the distances in Bohr and in A, and how far it may be from that.
BOHR_RATIO, BOHR_WITHIN = 1 / BOHR, 0.06
# That are looked at for them.
MOST_FRAMES, MOST_ATOMS = 100, 100


def unit_problems(frames: Iterable[Frame], expected: Expected) -> Found:
    """Frames whose energy is not in eV, and files whose forces or lengths are in other units."""
    found: Found = []
    for (_, system), group in _by_file_and_system(frames).items():
        one = expected.systems[system]
        in_bohr = list(_in_bohr(group, one))
        # Its forces and energies need not be wrong, too.
        found += in_bohr or _forces(group)
    by_system: dict[int, list[Frame]] = {}
    for frame in frames:
        if frame.label is not None:
            by_system.setdefault(frame.label.system, []).append(frame)
    for system, group in sorted(by_system.items()):
        limit = expected.labels.max_energy_per_atom
        found += _energies(group, expected.systems[system], limit)
    return found


def _by_file_and_system(frames: Iterable[Frame]) -> dict[tuple[str, int], list[Frame]]:
    groups: dict[tuple[str, int], list[Frame]] = {}
    for frame in frames:
        if frame.label is not None:
            groups.setdefault((str(frame.path), frame.label.system), []).append(frame)
    return groups


def _label(frame: Frame) -> Label:
    assert frame.label is not None
    return frame.label


# --- energies -------------------------------------------------------------------------------------


def _energies(
    frames: Sequence[Frame], system: ExpectedSystem, limit: float
) -> Iterator[tuple[Frame, str]]:
    """Energies that are far from what they are expected near."""
    energies = np.array([_label(frame).energy for frame in frames])
    n_atoms = len(system.structure)
    reference, words, near = system.e0_sum, system.e0_words, NEAR_E0
    if reference is None:
        reference, words, near = float(np.median(energies)), "their median", NEAR_OTHERS
    # All of them: no single structure that came out odd.
    are_off = system.e0_sum is not None and abs(np.median(energies) - reference) / n_atoms > NEAR_E0
    for frame, energy in zip(frames, energies, strict=True):
        distance = abs(energy - reference) / n_atoms
        looks = _looks_like(energy, reference, n_atoms, near, system.e0_sum is not None)
        if looks:
            hints = " or ".join(looks)
            yield frame, f"the energy looks like {hints}: expected the total energy in eV"
        elif distance > limit:
            yield (
                frame,
                f"the energy is more than max_energy_per_atom = {limit:g} eV per atom from {words} "
                f"({reference:.3f} eV): expected eV, of the same method. Correct or remove it",
            )
        elif are_off:
            yield (
                frame,
                f"the energy is, as most are, more than {NEAR_E0:g} eV per atom from {words} "
                f"({reference:.3f} eV), no binding energy is as large: expected E0s and energies "
                "of one method. Give E0s that fit, or none",
            )


def _looks_like(
    energy: float, reference: float, n_atoms: int, near: float, of_atoms: bool
) -> list[str]:
    """What an energy would be near its reference as, and how to fix it; nothing if it is near it.

    Parameters
    ----------
    energy, reference : float
    n_atoms : int
    near : float
        In eV per atom.
    of_atoms : bool
        The reference is the energy of isolated atoms.
    """
    distance = abs(energy - reference) / n_atoms
    if distance <= near:
        return []
    in_unit = {unit: abs(energy * v - reference) / n_atoms for unit, v in ENERGY_UNITS.items()}
    best = min(in_unit, key=in_unit.__getitem__)
    found = []
    if in_unit[best] <= min(near, distance / 4):
        found.append(f"{best} (multiply it by {ENERGY_UNITS[best]:.8g})")
    if of_atoms and abs(energy) / n_atoms < NEAR_E0:
        found.append(
            "one that is counted from isolated atoms or pseudopotentials (add the sum of the E0s, "
            f"{reference:.3f} eV, or give E0s that fit)"
        )
    return found


# --- forces ---------------------------------------------------------------------------------------


def _forces(frames: Sequence[Frame]) -> Found:
    """All frames of a file, if its forces are not the slope of its energies."""
    ratio = work_ratio([_label(frame) for frame in frames])
    if ratio is None or LOWEST_RATIO < ratio < HIGHEST_RATIO:
        return []
    if LOWEST_RATIO < -ratio < HIGHEST_RATIO:
        what = (
            "the forces point uphill: expected forces, which are minus the gradient of the energy. "
            "Turn their sign"
        )
        return [(frame, what) for frame in frames]
    by_ratio = {value: f"forces in {unit}" for unit, value in FORCE_UNITS.items()}
    by_ratio |= {1 / value: f"energies in {unit}" for unit, value in ENERGY_UNITS.items()}
    apart = {value: abs(math.log(abs(ratio) / value)) for value in by_ratio}
    alike = [value for value in sorted(apart, key=apart.__getitem__) if apart[value] < ALIKE]
    names = " or ".join(by_ratio[value] for value in alike)
    looks = f"It looks like {names}; convert" if names else "Convert"
    what = (
        f"from frame to frame the energies change by {ratio:.2g} times the work of the forces: "
        f"expected eV and eV/A. {looks} them"
    )
    return [(frame, what) for frame in frames]


def work_ratio(labels: Sequence[Label]) -> float | None:
    """By how much the energies of like structures change, over the work of their forces.

    Parameters
    ----------
    labels : sequence of Label
        Of one system.

    Returns
    -------
    float or None
        1 in matching units, whatever energies are counted from; None if nothing can be said.

    Notes
    -----
    The work from one structure to another is that of the mean of their forces (the trapezoidal
    rule), over displacements of at most :data:`LARGEST_STEP`.
    """
    changes, work = [], []
    for one, other in _like_pairs(labels):
        moved = other.positions - one.positions
        work.append(0.5 * float(np.sum((one.forces + other.forces) * moved)))
        changes.append(one.energy - other.energy)
    if len(changes) < FEWEST_PAIRS:
        return None
    energies, works = np.array(changes), np.array(work)
    norms = float(np.sum(energies**2) * np.sum(works**2))
    product = float(np.sum(energies * works))
    if norms == 0 or product**2 / norms < CORRELATED:
        return None
    # Of either on the other: the geometric mean of both slopes.
    return math.copysign(math.sqrt(float(np.sum(energies**2) / np.sum(works**2))), product)


def _like_pairs(labels: Sequence[Label]) -> Iterator[tuple[Label, Label]]:
    """Neighbours in the file, or at all, that hardly differ and have the same cell."""
    few = labels[: round(math.sqrt(MOST_PAIRS))]
    every = [(one, other) for k, other in enumerate(few) for one in few[:k]]
    for one, other in [*pairwise(labels[:MOST_PAIRS]), *every]:
        if np.array_equal(one.cell, other.cell):
            step = float(np.abs(other.positions - one.positions).max())
            if 0 < step <= LARGEST_STEP:
                yield one, other


# --- lengths --------------------------------------------------------------------------------------


def _in_bohr(frames: Sequence[Frame], system: ExpectedSystem) -> Iterator[tuple[Frame, str]]:
    """All frames of a molecule, if they are in Bohr; a crystal is told by its cell."""
    if system.structure.pbc or len(system.structure) < 2:
        return
    usual = _nearest(system.structure.positions)
    some = [_label(frame).positions for frame in frames[:MOST_FRAMES]]
    ratios = [float(np.median(_nearest(positions) / usual)) for positions in some]
    ratio = float(np.median(ratios))
    if abs(ratio / BOHR_RATIO - 1) > BOHR_WITHIN:
        return
    for frame in frames:
        yield (
            frame,
            f"its atoms are {ratio:.3g} times as far from each other as in {system.name}, as in "
            f"Bohr: expected A. Multiply positions by {BOHR:g}",
        )


def _nearest(positions: Array) -> Array:
    """Distance of each of the first atoms to the nearest other one, in A."""
    distances = np.linalg.norm(positions[:MOST_ATOMS, None] - positions, axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest: Array = distances.min(axis=1)
    return nearest
