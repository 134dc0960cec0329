"""A trajectory in phase space is put back to where it was, at a price that does not grow."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDPoint


def point(seed: int) -> MDPoint:
    positions, momenta = np.random.default_rng(seed).standard_normal((2, 3, 3))
    return MDPoint(positions=positions, momenta=momenta, cell=np.zeros((3, 3)))


def test_what_was_kept_comes_back_with_its_random_stream() -> None:
    trajectory = LiveTrajectory(point(0), point(1), np.random.default_rng(5))
    trajectory.generator.standard_normal(7)
    trajectory.forces = np.ones((2, 3, 3))
    kept, at = trajectory.kept(), trajectory.point
    drawn = trajectory.generator.standard_normal(4)
    trajectory.point, trajectory.restart_point, trajectory.forces = point(2), point(3), None
    for _ in range(2):
        trajectory.put_back(kept)
        assert trajectory.point is at
        assert_array_equal(trajectory.restart_point.positions, point(1).positions)
        assert_array_equal(trajectory.forces, np.ones((2, 3, 3)))
        assert trajectory.random_state() == kept[3]
        assert_array_equal(trajectory.generator.standard_normal(4), drawn)
    assert trajectory.random_state() != kept[3]


def test_a_stream_is_looked_at_only_after_somebody_had_it() -> None:
    trajectory = LiveTrajectory(point(0), point(0), np.random.default_rng(5))
    first = trajectory.kept()[3]
    assert trajectory.kept()[3] is first
    trajectory.generator.standard_normal()
    assert trajectory.kept()[3] not in (first,)
