"""A point in phase space, why a block may not reach one, and random streams."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fhi_al.core.structure import Array


class MDFailure(RuntimeError):
    """The block ended in a structure that makes no sense, or its forces could not be had."""


@dataclass(frozen=True, eq=False)
class MDPoint:
    """A point in phase space: all an integrator needs to go on, but the random stream.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    momenta : (n_atoms, 3)
        In ASE's units (not velocities: the division by the mass is not exact).
    cell : (3, 3)
        In A.
    thermostat : dict of arrays
        Variables of the thermostat and of the barostat, where they have any.
    """

    positions: Array
    momenta: Array
    cell: Array
    thermostat: dict[str, Array] = field(default_factory=dict)


def random_stream(seed: int, *purpose: int) -> np.random.Generator:
    """An independent random stream for each purpose (phase, trajectory) under one seed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))
