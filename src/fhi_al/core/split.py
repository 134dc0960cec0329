"""Which points go to validation, and which are held out.  Pure: standard library."""

from __future__ import annotations

import hashlib
import math

STRATA = 5


def goes_to_validation(n_validation: int, n_points: int, valid_ratio: float) -> bool:
    """Whether the next point joins validation rather than training.

    Parameters
    ----------
    n_validation, n_points : int
        Points added to validation, and in all, before this one, in this phase.
    valid_ratio : float
        Share of points that validation should hold; 1 is all of them.

    Notes
    -----
    The first point of a phase goes to training, the second to validation, whatever the ratio
    between 0 and 1: so a set of two points has both.
    """
    return valid_ratio >= 1 or n_validation < valid_ratio * n_points


def validates(member: int, place: int, valid_ratio: float) -> bool:
    """Whether a member validates on a point of shared sets, and does not train on it.

    Folds, of which each member holds one back: every point is trained on by most members, and none
    is validated on by a member that has seen it.

    Parameters
    ----------
    member : int
        Its index; two members or more.
    place : int
        Points of this phase before this one.
    valid_ratio : float
        Share of points that each member's validation should hold; at most a half, or 1: all of them
        are validated on by all, as all are trained on with 0.
    """
    if valid_ratio in (0, 1):
        return valid_ratio == 1
    n_folds = max(2, round(1 / valid_ratio))
    return place % n_folds == member % n_folds


def bootstrap_count(member: int, place: int) -> int:
    """How often a point is in a member's sample of all points, drawn with replacement.

    As often as the Poisson distribution of mean 1 has it, which is that of the bootstrap for many
    points and needs not know how many there will be (Oza and Russell 2001).  Drawn by strata: of
    every ``STRATA`` points in a row one is drawn from each of as many equal parts of the
    distribution, so that a few points never leave a member with next to none of them.

    Parameters
    ----------
    member : int
        Its index.
    place : int
        Points of this phase before this one.
    """
    block, within = divmod(place, STRATA)
    first = block * STRATA
    order = sorted(range(first, first + STRATA), key=lambda each: _drawn(f"order {member} {each}"))
    left = (order.index(first + within) + _drawn(f"bootstrap {member} {place}")) / STRATA
    count, share = 0, math.exp(-1.0)
    while left >= share:
        left -= share
        count += 1
        share /= count
    return count


def _drawn(what: str) -> float:
    """A number in [0, 1) that is always the same for the same words."""
    return int.from_bytes(hashlib.sha256(what.encode()).digest()[:6], "big") / 2**48


def goes_to_test(n_points: int, test_ratio: float) -> bool:
    """Whether the next point is held out for the test at the end.

    Parameters
    ----------
    n_points : int
        Points before this one in this phase, test points included.
    test_ratio : float
        Share of points that is held out.

    Notes
    -----
    Evenly: after n points floor(n x ratio) have been held out.
    """
    return _n_test(n_points + 1, test_ratio) > _n_test(n_points, test_ratio)


def n_to_sample(n_before: int, n_wanted: int, test_ratio: float) -> int:
    """Points to sample so that `n_wanted` are left after some were held out.

    Parameters
    ----------
    n_before : int
        Points of this phase before them, test points included.
    n_wanted : int
    test_ratio : float
        Below 1.
    """
    n_left, n_points = 0, n_before
    while n_left < n_wanted:
        n_left += not goes_to_test(n_points, test_ratio)
        n_points += 1
    return n_points - n_before


def _n_test(n_points: int, test_ratio: float) -> int:
    # 0.29 x 100 is 28.999999999999996.
    return math.floor(n_points * test_ratio + 1e-9)
