"""How far atoms swing at a temperature, from estimated force constants.  Pure: numpy.

Bonds of light elements have the stretches of the model Hessian of R. Lindh et al., Chem. Phys.
Lett. 241, 423 (1995): 0.45 hartree/bohr^2 x exp(alpha (r0^2 - r^2)), alpha and r0 by the rows of
the periodic table.  For metals these are too soft by up to ten times: an atom whose nearest
neighbour is farther than 2.2 A is held with 700 eV/A^2 x (distance/A)^-3.5 at least.  That is a fit
to what Debye temperatures of solids say, of which 3 m <omega^2> = 9/5 m (k_B theta/hbar)^2 is the
trace: right within a factor of about two for most, of five for sodium and tungsten.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.neighbours import neighbours_within
from fhi_al.core.plausible import BOLTZMANN
from fhi_al.core.structure import Array, Structure

_BOHR, _HARTREE = 0.529177210903, 27.211386245988
_STIFFEST = 0.45 * _HARTREE / _BOHR**2  # eV/A^2
# By rows: H and He, Li to Ne, all below.
_ALPHA = np.array([[1.0, 0.3949, 0.3949], [0.3949, 0.2800, 0.2800], [0.3949, 0.2800, 0.2800]])
_REFERENCE = np.array([[1.35, 2.10, 2.53], [2.10, 2.87, 3.40], [2.53, 3.40, 3.40]])  # bohr
# In A: beyond, no pair adds anything.
_CUTOFF = 6.0
_FAR = 2.2  # A
_SOLID, _POWER = 700.0, 3.5
# In eV/A^2: an atom that nothing holds swings no farther.
_SOFTEST = 1.0


def force_constants(first: NDArray[np.int64], second: NDArray[np.int64], distances: Array) -> Array:
    """Of the stretch of pairs of atoms, in eV/A^2.

    Parameters
    ----------
    first, second : (n_pairs,)
        Atomic numbers.
    distances : (n_pairs,)
        In A.
    """
    one, other = _row(first), _row(second)
    squares = np.square(distances / _BOHR)
    found: Array = _STIFFEST * np.exp(
        _ALPHA[one, other] * (np.square(_REFERENCE[one, other]) - squares)
    )
    return found


def stiffness(system: Structure) -> Array:
    """How stiffly each atom is held while all others stay: the trace of its own force constants.

    Parameters
    ----------
    system : Structure

    Returns
    -------
    (n_atoms,)
        In eV/A^2.
    """
    first, second, distances = neighbours_within(system.positions, system.cell, system.pbc, _CUTOFF)
    numbers = system.numbers
    springs = force_constants(numbers[first], numbers[second], distances)
    springs[first == second] = 0.0  # an atom and its own images move together
    traces = np.bincount(first, springs, minlength=len(system))
    nearest = np.full(len(system), np.inf)
    np.minimum.at(nearest, first, distances)
    solid = np.where(nearest > _FAR, _SOLID * nearest**-_POWER, 0.0)
    held: Array = np.maximum(np.maximum(traces, solid), _SOFTEST)
    return held


def thermal_amplitudes(system: Structure, temperature: float) -> Array:
    """Standard deviations of independent displacements whose mean energy is that of vibrations.

    Each Cartesian coordinate of an atom gets sqrt(3 k_B T / stiffness): of a harmonic system the
    potential energy is then 3/2 N k_B T in the mean, as in MD at that temperature.

    Parameters
    ----------
    system : Structure
    temperature : float
        In K.

    Returns
    -------
    (n_atoms,)
        In A.
    """
    amplitudes: Array = np.sqrt(3 * BOLTZMANN * temperature / stiffness(system))
    return amplitudes


def _row(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    rows: NDArray[np.int64] = np.searchsorted([3, 11], numbers, side="right")
    return rows
