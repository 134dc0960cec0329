"""The threshold: warm-up, window, sign of c_x; numbers by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from fhi_al.core.threshold import MovingAverage, ThresholdRule, crosses, observed, threshold


def history_of(values: Sequence[float], window: int = 400) -> MovingAverage:
    history = MovingAverage()
    for value in values:
        history = observed(history, value, window)
    return history


def test_nothing_triggers_before_the_warm_up_is_over() -> None:
    rule = ThresholdRule(c_x=0.0, warmup=3)
    assert threshold(MovingAverage(), rule) is None
    assert threshold(history_of([1.0, 1.0]), rule) is None
    assert threshold(history_of([1.0, 1.0, 4.0]), rule) == 2.0
    assert not crosses(1e9, None)


def test_the_defaults_are_ten_estimates_and_a_window_of_400() -> None:
    rule = ThresholdRule(c_x=0.0)
    assert threshold(history_of([0.1] * 9), rule) is None
    assert threshold(history_of([0.1] * 10), rule) == pytest.approx(0.1, rel=1e-14)
    assert rule.window == 400


def test_a_warm_up_of_zero_still_needs_one_estimate() -> None:
    assert threshold(MovingAverage(), ThresholdRule(c_x=0.0, warmup=0)) is None
    assert threshold(history_of([0.5]), ThresholdRule(c_x=0.0, warmup=0)) == 0.5


def test_the_current_estimate_is_in_the_average() -> None:
    # (1 + 1 + 7) / 3 = 3; without the current one the threshold would be 1.
    limit = threshold(history_of([1.0, 1.0, 7.0]), ThresholdRule(c_x=0.0, warmup=1))
    assert limit == 3.0


def test_only_the_window_counts() -> None:
    history = history_of([100.0, 2.0, 4.0], window=2)
    assert history.values == (2.0, 4.0)
    assert history.seen == 3
    # The warm-up counts what was seen, not what is held: a small window can be left.
    assert threshold(history, ThresholdRule(c_x=0.0, warmup=3, window=2)) == 3.0


@pytest.mark.parametrize(("c_x", "expected"), [(0.2, 1.6), (0.0, 2.0), (-0.5, 3.0), (1.0, 0.0)])
def test_positive_c_x_tightens_and_negative_loosens(c_x: float, expected: float) -> None:
    limit = threshold(history_of([1.0, 3.0]), ThresholdRule(c_x, warmup=1))
    assert limit == pytest.approx(expected, rel=1e-14)


def test_only_above_the_threshold_crosses() -> None:
    assert crosses(1.1, 1.0)
    assert not crosses(1.0, 1.0)
    assert not crosses(math.nan, 1.0)


def test_observing_leaves_the_history_before_alone() -> None:
    before = history_of([1.0])
    observed(before, 2.0, 400)
    assert before == history_of([1.0])
