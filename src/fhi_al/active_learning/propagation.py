"""MD of active learning: all running trajectories advance together on the ensemble's forces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ase import Atoms

from fhi_al.active_learning.run import Run
from fhi_al.core.structure import Array
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.driver import MDPoint
from fhi_al.md.together import Block, advance_together, is_at
from fhi_al.md.validating import MDFailure
from fhi_al.models.predictor import Prediction


@dataclass(frozen=True)
class Move:
    """What becomes of one trajectory.

    Parameters
    ----------
    trajectory : TrajectoryState
        Before it.
    n_steps : int
    failure : str
        Why it ended in a structure that makes no sense; empty if it did not.
    """

    trajectory: TrajectoryState
    n_steps: int
    failure: str = ""


class Propagation:
    """Moves the walkers of a run.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def advance(self, moves: Sequence[Move], member: int | None) -> list[Move]:
        """Move walkers, and let every member say its forces where they end up.

        Parameters
        ----------
        moves : sequence of Move
        member : int or None
            Whose forces drive; None for the mean of all.

        Returns
        -------
        list of Move
            With the failures, in the same order.  The walker of a failed one stays where it was.
        """
        walkers = [self._run.walkers[move.trajectory.index] for move in moves]
        evaluation = _Evaluation(self._run, member)
        points = advance_together(
            [
                Block(
                    self._run.driver(move.trajectory.system, move.trajectory.md),
                    walker.point,
                    move.n_steps,
                    walker.generator,
                    None if walker.forces is None else _driving(walker.forces, member),
                )
                for move, walker in zip(moves, walkers, strict=True)
            ],
            evaluation.forces,
        )
        ended = []
        for move, walker, point in zip(moves, walkers, points, strict=True):
            if isinstance(point, MDFailure):
                ended.append(replace(move, failure=str(point)))
            else:
                walker.point, walker.forces = point, None
                ended.append(move)
        self._ask_everybody(ended, evaluation)
        return ended

    def _ask_everybody(self, moves: Sequence[Move], evaluation: _Evaluation) -> None:
        """Every member's forces at the new points, where they were not computed on the way."""
        unknown: dict[int, Atoms] = {}
        for place, move in enumerate(moves):
            if move.failure:
                continue
            walker = self._run.walkers[move.trajectory.index]
            walker.forces = evaluation.of_all_members_at(place, walker.point)
            if walker.forces is None:
                system = self._run.systems[move.trajectory.system]
                unknown[move.trajectory.index] = Atoms(
                    system.numbers, walker.point.positions, cell=walker.point.cell, pbc=system.pbc
                )
        predicted = self._run.predictor.predict(list(unknown.values()))
        for index, found in zip(unknown, predicted, strict=True):
            self._run.walkers[index].forces = found.forces


class _Evaluation:
    """The forces of one move, and the last ones of each trajectory."""

    def __init__(self, run: Run, member: int | None) -> None:
        self._run = run
        self._member = member
        self._last: dict[int, tuple[Atoms, Prediction]] = {}

    def forces(self, pending: Mapping[int, Atoms]) -> dict[int, Array]:
        """Driving forces by the places of the trajectories in the move."""
        # What others have finished meanwhile is stored between two steps.
        self._run.labels.pump()
        members = None if self._member is None else [self._member]
        predicted = self._run.predictor.predict(list(pending.values()), members)
        answers = {}
        for (place, atoms), found in zip(pending.items(), predicted, strict=True):
            self._last[place] = (atoms.copy(), found)
            answers[place] = found.forces.mean(axis=0)
        return answers

    def of_all_members_at(self, place: int, point: MDPoint) -> Array | None:
        """Every member's forces of the last step, if all were asked and it ended there."""
        if self._member is not None or place not in self._last:
            return None
        at, found = self._last[place]
        return found.forces if is_at(at, point.positions, point.cell) else None


def _driving(forces: Array, member: int | None) -> Array:
    mean: Array = forces.mean(axis=0) if member is None else forces[member]
    return mean
