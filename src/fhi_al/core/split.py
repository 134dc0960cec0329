"""Which points go to validation.  Pure: standard library."""

from __future__ import annotations


def goes_to_validation(n_validation: int, n_points: int, valid_ratio: float) -> bool:
    """Whether the next point joins validation rather than training.

    Parameters
    ----------
    n_validation, n_points : int
        Points added to validation, and in all, before this one, in this phase.
    valid_ratio : float
        Share of points that validation should hold.

    Notes
    -----
    The first point of a phase goes to training, the second to validation, whatever the ratio: so a
    set of two points has both.
    """
    return n_validation < valid_ratio * n_points
