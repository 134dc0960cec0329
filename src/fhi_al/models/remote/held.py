"""What another rank has been sent of labels, members and weights, and what it must be sent.

Sends nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fhi_al.core.label import Label
from fhi_al.models.interface import Geometry
from fhi_al.models.member import Member
from fhi_al.models.remote.messages import (
    MemberUpdate,
    PredictionRequest,
    PredictionTask,
    SentGeometry,
    TrainingRequest,
    TrainingResult,
    TrainingSetup,
)
from fhi_al.models.state_bytes import as_arrays, as_tensors, weights_as_arrays


@dataclass
class HeldMember:
    """What a rank holds of one member.

    Parameters
    ----------
    changes : int or None
        :attr:`Member.changes` of the state it has; None if that is unknown.
    n_training, n_validation : int
        Labels in its sets.  Sets only grow, so these are the first ones of the member's.
    """

    changes: int | None = None
    n_training: int = 0
    n_validation: int = 0


@dataclass
class OtherRank:
    """Another training rank, as rank 0 knows it: its setup, and what it has been sent."""

    setup: TrainingSetup
    is_set_up: bool = False
    held: dict[int, HeldMember] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    # (precision, member) -> version of the weights to predict with.
    weights: dict[tuple[str, int], int] = field(default_factory=dict)

    def forget(self) -> None:
        """The rank has lost what it had: it must be set up again."""
        self.is_set_up = False
        self.held, self.labels, self.weights = {}, set(), {}

    def training_request(
        self, training_round: int, members: Sequence[Member], n_epochs: int
    ) -> TrainingRequest:
        """What the rank must be sent to train members; counts as sent from here on."""
        new: dict[str, Label] = {}
        updates = []
        for member in members:
            held = self.held.setdefault(member.index, HeldMember())
            training = member.training[held.n_training :]
            validation = member.validation[held.n_validation :]
            new |= {one.key: one for one in (*training, *validation) if one.key not in self.labels}
            updates.append(
                MemberUpdate(
                    member.index,
                    tuple(label.key for label in training),
                    tuple(label.key for label in validation),
                    None if held.changes == member.changes else as_arrays(member.state()),
                )
            )
            held.n_training, held.n_validation = len(member.training), len(member.validation)
            held.changes = None  # until the rank has answered
        self.labels |= new.keys()
        return TrainingRequest(training_round, n_epochs, tuple(new.values()), tuple(updates))

    def load_states(self, result: TrainingResult, members: Sequence[Member]) -> None:
        """Load what the rank has made of members; their training round must have ended."""
        last = {record.member: record.errors for record in result.records}
        for member in members:
            if member.index in result.states:
                member.load_state(as_tensors(result.states[member.index]), last[member.index])
                self.held[member.index].changes = member.changes

    def prediction_request(
        self,
        geometries: Sequence[Geometry],
        tasks: Sequence[PredictionTask],
        members: Sequence[Member],
        dtype: str,
        stress: bool,
    ) -> PredictionRequest:
        """What the rank must be sent for its tasks; counts as sent from here on."""
        first, last = min(task.first for task in tasks), max(task.last for task in tasks)
        weights = {}
        for index in {task.member for task in tasks}:
            member = members[index]
            if self.weights.get((dtype, index)) != member.version:
                weights[index] = weights_as_arrays(member.inference_model.weights())
                self.weights[dtype, index] = member.version
        return PredictionRequest(
            tuple(SentGeometry.of(geometry) for geometry in geometries[first:last]),
            tuple(PredictionTask(t.member, t.first - first, t.last - first) for t in tasks),
            weights,
            dtype,
            stress,
        )
