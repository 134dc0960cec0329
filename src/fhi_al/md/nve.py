"""Velocity Verlet: constant energy.

W. C. Swope, H. C. Andersen, P. H. Berens, K. R. Wilson, J. Chem. Phys. 76, 637 (1982).
"""

from __future__ import annotations

from fhi_al.md.integrator import Forces, Integrator, Noise, kicked, moved
from fhi_al.md.state import Constants, MDState


def first_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """Half a kick and the drift."""
    state = kicked(state, constants, forces)
    return moved(state, constants, state.momenta / constants.masses)


def second_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """The other half of the kick."""
    return kicked(state, constants, forces)


NVE = Integrator(first_half, second_half)
