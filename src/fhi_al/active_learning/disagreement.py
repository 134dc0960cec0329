"""How far the members disagree on a structure, by forces and stress, and what they mean there.

Decides whether that is too far; asks for no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fhi_al.active_learning.options import Criterion
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.core.run_state import Vector
from fhi_al.core.structure import Array, Structure
from fhi_al.core.threshold import crosses
from fhi_al.core.uncertainty import stress_spread
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.models.interface import Prediction
from fhi_al.report import clock
from fhi_al.report.clock import Clock


@dataclass(frozen=True)
class Spread:
    """Uncertainty of the forces in eV/A, and of the stress in eV/A^3; None where there is none."""

    forces: float
    stress: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether both are numbers."""
        return bool(np.isfinite(self.forces)) and (
            self.stress is None or bool(np.isfinite(self.stress))
        )


@dataclass(frozen=True, eq=False)
class Disagreement:
    """The members' disagreement on structures.

    Parameters
    ----------
    dynamics : Dynamics
    criterion : Criterion
    clock : Clock
    """

    dynamics: Dynamics
    criterion: Criterion
    clock: Clock

    def is_too_large(self, spread: Spread, limit: float | None) -> bool:
        """Whether a structure needs a label: its forces cross their limit, or its stress its own.

        Parameters
        ----------
        spread : Spread
        limit : float or None
            Of the forces' uncertainty in eV/A; None while warming up.
        """
        if crosses(spread.forces, limit):
            return True
        return spread.stress is not None and crosses(spread.stress, self.criterion.stress_limit)

    def at(self, system: int, live: LiveTrajectory) -> Spread:
        """Of a trajectory's point, at which every member's forces are known."""
        assert live.forces is not None
        uncertainty = self.criterion.uncertainty(live.forces)
        if not self._has_stress(system) or not np.isfinite(uncertainty):
            return Spread(uncertainty)
        structure = self._structure(system, live.point.positions, live.point.cell)
        with self.clock.section(clock.MD):
            (found,) = self.dynamics.predictor.predict([structure], stress=True)
        assert found.stress is not None
        return Spread(uncertainty, stress_spread(found.stress))

    def on(self, systems: Sequence[int], points: Sequence[tuple[Array, Array]]) -> list[Spread]:
        """Of structures, as the members are now.

        Parameters
        ----------
        systems : sequence of int
        points : sequence of (positions, cell)
            In A.
        """
        structures = [
            self._structure(system, positions, cell)
            for system, (positions, cell) in zip(systems, points, strict=True)
        ]
        # Only what decides is predicted.
        with_stress = self.criterion.stress_limit is not None
        with self.clock.section(clock.MD):
            predicted = self.dynamics.predictor.predict(structures, stress=with_stress)
        return [self._spread(each, system) for each, system in zip(predicted, systems, strict=True)]

    def means(
        self, system: int, live: LiveTrajectory
    ) -> tuple[tuple[Vector, ...], tuple[Vector, ...] | None]:
        """Mean forces and stress, whose errors will be measured.

        In the precision of training, whatever moves the atoms.
        """
        forces, predictor = live.forces, self.dynamics.predictor
        assert forces is not None
        stress, with_stress = None, self._has_stress(system)
        if with_stress or predictor.as_trained is not predictor:
            structure = self._structure(system, live.point.positions, live.point.cell)
            with self.clock.section(clock.MD):
                (found,) = predictor.as_trained.predict([structure], stress=with_stress)
            stress = found.stress
            if predictor.as_trained is not predictor:
                forces = found.forces
        rows = _rows(forces.mean(axis=0))
        return rows, None if stress is None else _rows(stress.mean(axis=0))

    def _has_stress(self, system: int) -> bool:
        """Whether labels of a system have a stress: a molecule's have none in any run."""
        return self.criterion.with_stress and self.dynamics.systems[system].pbc

    def _spread(self, found: Prediction, system: int) -> Spread:
        stress = None
        if found.stress is not None and self._has_stress(system):
            stress = stress_spread(found.stress)
        return Spread(self.criterion.uncertainty(found.forces), stress)

    def _structure(self, system: int, positions: Array, cell: Array) -> Structure:
        return replace(self.dynamics.systems[system], positions=positions, cell=cell)


def _rows(array: Array) -> tuple[Vector, ...]:
    return tuple((x, y, z) for x, y, z in array.tolist())
