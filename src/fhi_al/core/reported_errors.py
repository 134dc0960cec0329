"""The errors that a run reports of its models, and where they contradict each other.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhi_al.core.calibration import calibration, is_usable
from fhi_al.core.convergence import UnseenErrors
from fhi_al.core.system_errors import SystemErrors, mean_by_system

# Of the entries along the ensemble's MD that are averaged: the last ones, for the models change.
WINDOW = 100
# Sanity checks from which on the estimate along MD counts for more than a validation error.
ENOUGH_CHECKS = 10
LARGEST_FACTOR = 2.0


@dataclass(frozen=True)
class MDEstimate:
    """Force MAE of the ensemble's mean along its own MD, before the final convergence, in eV/A.

    Parameters
    ----------
    calibrated : float or None
        Scale x mean uncertainty of the last checks; None without a calibration.
    n_checks : int
        Uncertainties that it is the mean of.
    true : float or None
        Mean true error of the last sanity checks; None without any.
    n_sanity : int
        Sanity checks behind both.
    is_known_well : bool
        Enough sanity checks, and a scale that they agree on.
    validation : float
        Validation force MAE of the same models, mean over the members.
    """

    calibrated: float | None
    n_checks: int
    true: float | None
    n_sanity: int
    is_known_well: bool
    validation: float


@dataclass(frozen=True)
class FinalErrors:
    """Errors of the final models on structures of their own MD, labelled for this alone.

    Parameters
    ----------
    mae_forces, standard_error : float
        Over the structures that MD comes to, and its standard error, in eV/A.
    mae_energy_per_atom : float
        In eV.
    n_points : int
        Labelled ones.
    n_failures : int
        Times that their MD ended in a structure that makes no sense.
    md_ps : float
        Simulated time of all trajectories, in ps.
    mae_stress : float or None
        In eV/A^3; None if labels have no stress.
    by_system : tuple of SystemErrors
        The same for the structures of each system.
    """

    mae_forces: float
    standard_error: float
    mae_energy_per_atom: float
    n_points: int
    n_failures: int
    md_ps: float
    mae_stress: float | None = None
    by_system: tuple[SystemErrors, ...] = ()

    def __str__(self) -> str:
        stress = "" if self.mae_stress is None else f", stress {1000 * self.mae_stress:.2f} meV/A^3"
        failures = (
            f"; their MD of {self.md_ps:.1f} ps ended {self.n_failures} times in a structure that "
            "makes no sense"
            if self.n_failures
            else ""
        )
        if not self.n_points:
            return f"no structure was labelled{failures}"
        return (
            f"forces {1000 * self.mae_forces:.1f} +- {1000 * self.standard_error:.1f} meV/A, "
            f"energies {1000 * self.mae_energy_per_atom:.2f} meV/atom{stress} on {self.n_points} "
            f"structures{failures}"
        )


@dataclass(frozen=True)
class ReportedErrors:
    """Errors of the models that are kept, as means over the members.

    Parameters
    ----------
    validation : UnseenErrors
        Each member on its own validation points.
    unseen : UnseenErrors
        Cross-validation: each member on points that it has not trained on.
    md : MDEstimate or None
        None before active learning.
    test : FinalErrors or None
        None without a test of the final models.
    """

    validation: UnseenErrors
    unseen: UnseenErrors
    md: MDEstimate | None = None
    test: FinalErrors | None = None


def md_estimate(entries: Iterable[Mapping[str, Any]], validation: float) -> MDEstimate:
    """What the journal says of errors along the ensemble's MD.

    Parameters
    ----------
    entries : iterable of dict
        Of the journal; its checks and sanity checks count.
    validation : float
        Validation force MAE of the models at the end of active learning, in eV/A.
    """
    uncertainties: list[float] = []
    pairs: list[tuple[float, float]] = []
    for entry in entries:
        if entry["kind"] == "check":
            uncertainties.append(entry["uncertainty"])
        elif entry["kind"] == "sanity" and entry["uncertainty"] > 0:
            pairs.append((entry["uncertainty"], entry["mae_forces"]))
    uncertainties, pairs = uncertainties[-WINDOW:], pairs[-WINDOW:]
    # In units of the uncertainty an error is the same thing at all times; the models change.
    fit = calibration(pairs)
    last = pairs[-ENOUGH_CHECKS:]
    return MDEstimate(
        calibrated=fit.scale * _mean(uncertainties) if fit and uncertainties else None,
        n_checks=len(uncertainties),
        true=_mean([error for _, error in last]) if last else None,
        n_sanity=len(pairs),
        is_known_well=is_usable(fit, ENOUGH_CHECKS),
        validation=validation,
    )


def mean_errors(each: Sequence[UnseenErrors]) -> UnseenErrors:
    """Mean over at least one member; the points are those of the member with the fewest."""
    stress = [one.mae_stress for one in each if one.mae_stress is not None]
    return UnseenErrors(
        _mean([one.mae_forces for one in each]),
        _mean([one.mae_energy_per_atom for one in each]),
        min(one.n_points for one in each),
        _mean(stress) if stress else None,
        mean_by_system([one.by_system for one in each]),
    )


def contradictions(errors: ReportedErrors) -> Iterator[str]:
    """What says that the validation error is not the models' error, and which to believe."""
    own, unseen = errors.validation, errors.unseen
    if unseen.n_points > own.n_points and _differ(own.mae_forces, unseen.mae_forces):
        yield (
            f"the validation force error, {_mev(own.mae_forces)} on {own.n_points} points a "
            f"member, and that on all points a member has not trained on, "
            f"{_mev(unseen.mae_forces)} on {unseen.n_points}, differ by more than a factor of two. "
            "Believe the latter"
        )
    if errors.md is not None:
        yield from _along_md(errors.md)
    if errors.test is not None:
        yield from _in_the_test(errors.test, unseen)


