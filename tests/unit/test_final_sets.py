"""How many steps of *ab initio* MD join the sets of the final convergence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from fhi_al.active_learning.final_sets import most_different
from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import Array

NUMBERS = np.array([1, 8])


def steps(n_steps: int, system: int = 0) -> list[Label]:
    """Of a trajectory: all different."""
    generator = np.random.default_rng(system)
    forces, cell = np.zeros((2, 3)), np.zeros((3, 3))
    return [
        Label(
            key=f"{system} {step}",
            system=system,
            numbers=NUMBERS,
            positions=generator.standard_normal((2, 3)),
            cell=cell,
            pbc=False,
            energy=0.0,
            forces=forces,
            stress=None,
            origin=Origin("initial", 0, step),
        )
        for step in range(n_steps)
    ]


def described(labels: Sequence[Label]) -> list[Array]:
    return [label.positions for label in labels]


@pytest.mark.parametrize("n_steps", [200, 300, 1000, 1001, 5000])
def test_as_many_steps_join_as_may_however_long_the_trajectory(n_steps: int) -> None:
    frames = steps(n_steps)
    chosen = most_different(frames, [], described, 300)
    assert len(chosen) == min(300, n_steps)
    # In their order, and of the whole trajectory.
    numbers = [label.origin.step for label in chosen]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > 0.9 * (n_steps - 1)


def test_systems_have_shares_in_proportion_to_their_steps() -> None:
    frames = [*steps(3000), *steps(500, system=1)]
    chosen = most_different(frames, [], described, 350)
    assert Counter(label.system for label in chosen) == {0: 300, 1: 50}


def test_more_may_join_than_are_compared_otherwise() -> None:
    assert len(most_different(steps(2500), [], described, 1200)) == 1200
