"""Nose-Hoover chains: how the variables of a chain, and what it is coupled to, move in time.

G. J. Martyna, M. L. Klein, M. E. Tuckerman, J. Chem. Phys. 97, 2635 (1992); with the fourth-order
factorisation of H. Yoshida, Phys. Lett. A 150, 262 (1990).
"""

from __future__ import annotations

from typing import Any

from fhi_al.md.arrays import namespace

LENGTH = 3
_ROOT = 2 ** (1 / 3)
_YOSHIDA = (1 / (2 - _ROOT), -_ROOT / (2 - _ROOT), 1 / (2 - _ROOT))


def chain_step(
    chain: tuple[Any, Any],
    square: Any,
    n: Any,
    temperature: Any,
    time: Any,
    delta: Any,
    first_mass: Any | None = None,
) -> tuple[tuple[Any, Any], Any]:
    """Move chains, and what they are coupled to.

    Parameters
    ----------
    chain : (eta, p_eta)
        Each (n_trajectories, LENGTH).
    square : (n_trajectories,)
        Twice the kinetic energy that the chain couples to, in eV.
    n : (n_trajectories,)
        Its degrees of freedom.
    temperature : (n_trajectories,)
        k_B T in eV.
    time : (n_trajectories,)
        Coupling time, in ASE's units as `delta`.
    delta : (n_trajectories,)
        Time to move by.
    first_mass : (n_trajectories,), optional
        Of the chain's first variable, in k_B T times the square of the coupling time; `n` if it is
        left out, and 1 for the others.

    Returns
    -------
    chain
    factor : (n_trajectories,)
        For the momenta that the chain is coupled to.
    """
    xp = namespace(square)
    eta = [chain[0][:, k] for k in range(LENGTH)]
    momenta = [chain[1][:, k] for k in range(LENGTH)]
    mass = temperature * time**2
    masses = [(n if first_mass is None else first_mass) * mass] + [mass] * (LENGTH - 1)
    factor = 1 + 0 * square

    def kick(k: int, delta: Any) -> None:
        if k < LENGTH - 1:
            drag = xp.exp(-delta / 4 * momenta[k + 1] / masses[k + 1])
            momenta[k] = momenta[k] * drag
        if k == 0:
            pull = square * factor * factor - n * temperature
        else:
            pull = momenta[k - 1] ** 2 / masses[k - 1] - temperature
        momenta[k] = momenta[k] + delta / 2 * pull
        if k < LENGTH - 1:
            momenta[k] = momenta[k] * drag

    for share in _YOSHIDA:
        part = share * delta
        for k in reversed(range(LENGTH)):
            kick(k, part)
        eta = [one + part * p / mass for one, p, mass in zip(eta, momenta, masses, strict=True)]
        factor = factor * xp.exp(-part * momenta[0] / masses[0])
        for k in range(LENGTH):
            kick(k, part)
    return (xp.stack(eta, 1), xp.stack(momenta, 1)), factor


def chain_energy(
    chain: tuple[Any, Any], n: Any, temperature: Any, time: Any, first_mass: Any | None = None
) -> Any:
    """What chains hold of the conserved energy, (n_trajectories,) in eV; see :func:`chain_step`."""
    eta, momenta = chain
    mass = temperature * time**2
    first = (n if first_mass is None else first_mass) * mass
    kinetic = momenta[:, 0] ** 2 / (2 * first) + sum(
        momenta[:, k] ** 2 / (2 * mass) for k in range(1, LENGTH)
    )
    return kinetic + temperature * (n * eta[:, 0] + sum(eta[:, k] for k in range(1, LENGTH)))
