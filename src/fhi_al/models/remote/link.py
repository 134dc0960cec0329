"""Rank 0's view of one other training rank: what it holds of the members, what it must be sent.

Sends nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fhi_al.core.label import Label
from fhi_al.models.member import Member
from fhi_al.models.remote.messages import MemberOrder, TrainingAnswer, TrainingOrder, TrainingSetup
from fhi_al.models.state_bytes import as_arrays, as_tensors


@dataclass
class _Held:
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
class TrainingLink:
    """One other training rank, as rank 0 sees it.

    Parameters
    ----------
    setup : TrainingSetup
        What the rank builds its members from.
    is_set_up : bool
        It has been told to.
    """

    setup: TrainingSetup
    is_set_up: bool = False
    _held: dict[int, _Held] = field(default_factory=dict)
    _labels: set[str] = field(default_factory=set)

    def order(self, training_round: int, members: Sequence[Member], n_epochs: int) -> TrainingOrder:
        """What the rank must be sent to train members; counts as sent from here on."""
        labels: list[Label] = []
        orders = []
        for member in members:
            held = self._held.setdefault(member.index, _Held())
            training = member.training[held.n_training :]
            validation = member.validation[held.n_validation :]
            labels += self._unknown([*training, *validation])
            orders.append(
                MemberOrder(
                    member.index,
                    tuple(label.key for label in training),
                    tuple(label.key for label in validation),
                    None if held.changes == member.changes else as_arrays(member.state()),
                )
            )
            held.n_training, held.n_validation = len(member.training), len(member.validation)
            held.changes = None  # until the rank has answered
        return TrainingOrder(training_round, n_epochs, tuple(labels), tuple(orders))

    def take(self, answer: TrainingAnswer, members: Sequence[Member]) -> None:
        """Load what the rank has made of members; their visit must have ended."""
        last = {record.member: record.errors for record in answer.records}
        for member in members:
            if member.index in answer.states:
                member.load_state(as_tensors(answer.states[member.index]), last[member.index])
                self._held[member.index].changes = member.changes

    def forget(self) -> None:
        """The rank has lost what it had: it must be set up again."""
        self.is_set_up = False
        self._held.clear()
        self._labels.clear()

    def _unknown(self, labels: Sequence[Label]) -> list[Label]:
        new = {label.key: label for label in labels if label.key not in self._labels}
        self._labels |= new.keys()
        return list(new.values())
