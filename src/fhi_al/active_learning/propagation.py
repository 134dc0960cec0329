"""MD of active learning: all running trajectories advance together on the ensemble's forces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from fhi_al.core.assignment import Assignment
from fhi_al.core.structure import Array, Structure
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.conditions import MDConditions
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import Evaluation, MovingStructure
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint
from fhi_al.md.system import MDSystem
from fhi_al.models.interface import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Dynamics:
    """MD of some systems on an ensemble's forces.

    Parameters
    ----------
    systems : tuple of Structure
    md_system : callable
        (system, md) -> MDSystem.
    predictor : Predictor
        Of the ensemble's forces.
    assignments : tuple of Assignment
        System, MD block and start of each trajectory.
    """

    systems: tuple[Structure, ...]
    md_system: Callable[[int, int], MDSystem]
    predictor: Predictor
    assignments: tuple[Assignment, ...] = (Assignment(0, 0),)

    def conditions(self, trajectory: TrajectoryState) -> MDConditions:
        """What a trajectory moves under."""
        return self.system_of(trajectory).conditions

    def system_of(self, trajectory: TrajectoryState) -> MDSystem:
        """What a trajectory moves."""
        return self.md_system(trajectory.system, trajectory.md)


class Propagation:
    """Moves trajectories.

    Parameters
    ----------
    dynamics : Dynamics
    between : callable
        Called before each prediction: what others have finished meanwhile is stored between steps.
    """

    def __init__(self, dynamics: Dynamics, between: Callable[[], None] = lambda: None) -> None:
        self._dynamics = dynamics
        self._between = between

    def advance(
        self,
        states: Sequence[TrajectoryState],
        live: Sequence[LiveTrajectory],
        n_steps: Sequence[int],
        member: int | None,
    ) -> list[MDFailure | None]:
        """Move trajectories, and have every member predict the forces where they end up.

        Parameters
        ----------
        states : sequence of TrajectoryState
            They say of which system each is, under which conditions, and how far it is.
        live : sequence of LiveTrajectory
            Of the same trajectories.  That of a failed one stays where it was.
        n_steps : sequence of int
            MD steps of each.
        member : int or None
            Whose forces drive; None for the mean of all.

        Returns
        -------
        list of MDFailure or None
            Why each ended in a structure that makes no sense; None if it did not.
        """
        evaluation = _Evaluation(self._dynamics.predictor, self._between, member)
        points = advance(
            live,
            [self._dynamics.md_system(state.system, state.md) for state in states],
            n_steps,
            evaluation.forces,
            known=[None if one.forces is None else _driving(one.forces, member) for one in live],
            steps_before=[state.step for state in states],
        )
        failures = [point if isinstance(point, MDFailure) else None for point in points]
        for one, point in zip(live, points, strict=True):
            if not isinstance(point, MDFailure):
                one.point, one.forces = point, None
        self._complete_forces(states, live, failures, evaluation)
        return failures

    def _complete_forces(
        self,
        states: Sequence[TrajectoryState],
        live: Sequence[LiveTrajectory],
        failures: Sequence[MDFailure | None],
        evaluation: _Evaluation,
    ) -> None:
        """Every member's forces at the new points, where they were not computed on the way."""
        unknown: list[LiveTrajectory] = []
        structures: list[Atoms] = []
        for place, (state, one) in enumerate(zip(states, live, strict=True)):
            if failures[place] is not None:
                continue
            known = evaluation.of_all_members_at(place, one.point)
            if known is not None:
                _take_over(one, known)
            else:
                system = self._dynamics.systems[state.system]
                unknown.append(one)
                structures.append(
                    Atoms(
                        system.numbers,
                        one.point.positions,
                        cell=one.point.cell,
                        pbc=system.pbc,
                    )
                )
        predicted = self._dynamics.predictor.predict(structures)
        for one, prediction in zip(unknown, predicted, strict=True):
            _take_over(one, prediction)


class _Evaluation:
    """The forces of one move, and the last ones of each trajectory."""

    def __init__(
        self, predictor: Predictor, between: Callable[[], None], member: int | None
    ) -> None:
        self._predictor = predictor
        self._between = between
        self._member = member
        self._last: dict[int, tuple[MovingStructure, Prediction]] = {}

    def forces(self, pending: Mapping[int, MovingStructure]) -> dict[int, Evaluation | MDFailure]:
        """What drives trajectories, by their places in the move."""
        self._between()
        members = None if self._member is None else [self._member]
        structures = list(pending.values())
        stress = any(one.needs_stress for one in structures)
        predicted = self._predictor.predict(structures, members, stress=stress)
        driving: dict[int, Evaluation | MDFailure] = {}
        for (place, structure), prediction in zip(pending.items(), predicted, strict=True):
            self._last[place] = (structure, prediction)
            mean_stress = None
            if structure.needs_stress and prediction.stress is not None:
                mean_stress = prediction.stress.mean(axis=0)
            forces = prediction.forces
            mean = forces[0] if len(forces) == 1 else forces.mean(axis=0)
            driving[place] = Evaluation(mean, mean_stress)
        return driving

    def of_all_members_at(self, place: int, point: MDPoint) -> Prediction | None:
        """What all members predicted in the last step, if they did and it ended there."""
        if self._member is not None or place not in self._last:
            return None
        structure, prediction = self._last[place]
        return prediction if structure.is_at(point) else None


def _take_over(one: LiveTrajectory, found: Prediction) -> None:
    one.forces, one.energy = found.forces, float(found.energies.mean())


def _driving(forces: Array, member: int | None) -> Array:
    mean: Array = forces.mean(axis=0) if member is None else forces[member]
    return mean
