"""Where a convergence stands, when a stage of it ends, which weights are best.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fhi_al.core.improvement import BestError, with_error
from fhi_al.core.system_errors import SystemErrors

# The energy error and the training loss still fall if they fall by this share of themselves: the
# loss of a fit without noise falls by less and less for ever.
RELATIVE_MARGIN = 0.01


class ConvergenceStage(StrEnum):
    """What the best weights of a convergence are of; in this order.

    ``BEFORE`` are the weights that a convergence from fresh weights may fall back to.
    """

    BEFORE = "before"
    FIRST = "first"
    SECOND = "second"

    @property
    def full_name(self) -> str:
        """For the log."""
        return "weights before" if self is ConvergenceStage.BEFORE else f"{self} stage"


@dataclass(frozen=True)
class UnseenErrors:
    """Errors of one member's weights on labels that it has not trained on.

    Parameters
    ----------
    mae_forces : float
        In eV/A; inf if there are no such weights.
    mae_energy_per_atom : float
        In eV.
    n_points : int
    mae_stress : float or None
        In eV/A^3; None if no label has a stress.
    by_system : tuple of SystemErrors
        The same for the points of each system.
    """

    mae_forces: float = math.inf
    mae_energy_per_atom: float = math.inf
    n_points: int = 0
    mae_stress: float | None = None
    by_system: tuple[SystemErrors, ...] = ()

    def __str__(self) -> str:
        stress = "" if self.mae_stress is None else f", stress {1000 * self.mae_stress:.2f} meV/A^3"
        return (
            f"forces {1000 * self.mae_forces:.1f} meV/A, energies "
            f"{1000 * self.mae_energy_per_atom:.2f} meV/atom{stress} on {self.n_points} points"
        )


def is_better(
    found: UnseenErrors, than: UnseenErrors, *, with_energies: bool, with_stress: bool = False
) -> bool:
    """Whether the forces are better by a larger factor than the energies are worse, or the reverse.

    Parameters
    ----------
    found, than : UnseenErrors
        On the same labels.
    with_energies : bool
        False: they do not count.
    with_stress : bool
        The stress counts as the energies do, if it is known of both.

    Returns
    -------
    bool
        (F_found / F_than) (E_found / E_than) (S_found / S_than) < 1; NaN is worse than any number.
    """
    with_stress = with_stress and None not in (found.mae_stress, than.mae_stress)
    return _product(found, with_energies, with_stress) < _product(than, with_energies, with_stress)


def _product(errors: UnseenErrors, with_energies: bool, with_stress: bool) -> float:
    value = errors.mae_forces * (errors.mae_energy_per_atom if with_energies else 1.0)
    if with_stress:
        assert errors.mae_stress is not None
        value *= errors.mae_stress
    return math.inf if math.isnan(value) else value


@dataclass(frozen=True)
class Course:
    """How the members' mean errors went in a stage; a stage ends when none of them falls.

    Parameters
    ----------
    forces, energies : BestError
        Of the validation: force MAE in eV/A, MAE of the energy per atom in eV.
    loss : BestError
        Mean training loss.
    """

    forces: BestError = field(default_factory=BestError)
    energies: BestError = field(default_factory=BestError)
    loss: BestError = field(default_factory=BestError)

    @classmethod
    def begun(cls, epoch: int, mae_forces: float, mae_energy_per_atom: float) -> Course:
        """From the errors of the weights that a stage begins with, at an epoch."""
        return cls(
            BestError(mae_forces, epoch, epoch),
            BestError(mae_energy_per_atom, epoch, epoch),
            BestError(best_epoch=epoch, epoch=epoch),
        )

    @property
    def epoch(self) -> int:
        """The last epoch seen."""
        return self.forces.epoch

    @property
    def epochs_without_improvement(self) -> int:
        """Epochs since the last of the three errors fell."""
        every = (self.forces, self.energies, self.loss)
        return min(each.epochs_without_improvement for each in every)

    def after(
        self, epoch: int, mae_forces: float, mae_energy_per_atom: float, loss: float, margin: float
    ) -> Course:
        """The course with one more validation.

        Parameters
        ----------
        epoch : int
        mae_forces, mae_energy_per_atom, loss : float
            Means over the members; NaN if one does not count.
        margin : float
            Smallest drop of the force MAE that is an improvement, in eV/A.
        """
        return Course(
            with_error(self.forces, mae_forces, epoch, margin),
            _with_relative(self.energies, mae_energy_per_atom, epoch),
            _with_relative(self.loss, loss, epoch),
        )


def _with_relative(history: BestError, error: float, epoch: int) -> BestError:
    margin = RELATIVE_MARGIN * history.best if math.isfinite(history.best) else 0.0
    return with_error(history, error, epoch, margin)


@dataclass(frozen=True)
class StageErrors:
    """Errors of each member's best weights of a stage; none if they were not measured."""

    stage: ConvergenceStage
    errors: tuple[UnseenErrors, ...] = ()


@dataclass(frozen=True)
class ConvergenceState:
    """A convergence under way.

    Parameters
    ----------
    members : tuple of int
    course : Course
        Of the stage under way.
    stages : tuple of StageErrors
        The last one is the stage under way.
    compared_at : int
        Epoch at which the members' weights were last compared with their best.
    diverged : tuple of int
        Members whose training diverged in the second stage, which ends then.
    """

    members: tuple[int, ...]
    course: Course
    stages: tuple[StageErrors, ...]
    compared_at: int = 0
    diverged: tuple[int, ...] = ()

    @property
    def stage(self) -> ConvergenceStage:
        """The stage under way."""
        return self.stages[-1].stage


def best_stage(
    stages: Sequence[StageErrors], place: int, *, with_energies: bool, with_stress: bool = False
) -> ConvergenceStage:
    """The stage whose best weights a member keeps.

    Parameters
    ----------
    stages : sequence of StageErrors
        At least one, in their order: of equally good ones the first.
    place : int
        Of the member in each of them.
    with_energies, with_stress : bool
        See :func:`is_better`.
    """
    best = stages[0]
    for each in stages[1:]:
        if is_better(
            each.errors[place],
            best.errors[place],
            with_energies=with_energies,
            with_stress=with_stress,
        ):
            best = each
    return best.stage


def evenly_spread(n: int, at_most: int) -> list[int]:
    """Places of at most so many of n, evenly spread, the last one included."""
    if n <= at_most:
        return list(range(n))
    return [(place + 1) * n // at_most - 1 for place in range(at_most)]
