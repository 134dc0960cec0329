"""Whether forces are the slope of the energy, and have no jumps: along a line in space."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from fhi_al.core.structure import Array
from fhi_al.evaluation.check import Finding, Subject
from fhi_al.evaluation.limits import CONSISTENCY, FORCE_JUMP, Judgement
from fhi_al.evaluation.surfaces import Surface

# Half of the line, in A of the atom that moves most, and the points on it.
REACH = 0.1
N_POINTS = 101
N_LINES = 3


def smoothness(subject: Subject, model: Surface, seed: int) -> Finding:
    """Along some lines through a structure in random directions of all atoms.

    Parameters
    ----------
    subject : Subject
    model : Surface
    seed : int
        Of the directions.
    """
    generator = np.random.default_rng(seed)
    atoms = subject.atoms()
    worst_slope = worst_jump = 0.0
    for _ in range(N_LINES):
        direction = generator.normal(size=atoms.positions.shape)
        direction /= np.linalg.norm(direction, axis=1).max()
        slope, jump = along_line(atoms, direction, model)
        worst_slope, worst_jump = max(worst_slope, slope), max(worst_jump, jump)
    judgements = [
        Judgement(CONSISTENCY, 1000 * worst_slope, subject.name),
        Judgement(FORCE_JUMP, 1000 * worst_jump, subject.name),
    ]
    return Finding(
        "smoothness",
        subject.name,
        [
            f"smoothness of {subject.name}: along {N_LINES} lines of {2 * REACH:g} A forces are off"
            f" the slope of the energy by at most {1000 * worst_slope:.3g} meV/A, and jump by at"
            f" most {1000 * worst_jump:.3g} meV/A"
        ],
        {"force_off_slope_ev_per_a": worst_slope, "force_jump_ev_per_a": worst_jump},
        judgements,
    )


def along_line(atoms: Atoms, direction: Array, surface: Surface) -> tuple[float, float]:
    """How far forces are off the slope of the energy, and the largest jump of one, in eV/A.

    Parameters
    ----------
    atoms : Atoms
        In the middle of the line.
    direction : (n_atoms, 3)
        The largest of its atoms' is 1.
    surface : Surface
    """
    places = np.linspace(-REACH, REACH, N_POINTS)
    step = float(places[1] - places[0])
    structures = []
    for place in places:
        moved = atoms.copy()
        moved.positions += place * direction
        structures.append(moved)
    points = surface(structures)
    energies = np.array([point.energy for point in points])
    forces = np.array([point.forces for point in points])
    if not (np.isfinite(energies).all() and np.isfinite(forces).all()):
        return np.inf, np.inf
    norm = float(np.linalg.norm(direction))
    along = np.tensordot(forces, direction, axes=2)[2:-2] / norm
    # Five points: the error goes with the fourth power of the step.
    e = energies
    slope = (e[:-4] - 8 * e[1:-3] + 8 * e[3:-1] - e[4:]) / (12 * step) / norm
    # Of a smooth force the fourth differences of the steps go with the fifth power of the step.
    steps = np.diff(forces, axis=0)
    jumps = np.diff(steps, n=4, axis=0) / 6
    return float(np.abs(slope + along).max()), float(np.abs(jumps).max())
