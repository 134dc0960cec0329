"""Statistics of the label-efficiency and calibration benchmarks, on values known by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from selection_statistics import (
    Bin,
    bins_of_equal_size,
    labels_to_reach,
    worst_errors,
)


def test_labels_are_interpolated_on_logarithmic_axes() -> None:
    # error = 1 / N: 0.1 at 10 and 0.025 at 40, so 0.05 at 20.
    assert labels_to_reach([10, 40], [0.1, 0.025], 0.05) == pytest.approx(20)


def test_an_error_met_at_the_first_point_gives_the_first_number() -> None:
    assert labels_to_reach([10, 40], [0.1, 0.025], 0.2) == 10


def test_an_error_never_reached_is_nan() -> None:
    assert math.isnan(labels_to_reach([10, 40], [0.1, 0.025], 0.01))


def test_the_first_crossing_counts_where_a_curve_rises_again() -> None:
    assert labels_to_reach([1, 2, 4, 8], [4.0, 2.0, 3.0, 1.0], 2.0) == pytest.approx(2)


def test_worst_errors_are_the_mean_of_the_largest() -> None:
    assert worst_errors(np.arange(1.0, 201.0)) == 199.5
    assert worst_errors(np.array([1.0, 3.0])) == 3.0


def test_bins_follow_the_uncertainty_not_the_order() -> None:
    uncertainty, error = np.array([4.0, 1.0, 3.0, 2.0]), np.array([8.0, 2.0, 6.0, 4.0])
    assert bins_of_equal_size(uncertainty, error, 2) == [Bin(2, 1.5, 3.0), Bin(2, 3.5, 7.0)]
