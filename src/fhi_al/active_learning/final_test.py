"""The true error of the finished models: labels of structures that their own MD comes to.

Validation points are of the same short trajectories as what was trained on.  What a user wants to
know is the error where MD will go.  Owns ``state.final_test``; decides nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from fhi_al.active_learning.excess_energy import ExcessEnergy
from fhi_al.active_learning.final_errors import (
    Tested,
    errors_of_structures,
    final_errors,
    rows,
)
from fhi_al.active_learning.final_starts import start_point
from fhi_al.active_learning.frames import frame_of, request_of
from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.propagation import Dynamics, Propagation
from fhi_al.core.assignment import Assignment, some_of_each, trajectories_of
from fhi_al.core.final_test import BLOCKS_BEFORE, drawn, n_blocks, shared_out
from fhi_al.core.label import Label
from fhi_al.core.reported_errors import FinalErrors
from fhi_al.core.run_state import Candidate, CandidateStatistics, FinalTestState
from fhi_al.core.schedule import highest
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.core.uncertainty import Measure
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.conditions import Barostat, MDConditions
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import random_stream
from fhi_al.md.system import MDSystem
from fhi_al.md.table import conditions_table
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)

# Purpose numbers of the random streams; those of the initial dataset and of active learning are
# others.
TEST_STREAM = 2
CHOICE_STREAM = 3
# Langevin's friction in 1/fs: vibrations, whatever the thermostat of the run is good for, forget
# their energy in the time of a block, so that every block gives a new structure.
FRICTION_PER_FS = 0.04
BLOCK_FS = 25.0
MOST_TRAJECTORIES = 4
# Of each trajectory, on average, after which the models count as useless in MD.
MOST_FAILURES = 5


def canonical(conditions: MDConditions) -> MDConditions:
    """The conditions of the test: the run's, with a thermostat that samples well.

    NVE, and an integrator of the user's own, stay what they are.  Of a schedule the highest value
    counts: the test is shorter than most.
    """
    conditions = replace(
        conditions,
        temperature=highest(conditions.temperature),
        pressure=highest(conditions.pressure),
    )
    if conditions.thermostat is None or conditions.own_integrator is not None:
        return conditions
    barostat: Barostat | None = None if conditions.barostat is None else "CellRescaling"
    return replace(conditions, thermostat="Langevin", friction=FRICTION_PER_FS, barostat=barostat)


class FinalTest:
    """The test of the finished models.

    Parameters
    ----------
    progress : Progress
        With the trajectories of the test in its ``live`` meanwhile.
    dynamics : Dynamics
        Under :func:`canonical` conditions.
    queue : LabelQueue
    held_out : HeldOut
        Gets the labels: no member ever trains on them.
    excess : ExcessEnergy
        No trajectory starts from labels that it speaks of.
    measure : callable
        The uncertainty, by which structures are spread.
    step : callable
        Returns a context manager in which a step is done as a whole or not at all.
    journal, clock : Journal, Clock
    """

    def __init__(
        self,
        progress: Progress,
        dynamics: Dynamics,
        queue: LabelQueue,
        held_out: HeldOut,
        excess: ExcessEnergy,
        measure: Measure,
        step: Callable[[], AbstractContextManager[None]],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._progress = progress
        self._dynamics = dynamics
        self._queue = queue
        self._held_out = held_out
        self._excess = excess
        self._measure = measure
        self._step = step
        self._journal = journal
        self._clock = clock
        self._propagation = Propagation(dynamics, queue.pump)
        self._submitted: set[tuple[int, int]] = set()

    def begin(self, n_labels: int, table: Sequence[Assignment]) -> None:
        """Start from labelled structures, drawn at random: evenly over systems and MD blocks.

        Parameters
        ----------
        n_labels : int
            At most.
        table : sequence of Assignment
            System and MD block of each trajectory of the run, of which the test has some.
        """
        trajectories = trajectories_of(some_of_each(table, MOST_TRAJECTORIES))
        labels = self._queue.validator.known_labels()
        self._progress.live = []
        for trajectory in trajectories:
            md_system = self._system(trajectory)
            generator = random_stream(md_system.conditions.seed, TEST_STREAM, trajectory.index)
            point = start_point(labels, trajectory, md_system, self._excess, generator)
            self._progress.live.append(LiveTrajectory.at(point, generator))
        self._progress.update(final_test=FinalTestState(n_labels, trajectories))
        log.info(
            "final test: %d trajectories of %.0f fs on the finished models' forces, %d labels",
            len(trajectories),
            self._n_blocks() * BLOCK_FS,
            n_labels,
        )
        for line in conditions_table(trajectories, self._system):
            log.info("final test: %s", line)

    def run(self, members: Sequence[int]) -> FinalErrors:
        """Move, choose, label, compare; from where the test stands that has begun.

        Parameters
        ----------
        members : sequence of int
            The finished ones.  One alone drives the MD, several with their mean.

        Raises
        ------
        EngineError
            If the reference engine fails for good.
        """
        member = members[0] if len(members) == 1 else None
        while not self._state.has_chosen:
            with self._step():
                if self._has_moved():
                    self._choose()
                else:
                    self._move(member)
        while self._state.pending:
            with self._step():
                self._take_in()
        return self._errors(members)

    @property
    def _state(self) -> FinalTestState:
        state = self._progress.state.final_test
        assert state is not None
        return state

    def _update(self, **changes: object) -> None:
        self._progress.update(final_test=replace(self._state, **changes))  # type: ignore[arg-type]

    def _n_blocks(self) -> int:
        n_atoms = min(len(system) for system in self._dynamics.systems)
        return n_blocks(self._state.n_labels, len(self._state.trajectories), n_atoms)

    def _has_moved(self) -> bool:
        state = self._state
        if state.failures >= MOST_FAILURES * len(state.trajectories):
            return True
        return state.blocks >= self._n_blocks()

    def _system(self, trajectory: TrajectoryState) -> MDSystem:
        return self._dynamics.md_system(trajectory.system, trajectory.md)

    def _steps_per_block(self, trajectory: TrajectoryState) -> int:
        return max(1, round(BLOCK_FS / self._system(trajectory).conditions.timestep))

    def _move(self, member: int | None) -> None:
        state, live = self._state, self._progress.live
        n_steps = [self._steps_per_block(trajectory) for trajectory in state.trajectories]
        with self._clock.section(clock.MD):
            failures = self._propagation.advance(state.trajectories, live, n_steps, member)
        blocks, found = state.blocks + 1, list(state.candidates)
        for index, (one, failure) in enumerate(zip(live, failures, strict=True)):
            if failure is None and blocks > BLOCKS_BEFORE:
                assert one.forces is not None
                uncertainty = self._measure(one.forces)
                if np.isfinite(uncertainty):
                    frame = frame_of(one.point, blocks * n_steps[index])
                    found.append(Candidate(index, frame, float(uncertainty)))
            elif failure is not None:
                log.warning("final test, trajectory %d: %s; begun anew", index, failure)
                one.roll_back(self._system(state.trajectories[index]))
        n_failures = sum(failure is not None for failure in failures)
        self._update(blocks=blocks, failures=state.failures + n_failures, candidates=tuple(found))

    def _choose(self) -> None:
        """Some structures of each system, in proportion to how many its trajectories came to.

        None of models whose MD ended before there was anything to choose from: that says enough.
        """
        state = self._state
        of_systems: dict[int, list[Candidate]] = {}
        for each in state.candidates:
            system = state.trajectories[each.trajectory].system
            of_systems.setdefault(system, []).append(each)
        stream = random_stream(self._seed(), CHOICE_STREAM)
        counts = shared_out(state.n_labels, [len(some) for some in of_systems.values()])
        pending: list[Candidate] = []
        met: list[CandidateStatistics] = []
        for (system, some), count in zip(of_systems.items(), counts, strict=True):
            uncertainties = [each.uncertainty for each in some]
            pending += [some[place] for place in drawn(uncertainties, count, stream)]
            met.append(CandidateStatistics(system, len(some), float(np.mean(uncertainties))))
        self._update(has_chosen=True, candidates=(), pending=tuple(pending), met=tuple(met))

    def _seed(self) -> int:
        first = self._state.trajectories[0]
        return self._system(first).conditions.seed

    def _take_in(self) -> None:
        for candidate in self._state.pending:
            if _name(candidate) not in self._submitted:
                self._submitted.add(_name(candidate))
                self._queue.submit(self._request(candidate))
        for outcome in self._queue.poll(wait=True):
            name = (outcome.request.origin.trajectory, outcome.request.origin.step)
            (candidate,) = (each for each in self._state.pending if _name(each) == name)
            pending = tuple(each for each in self._state.pending if each is not candidate)
            labelled = self._state.labelled
            if isinstance(outcome.record, Label):
                self._held_out.keep(outcome.record)
                labelled = (*labelled, (outcome.record.key, candidate.uncertainty))
            self._update(pending=pending, labelled=labelled)

    def _request(self, candidate: Candidate) -> LabelRequest:
        trajectory = self._state.trajectories[candidate.trajectory]
        return request_of(candidate.frame, "test", trajectory, self._system(trajectory))

    def _errors(self, members: Sequence[int]) -> FinalErrors:
        """Means over the members."""
        state = self._state
        labels = [self._held_out.store.label(key) for key, _ in state.labelled]
        tested = Tested(labels, [uncertainty for _, uncertainty in state.labelled], state.met)
        md_ps = 1e-3 * state.blocks * BLOCK_FS * len(state.trajectories)
        with self._clock.section(clock.MD):
            errors = errors_of_structures(tested, self._dynamics.predictor.as_trained, members)
        for row in rows(tested, errors):
            self._journal.add("final test", **row)
        return final_errors(tested, errors, state.failures, md_ps)


def _name(candidate: Candidate) -> tuple[int, int]:
    return candidate.trajectory, candidate.frame.step
