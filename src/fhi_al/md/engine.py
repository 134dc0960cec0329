"""Advance trajectories of any systems together by a block of steps; their forces are handed in.

All that are under the same scheme move as one set of arrays.  Each goes where it would go alone,
bit for bit if its forces are the same, and its random stream ends where it would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fhi_al.core.structure import Array
from fhi_al.md.ase_integrator import advance_alone, is_ase_integrator
from fhi_al.md.checks import heat_problems, structure_problems
from fhi_al.md.evaluation import Evaluation, ForceFunction, MovingStructure, not_finite
from fhi_al.md.integrator import Forces, Integrator, Noise
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint
from fhi_al.md.state import Constants, MDState, atoms_of_kept, concatenated, point_of, state_of
from fhi_al.md.system import MDSystem
from fhi_al.md.targets import Targets

# Atoms times steps whose random numbers are drawn at a time: 50 MB of them.
_DRAWN_AT_ONCE = 1_000_000


def advance(
    trajectories: Sequence[LiveTrajectory],
    systems: Sequence[MDSystem],
    n_steps: Sequence[int],
    forces: ForceFunction,
    known: Sequence[Array | None] | None = None,
    check_every: int = 1,
    steps_before: Sequence[int] | None = None,
) -> list[MDPoint | MDFailure]:
    """Advance trajectories; those that end sooner drop out, the others go on.

    Parameters
    ----------
    trajectories : sequence of LiveTrajectory
        Of any systems.  They stay where they are, but their random streams go on.
    systems : sequence of MDSystem
        One each.
    n_steps : sequence of int
        MD steps of each.
    forces : callable
        Called with the structures of all that still move, by their places among the trajectories.
    known : sequence of (n_atoms, 3) or None, optional
        Forces in eV/A where the trajectories are; they are not computed again where no stress is
        needed.
    check_every : int
        Steps between two looks at whether structures make sense, besides that at the end.  With 1,
        no structure that does not is ever handed to `forces`.
    steps_before : sequence of int, optional
        MD steps that each has done, by which schedules go; 0 if it is left out.

    Returns
    -------
    list
        For each where it has come to, or why it ended in a structure that makes no sense.
    """
    before = steps_before or [0] * len(trajectories)
    block = _Block(trajectories, systems, n_steps, forces, check_every, before)
    block.begin(known or [None] * len(trajectories))
    while block.groups:
        block.segment()
    return [block.ended[place] for place in range(len(trajectories))]


@dataclass(eq=False)
class _Group:
    """Trajectories under one scheme: their places in the move, and their arrays."""

    integrator: Integrator
    places: list[int]
    systems: list[MDSystem]
    constants: Constants
    state: MDState
    forces: Forces | None = None
    noise: Noise | None = None
    targets: Targets | None = None

    def structures(self) -> dict[int, MovingStructure]:
        """Where they are, by their places in the move."""
        ends = np.cumsum([len(system.structure) for system in self.systems])
        positions = np.split(self.state.positions, ends[:-1])
        return {
            place: MovingStructure(
                place, one.structure.numbers, own, cell, one.structure.pbc, one.needs_stress
            )
            for place, one, own, cell in zip(
                self.places, self.systems, positions, self.state.cells, strict=True
            )
        }

    def set_forces(self, evaluations: Mapping[int, Evaluation]) -> None:
        """Take what acts on them, by their places in the move."""
        mine = [evaluations[place] for place in self.places]
        stress: Any = None
        if self.integrator.needs_stress:
            stress = np.stack([one.required_stress() for one in mine])
        forces = np.concatenate([one.forces for one in mine])
        self.forces = Forces(np.where(self.constants.free, forces, 0.0), stress)

    def first_half(self, step: int) -> None:
        assert self.forces is not None and self.noise is not None
        self.state = self.integrator.first_half(
            self.state, self._constants_of(step), self.forces, self.noise.step(step)
        )

    def second_half(self, step: int) -> None:
        assert self.forces is not None and self.noise is not None
        self.state = self.integrator.second_half(
            self.state, self._constants_of(step), self.forces, self.noise.step(step)
        )

    def _constants_of(self, step: int) -> Constants:
        if self.targets is None:
            return self.constants
        return self.targets.constants(self.constants, step)

    def drop(self, places: set[int]) -> None:
        """Go on without some of them; at least one stays."""
        kept = [k for k, place in enumerate(self.places) if place not in places]
        if len(kept) == len(self.places):
            return
        owner = self.constants.owner
        atoms, _ = atoms_of_kept(owner, kept)
        self.state, self.constants = self.state.take(owner, kept), self.constants.take(kept)
        self.places = [self.places[k] for k in kept]
        self.systems = [self.systems[k] for k in kept]
        if self.noise is not None:
            self.noise = self.noise.take(atoms, kept)
        if self.targets is not None:
            self.targets = self.targets.take(kept)
        if self.forces is not None:
            stress = None if self.forces.stress is None else self.forces.stress[kept]
            self.forces = Forces(self.forces.forces[atoms], stress)


class _Block:
    """One move of all trajectories, see :func:`advance`."""

    def __init__(
        self,
        trajectories: Sequence[LiveTrajectory],
        systems: Sequence[MDSystem],
        n_steps: Sequence[int],
        forces: ForceFunction,
        check_every: int,
        steps_before: Sequence[int],
    ) -> None:
        self.ended: dict[int, MDPoint | MDFailure] = {}
        self.groups: list[_Group] = []
        self._trajectories, self._systems = trajectories, systems
        self._left = dict(enumerate(n_steps))
        self._done = dict(enumerate(steps_before))
        self._forces, self._check_every = forces, check_every
        self._streams: dict[int, Any] = {}

    def begin(self, known: Sequence[Array | None]) -> None:
        """Put the trajectories together, with the forces where they are."""
        alike: dict[int, list[int]] = {}
        for place, (system, n_steps) in enumerate(
            zip(self._systems, self._left.values(), strict=True)
        ):
            trajectory = self._trajectories[place]
            if is_ase_integrator(system.conditions.own_integrator):
                self.ended[place] = advance_alone(
                    trajectory, system, n_steps, place, self._forces, self._done[place]
                )
            elif n_steps < 1:
                self.ended[place] = trajectory.point
            else:
                alike.setdefault(id(system.integrator), []).append(place)
        for places in alike.values():
            systems = [self._systems[place] for place in places]
            integrator = systems[0].integrator
            points = [self._trajectories[place].point for place in places]
            state = state_of(points, dict(integrator.variables))
            constants = concatenated([system.constants for system in systems])
            self.groups.append(_Group(integrator, places, systems, constants, state))
        self._remove(self._structure_problems())
        given = {
            place: Evaluation(forces)
            for place, forces in enumerate(known)
            if forces is not None and not self._systems[place].needs_stress
        }
        self._evaluate(given)

    def segment(self) -> None:
        """All steps until the first trajectory comes to its end."""
        n_steps = min(self._left[place] for place in self._places())
        n_atoms = sum(len(group.constants.masses) for group in self.groups)
        n_steps = max(1, min(n_steps, _DRAWN_AT_ONCE // n_atoms))
        self._draw(n_steps)
        for step in range(n_steps):
            for group in self.groups:
                group.first_half(step)
            if (step + 1) % self._check_every == 0 or step == n_steps - 1:
                self._remove(self._structure_problems(), n_drawn=step + 1)
            self._evaluate({}, n_drawn=step + 1)
            for group in self.groups:
                group.second_half(step)
        for place in self._places():
            self._left[place] -= n_steps
            self._done[place] += n_steps
        self._end()

    def _places(self) -> Iterable[int]:
        return sorted(place for group in self.groups for place in group.places)

    def _draw(self, n_steps: int) -> None:
        for group in self.groups:
            noises = []
            for place, system in zip(group.places, group.systems, strict=True):
                generator = self._trajectories[place].generator
                self._streams[place] = generator.bit_generator.state
                noises.append(group.integrator.draw(generator, n_steps, system.constants))
            group.noise = Noise.together(noises)
            before = [self._done[place] for place in group.places]
            group.targets = Targets.of(group.systems, before, n_steps)

    def _rewind(self, place: int, n_steps: int) -> None:
        """Put a stream to where it would be if no more steps had been drawn."""
        if place not in self._streams:
            return
        generator, system = self._trajectories[place].generator, self._systems[place]
        generator.bit_generator.state = self._streams[place]
        if n_steps:
            system.integrator.draw(generator, n_steps, system.constants)

    def _structure_problems(self) -> dict[int, MDFailure]:
        return {
            group.places[k]: MDFailure(problem)
            for group in self.groups
            for k, problem in structure_problems(group.systems, group.state).items()
        }

    def _evaluate(self, given: Mapping[int, Evaluation], n_drawn: int = 0) -> None:
        """Compute the forces of all that still move, where they are not given."""
        structures: dict[int, MovingStructure] = {}
        for group in self.groups:
            structures |= group.structures()
        pending = {place: structures[place] for place in sorted(structures) if place not in given}
        answers = {**given, **(self._forces(pending) if pending else {})}
        failures = {p: one for p, one in answers.items() if isinstance(one, MDFailure)}
        evaluations = {p: one for p, one in answers.items() if isinstance(one, Evaluation)}
        failures |= not_finite(evaluations)
        self._remove(failures, n_drawn)
        for group in self.groups:
            group.set_forces(evaluations)

    def _remove(self, failures: Mapping[int, MDFailure], n_drawn: int = 0) -> None:
        for place, failure in failures.items():
            self.ended[place] = failure
            self._rewind(place, n_drawn)
        self._drop(set(failures))

    def _drop(self, places: set[int]) -> None:
        self.groups = [group for group in self.groups if set(group.places) - places]
        for group in self.groups:
            group.drop(places)

    def _end(self) -> None:
        """Take out those that have made all their steps."""
        done = {place for place in self._places() if self._left[place] == 0}
        for group in self.groups:
            if not done & set(group.places):
                continue
            hot = heat_problems(group.systems, group.state, group.constants)
            for k, place in enumerate(group.places):
                if place in done:
                    self.ended[place] = (
                        MDFailure(hot[k])
                        if k in hot
                        else point_of(group.state, group.constants.owner, k)
                    )
        self._streams.clear()
        self._drop(done)
