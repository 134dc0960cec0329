"""The threshold: warm-up, window, sign of c_x; numbers by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
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


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("n", [1, 2, 7, 41])
def test_the_quantile_is_that_of_numpy(share: float, n: int) -> None:
    values = np.random.default_rng(n).gamma(2.0, size=n)
    found = history_of(values.tolist()).quantile(share)
    assert found == pytest.approx(np.quantile(values, share), rel=1e-12)


def test_a_quantile_of_nothing_is_none() -> None:
    assert MovingAverage().quantile(0.5) is None


def test_the_quantile_of_the_window_is_the_threshold() -> None:
    rule = ThresholdRule(c_x=0.2, warmup=3, window=3, kind="quantile", quantile=0.75)
    assert threshold(history_of([1.0, 2.0], window=3), rule) is None
    # Of 1, 2, 4 the value three quarters up is halfway from 2 to 4; the 100 is forgotten.
    assert threshold(history_of([100.0, 4.0, 1.0, 2.0], window=3), rule) == pytest.approx(0.8 * 3.0)


def test_of_uncertainties_without_a_trend_one_minus_the_quantile_crosses() -> None:
    rule = ThresholdRule(c_x=0.0, kind="quantile", quantile=0.9)
    history, crossed = MovingAverage(), 0
    for value in np.random.default_rng(5).lognormal(size=4000).tolist():
        history = observed(history, value, rule.window)
        crossed += crosses(value, threshold(history, rule))
    # 0.1 of 4000, a standard deviation of sqrt(4000 x 0.1 x 0.9) = 19.
    assert crossed == pytest.approx(400, abs=3 * 19)
