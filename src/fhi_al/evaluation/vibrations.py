"""Vibrational frequencies of molecules at their minimum: of models and of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from ase.vibrations import VibrationsData

from fhi_al.core.structure import Array
from fhi_al.evaluation.check import Finding, Subject
from fhi_al.evaluation.limits import FREQUENCY_MAE, IMAGINARY, Judgement
from fhi_al.evaluation.surfaces import Surface, SurfaceCalculator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Displacement of finite differences in A, and when a structure counts as relaxed, in eV/A.
DISPLACEMENT = 0.01
RELAXED = 0.002
MOST_STEPS = 500
# A mode this far below zero is one that the structure falls along, in 1/cm: differences of forces
# are not exact.
IMAGINARY_FROM = -20.0
# What a relaxation by the reference takes from the models' minimum, for estimates.
USUAL_STEPS = 40


def n_reference_calculations(n_atoms: int) -> int:
    """About how many calculations of the reference the comparison takes."""
    return 6 * n_atoms + USUAL_STEPS


def vibrations(subject: Subject, model: Surface) -> Finding:
    """Frequencies of a molecule, each surface at its own minimum.

    Parameters
    ----------
    subject : Subject
    model : Surface
    """
    name = subject.name
    minimum = relaxed(subject.atoms(), model)
    if minimum is None:
        line = f"vibrations of {name}: the models' structure does not relax"
        return Finding("vibrations", name, [line], {}, [Judgement(IMAGINARY, np.inf, name)])
    own = frequencies(minimum, model)
    n_imaginary = int((own < IMAGINARY_FROM).sum())
    line = f"vibrations of {name}: {len(own)} modes, {own[0]:.0f} to {own[-1]:.0f} 1/cm"
    values: dict[str, Any] = {"model_per_cm": own.tolist()}
    judgements = [Judgement(IMAGINARY, n_imaginary, name)]
    true = None
    if subject.reference is not None:
        theirs = relaxed(minimum, subject.reference)
        if theirs is None:
            line += "; the reference's structure does not relax"
        else:
            n_rigid = n_rigid_modes(theirs)
            true = frequencies(theirs, subject.reference, n_rigid)
            compared = own
            if n_rigid != n_rigid_modes(minimum):
                # A linear molecule has one mode more than one that is bent.
                compared = frequencies(minimum, model, n_rigid)
                one, other = ("reference's", "models'")[:: 1 if n_rigid == 5 else -1]
                line += f"; the {one} minimum is linear, the {other} is not"
            off = np.abs(compared - true)
            values |= {"reference_per_cm": true.tolist(), "mae_per_cm": float(off.mean())}
            line += (
                f"; off the reference's by {off.mean():.1f} 1/cm on average, {off.max():.0f} 1/cm"
                f" at most (at {true[int(off.argmax())]:.0f} 1/cm)"
            )
            judgements.append(Judgement(FREQUENCY_MAE, float(off.mean()), name))
    return Finding(
        "vibrations",
        name,
        [line],
        values,
        judgements,
        {"vibrations.png": lambda axes: _draw(axes, own, true)},
    )


def relaxed(atoms: Atoms, surface: Surface) -> Atoms | None:
    """The next minimum; None if it is not reached."""
    moved = atoms.copy()
    moved.calc = SurfaceCalculator(surface)
    try:
        found = BFGS(moved, logfile=None).run(fmax=RELAXED, steps=MOST_STEPS)
    except (ValueError, np.linalg.LinAlgError):  # not finite
        return None
    moved.calc = None
    return moved if found else None


def frequencies(atoms: Atoms, surface: Surface, n_rigid: int | None = None) -> Array:
    """Frequencies at a minimum in 1/cm, ascending; imaginary ones are negative.

    Without those of translation and rotation, which are the nearest to zero.

    Parameters
    ----------
    atoms : Atoms
        A molecule.
    surface : Surface
    n_rigid : int, optional
        Translations and rotations, if they are not to be those of these positions.
    """
    n = 3 * len(atoms)
    structures = []
    for place in range(n):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[place] += sign * DISPLACEMENT
            structures.append(moved)
    forces = np.array([point.forces.ravel() for point in surface(structures)])
    hessian = (forces[1::2] - forces[::2]) / (2 * DISPLACEMENT)
    data: Any = VibrationsData.from_2d(atoms, (hessian + hessian.T) / 2)
    complex_ones = data.get_frequencies()
    real = np.where(complex_ones.imag > 0, -complex_ones.imag, complex_ones.real)
    internal = np.argsort(np.abs(real))[n_rigid_modes(atoms) if n_rigid is None else n_rigid :]
    found: Array = np.sort(real[internal])
    return found


def n_rigid_modes(atoms: Atoms) -> int:
    """Translations and rotations: of a linear molecule 5."""
    if len(atoms) == 1:
        return 3
    centred = atoms.positions - atoms.positions.mean(axis=0)
    return 5 if np.linalg.matrix_rank(centred, tol=0.01) < 2 else 6


def _draw(axes: Axes, own: Array, true: Array | None) -> None:
    axes.vlines(own, 0, 1, color="C0", label="models")
    if true is not None:
        axes.vlines(true, 1, 2, color="k", label="reference")
    axes.set(yticks=[], xlabel="frequency (1/cm)")
    axes.legend(fontsize="small")
