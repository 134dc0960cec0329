"""What the members of an ensemble are called, in files and tables.  Pure: numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def member_seeds(seed: int, n_members: int) -> tuple[int, ...]:
    """One seed per member, from GENERAL.seed; more members leave those of the first as they are."""
    return tuple(
        int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        for index in range(n_members)
    )


def member_names(name: str, seeds: Sequence[int]) -> tuple[str, ...]:
    """Names of the members in files and tables.

    Parameters
    ----------
    name : str
        GENERAL.name_exp.
    seeds : sequence of int
        Of the members.
    """
    return tuple(f"{name}_{seed}" for seed in seeds)