def _in_the_test(test: FinalErrors, unseen: UnseenErrors) -> Iterator[str]:
    if test.n_points and _differ(test.mae_forces, unseen.mae_forces):
        yield (
            f"the force error of the final models is {_mev(test.mae_forces)} on {test.n_points} "
            f"structures of their own MD, and {_mev(unseen.mae_forces)} on the {unseen.n_points} "
            "labels that they have not trained on: more than a factor of two apart. Believe the "
            "former. More labels (desired_acc, max_MD_steps, label_budget) are the cure"
        )
    if test.n_failures:
        yield (
            f"the final models' own MD ended {test.n_failures} times in {test.md_ps:.1f} ps in a "
            "structure that makes no sense: they are not good enough for MD yet. More labels "
            "(desired_acc, max_MD_steps, label_budget) are the cure"
        )


def _along_md(md: MDEstimate) -> Iterator[str]:
    found = [
        (f"calibrated uncertainty along MD, {md.n_checks} checks", md.calibrated),
        (f"true errors of the last {min(md.n_sanity, ENOUGH_CHECKS)} sanity checks", md.true),
    ]
    off = [(what, value) for what, value in found if value and _differ(md.validation, value)]
    if not off:
        return
    told = " and ".join(f"{_mev(value)} ({what})" for what, value in off)
    believe = (
        "Believe the latter: they are of structures that the models meet in MD"
        if md.is_known_well
        else f"{md.n_sanity} sanity checks are too few, or too scattered, to say which is right: "
        "believe the larger, and label structures of an independent MD to know"
    )
    yield (
        f"at the end of active learning the validation force error was {_mev(md.validation)}, but "
        f"along the models' own MD it was {told}: more than a factor of two apart. {believe}"
    )


def _differ(one: float, other: float) -> bool:
    if not (math.isfinite(one) and math.isfinite(other)):
        return False
    return max(one, other) > LARGEST_FACTOR * min(one, other)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _mev(error: float) -> str:
    return f"{1000 * error:.1f} meV/A"
