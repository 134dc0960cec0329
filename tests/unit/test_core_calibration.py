"""The scale of the uncertainty: errors of known distribution, by hand, and against scipy."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from fhi_al.core.calibration import (
    LARGEST_RATIO,
    Calibration,
    Pairs,
    calibration,
    default_limit,
    describe,
    is_material,
    is_usable,
    with_pair,
)
from fhi_al.core.uncertainty import MEASURES, UncertaintyType, force_error

TRUE_SCALE = 1.7


def gaussian_pairs(seed: int, n: int, components: int) -> list[tuple[float, float]]:
    """Errors whose components are Gaussian with standard deviation scale x uncertainty; their rms.

    The uncertainties spread over an order of magnitude.
    """
    generator = np.random.default_rng(seed)
    uncertainty = 0.05 * np.exp(0.5 * generator.standard_normal(n))
    normal = generator.standard_normal((n, components))
    error = TRUE_SCALE * uncertainty * np.sqrt((normal**2).mean(axis=1))
    return list(zip(uncertainty.tolist(), error.tolist(), strict=True))


def found(values: list[tuple[float, float]]) -> Calibration:
    result = calibration(values)
    assert result is not None
    return result


@pytest.mark.parametrize(("n", "components"), [(20, 3), (50, 3), (200, 3), (50, 1)])
def test_the_interval_holds_the_true_scale_in_95_of_100_runs(n: int, components: int) -> None:
    runs = 400
    results = [found(gaussian_pairs(seed, n, components)) for seed in range(runs)]
    covered = sum(each.low <= TRUE_SCALE <= each.high for each in results) / runs
    # Counted over 400 seeds the standard deviation is 0.011.  Few and skew ratios fall somewhat
    # short of 0.95 (0.94 for 20 pairs of 3 components, 0.92 for 50 of one); 0.90 is not a fluke.
    assert 0.90 <= covered <= 0.98
    assert np.mean([each.scale for each in results]) == pytest.approx(TRUE_SCALE, rel=0.03)


def test_the_scale_by_hand() -> None:
    # Ratios 1 and 3: the mean of 1 and 9 is 5.
    result = found([(0.1, 0.1), (0.2, 0.6)])
    assert result.scale == pytest.approx(math.sqrt(5), rel=1e-14)
    assert (result.n_pairs, result.within_1, result.within_2) == (2, 0.5, 1.0)
    assert result.low < result.scale < result.high
    assert result.low * result.high == pytest.approx(result.scale**2, rel=1e-12)


def test_ratios_that_are_all_the_same_leave_no_doubt() -> None:
    result = found([(0.1 * n, 0.25 * n) for n in range(1, 11)])
    assert (result.scale, result.low, result.high) == pytest.approx((2.5, 2.5, 2.5), rel=1e-12)
    assert (result.pearson, result.spearman) == pytest.approx((1.0, 1.0), rel=1e-12)


def test_the_interval_is_students() -> None:
    values = gaussian_pairs(3, 12, 9)
    result = found(values)
    square = np.array([(error / uncertainty) ** 2 for uncertainty, error in values])
    # Of the mean square, relative; half of that for its root; in the logarithm.
    relative = stats.sem(square) / square.mean()
    half_width = 0.5 * stats.t.ppf(0.975, 11) * relative
    # 1e-4: the expansion of Student's quantile.
    assert math.log(result.high / result.scale) == pytest.approx(half_width, rel=1e-4)


def test_more_pairs_are_known_better_as_the_root_of_their_number() -> None:
    few, many = (
        np.mean([math.log(r.high / r.low) for r in map(found, runs)])
        for runs in ([gaussian_pairs(seed, n, 9) for seed in range(50)] for n in (25, 400))
    )
    assert few / many == pytest.approx(4.0, rel=0.1)


def test_correlations_are_those_of_scipy() -> None:
    values = [(round(u, 2), round(e, 2)) for u, e in gaussian_pairs(8, 60, 3)]  # with ties
    result = found(values)
    uncertainty, error = np.array(values).T
    assert result.pearson == pytest.approx(stats.pearsonr(uncertainty, error)[0], rel=1e-12)
    assert result.spearman == pytest.approx(stats.spearmanr(uncertainty, error)[0], rel=1e-12)


def test_a_constant_has_no_correlation() -> None:
    result = found([(0.1, 0.2), (0.1, 0.4), (0.1, 0.3)])
    assert result.pearson is None and result.spearman is None
    assert "rank correlation" not in describe(result)


def test_one_wild_structure_does_not_set_the_scale() -> None:
    values = gaussian_pairs(4, 50, 9)
    clean = found(values).scale
    wild = [*values, (0.001, 5.0)]  # agreed on, and wrong by 5000 times that
    naive = math.sqrt(np.mean([(error / uncertainty) ** 2 for uncertainty, error in wild]))
    assert naive > 100 * clean
    # At most LARGEST_RATIO medians: it adds 16 / 51 of the median square.
    assert clean < found(wild).scale < clean * math.sqrt(1 + LARGEST_RATIO**2 / 51)
    assert found(wild).within_2 < 1  # and is counted as not covered


def test_for_gaussian_components_the_cut_costs_less_than_1_percent() -> None:
    assert found(gaussian_pairs(0, 200_000, 1)).scale == pytest.approx(TRUE_SCALE, rel=0.01)
    assert found(gaussian_pairs(0, 100_000, 3)).scale == pytest.approx(TRUE_SCALE, rel=0.005)


@pytest.mark.parametrize("values", [[], [(0.1, 0.2)], [(0.1, 0.0), (0.2, 0.0)]])
def test_too_little_says_nothing(values: list[tuple[float, float]]) -> None:
    assert calibration(values) is None
    assert not is_usable(calibration(values), 0)


def test_a_calibration_needs_its_pairs_and_a_narrow_interval() -> None:
    good = found(gaussian_pairs(1, 30, 9))
    assert is_usable(good, 30) and not is_usable(good, 31)
    generator = np.random.default_rng(0)
    vague = [(0.1, float(error)) for error in generator.lognormal(sigma=3.0, size=10)]
    assert not is_usable(found(vague), 10)


def test_the_window_keeps_the_last_pairs() -> None:
    pairs = Pairs(reported=1.5)
    for n in range(1, 6):
        pairs = with_pair(pairs, float(n), 2.0 * n, window=3)
    assert pairs == Pairs(((3.0, 6.0), (4.0, 8.0), (5.0, 10.0)), seen=5, reported=1.5)


@pytest.mark.parametrize("pair", [(0.0, 1.0), (math.nan, 1.0), (1.0, math.inf), (1.0, math.nan)])
def test_a_pair_without_a_ratio_is_left_out(pair: tuple[float, float]) -> None:
    before = with_pair(Pairs(), 1.0, 2.0, window=3)
    assert with_pair(before, *pair, window=3) == before


@pytest.mark.parametrize(
    ("reported", "scale", "expected"),
    [
        (None, None, False),
        (None, 2.0, True),
        (2.0, None, True),
        (2.0, 2.3, False),
        (2.0, 2.5, True),
        (2.0, 1.8, False),
        (2.0, 1.6, True),
    ],
)
def test_a_change_by_a_fifth_is_told(
    reported: float | None, scale: float | None, expected: bool
) -> None:
    assert is_material(reported, scale) is expected


@pytest.mark.parametrize("n_atoms", [10, 100])
@pytest.mark.parametrize("kind", get_args(UncertaintyType))
def test_the_default_limit_is_above_what_the_wanted_accuracy_gives(
    n_atoms: int, kind: UncertaintyType
) -> None:
    error = np.random.default_rng(2).standard_normal((2000, n_atoms, 3))
    error *= 0.02 / np.abs(error).mean()  # MAE 0.02 eV/A
    right = np.zeros((n_atoms, 3))
    typical = np.mean([force_error(each, right, MEASURES[kind]) for each in error])
    assert 1.15 < default_limit(kind, 0.02) / typical < 1.7
