"""What a run says of its models' errors, and when it warns that one of them is not the error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from fhi_al.core.convergence import UnseenErrors
from fhi_al.core.reported_errors import (
    FinalErrors,
    MDEstimate,
    ReportedErrors,
    contradictions,
    md_estimate,
    mean_errors,
)


def journal(n_sanity: int, ratio: float = 0.25, noise: float = 0.1) -> Iterator[dict[str, Any]]:
    """Checks with uncertainties of 1 eV/A, then 150 of 0.08 eV/A, and sanity checks among them."""
    for k in range(200):
        yield {"kind": "check", "uncertainty": 1.0 if k < 50 else 0.08}
    for k in range(n_sanity):
        error = ratio * (1 + noise * (-1) ** k)
        yield {"kind": "sanity", "uncertainty": 0.08, "mae_forces": 0.08 * error}
    yield {"kind": "epoch", "mae_forces": 9.0}


def test_the_error_along_md_is_the_scale_of_sanity_checks_times_the_last_uncertainties() -> None:
    found = md_estimate(journal(20), 0.004)
    assert (found.n_checks, found.n_sanity, found.is_known_well) == (100, 20, True)
    # Root mean square of 0.25 x (0.9, 1.1, ...): 0.25 x sqrt(1.01).
    assert found.calibrated == pytest.approx(0.08 * 0.25 * 1.01**0.5, rel=1e-12)
    assert found.true == pytest.approx(0.02, rel=1e-12)


def test_without_sanity_checks_there_is_no_estimate() -> None:
    found = md_estimate(journal(0), 0.004)
    assert (found.calibrated, found.true, found.is_known_well) == (None, None, False)
    same = UnseenErrors(0.004, 0.001, 4)
    assert not list(contradictions(ReportedErrors(same, same, found)))


@pytest.mark.parametrize(
    ("validation", "warns"), [(0.004, True), (0.011, False), (0.039, False), (0.05, True)]
)
def test_a_factor_of_two_is_warned_of_in_both_directions(validation: float, warns: bool) -> None:
    same = UnseenErrors(validation, 0.001, 4)
    errors = ReportedErrors(same, same, md_estimate(journal(20), validation))
    messages = list(contradictions(errors))
    assert len(messages) == warns
    if warns:
        assert "calibrated uncertainty along MD, 100 checks" in messages[0]
        assert "20.0 meV/A (true errors of the last 10 sanity checks)" in messages[0]
        assert "Believe the latter" in messages[0]


def test_few_or_scattered_sanity_checks_do_not_overrule() -> None:
    same = UnseenErrors(0.004, 0.001, 4)
    for few in (journal(4), journal(10, noise=0.98)):
        (message,) = contradictions(ReportedErrors(same, same, md_estimate(few, 0.004)))
        assert "too few, or too scattered" in message and "Believe the latter" not in message


@pytest.mark.parametrize(
    ("unseen", "n_points", "warns"), [(0.02, 17, True), (0.007, 17, False), (0.02, 4, False)]
)
def test_validation_points_that_are_easier_than_others_are_told(
    unseen: float, n_points: int, warns: bool
) -> None:
    errors = ReportedErrors(UnseenErrors(0.004, 1e-3, 4), UnseenErrors(unseen, 1e-3, n_points))
    messages = list(contradictions(errors))
    assert len(messages) == warns
    assert all("4.0 meV/A on 4 points" in each and "20.0 meV/A on 17" in each for each in messages)


def test_an_error_that_is_no_number_contradicts_nothing() -> None:
    nan = UnseenErrors(float("nan"), float("nan"), 4)
    md = MDEstimate(0.02, 10, 0.02, 20, True, float("nan"))
    assert not list(contradictions(ReportedErrors(nan, UnseenErrors(0.02, 1e-3, 9), md)))


def test_means_are_over_members_and_points_those_of_the_fewest() -> None:
    found = mean_errors([UnseenErrors(0.01, 0.002, 9), UnseenErrors(0.03, 0.004, 7)])
    assert (found.mae_forces, found.n_points) == (pytest.approx(0.02), 7)
    assert found.mae_energy_per_atom == pytest.approx(0.003)


@pytest.mark.parametrize(("true", "warns"), [(0.0115, True), (0.0095, False), (0.0024, True)])
def test_the_true_error_overrules_that_of_points_like_the_training_points(
    true: float, warns: bool
) -> None:
    unseen = UnseenErrors(0.005, 0.001, 7)
    test = FinalErrors(true, 0.002, 0.001, n_points=10, n_failures=0, md_ps=2.0)
    messages = list(contradictions(ReportedErrors(unseen, unseen, None, test)))
    assert len(messages) == warns
    if warns:
        assert f"{1000 * true:.1f} meV/A on 10 structures of their own MD" in messages[0]
        assert "5.0 meV/A on the 7 labels" in messages[0] and "Believe the former" in messages[0]


def test_models_whose_md_breaks_down_are_told_of_even_without_a_label() -> None:
    unseen = UnseenErrors(0.005, 0.001, 7)
    nothing = FinalErrors(math.inf, math.inf, math.inf, n_points=0, n_failures=20, md_ps=0.5)
    (message,) = contradictions(ReportedErrors(unseen, unseen, None, nothing))
    assert "ended 20 times in 0.5 ps" in message
    assert str(nothing).startswith("no structure was labelled; their MD of 0.5 ps ended 20 times")
