"""The life of one trajectory: (state, event) -> (state, instructions).  Pure: standard library.

Nothing here acts: the loop feeds events in and carries out the instructions, which say what becomes
of the trajectory in phase space.  Which labels are asked for, and which sets they join, is not
decided here: events tell it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Status(StrEnum):
    """What a trajectory is doing."""

    RUNNING = "running"
    WAITING = "waiting"
    TRAINING = "training"
    DONE = "done"
    RETIRED = "retired"

    @property
    def is_over(self) -> bool:
        """Whether the trajectory moves no more."""
        return self in (Status.DONE, Status.RETIRED)


class Instruction(StrEnum):
    """What becomes of the trajectory in phase space after a transition."""

    SET_RESTART_POINT = "set restart point"
    ROLL_BACK = "go back to the restart point with new velocities"


@dataclass(frozen=True)
class TrajectoryState:
    """Everything decisions about a trajectory depend on.

    Parameters
    ----------
    index, system, md : int
        Of the trajectory, of its system and of its MD settings.
    status : Status
    step : int
        MD steps done, discarded ones included.
    epochs : int
        Epochs trained since it entered TRAINING.
    last_crossing : int
        Step of the last crossing of the threshold (0 before the first).
    rollbacks, rollbacks_in_row : int
        How often it had to go back to its restart point: in all, and since that point was set.
    start : int
        Of its system's starting geometries, the one it began at.
    last_rollback : int
        In active learning: step at which it last went back, and so left all structures up to there
        (0 before the first).
    """

    index: int
    system: int = 0
    md: int = 0
    status: Status = Status.RUNNING
    step: int = 0
    epochs: int = 0
    last_crossing: int = 0
    rollbacks: int = 0
    rollbacks_in_row: int = 0
    start: int = 0
    last_rollback: int = 0


@dataclass(frozen=True)
class Limits:
    """When a trajectory changes its status.

    Parameters
    ----------
    max_md_steps : float
        MD steps in all; inf for no limit.
    max_epochs : int
        Epochs of one stay in TRAINING.
    max_rollbacks_in_row : int
        Returns to the same restart point after which it is retired.
    """

    max_md_steps: float
    max_epochs: int
    max_rollbacks_in_row: int


@dataclass(frozen=True)
class Moved:
    """The trajectory advanced by ``n_steps`` MD steps."""

    n_steps: int


@dataclass(frozen=True)
class Exploded:
    """The block of ``n_steps`` ended in a structure that makes no sense."""

    n_steps: int
    reason: str


@dataclass(frozen=True)
class Checked:
    """The uncertainty was estimated; ``crosses`` says whether it is over the threshold."""

    crosses: bool


@dataclass(frozen=True)
class LabelAccepted:
    """A point is to join the sets: to validation or else to training.

    ``is_here`` is False if the trajectory has moved on or gone back since the request, which only
    those with a sanity check do.
    """

    to_validation: bool
    is_here: bool = True


@dataclass(frozen=True)
class LabelTooHigh:
    """A point is to join the sets as above, but MD from it would show nothing worth a label.

    Not of a point that the trajectory has left by going back: what was too high is behind it.
    """

    to_validation: bool
    reason: str
    is_here: bool = True


@dataclass(frozen=True)
class LabelDiscarded:
    """The reference engine gave nothing usable for the point; ``is_here`` as above."""

    reason: str
    is_here: bool = True


@dataclass(frozen=True)
class Withdrawn:
    """The label is not needed any more: the ensemble agrees on the point by now."""


@dataclass(frozen=True)
class Trained:
    """The members were trained ``n_epochs`` epochs on behalf of this trajectory."""

    n_epochs: int


Event = (
    Moved | Exploded | Checked | LabelAccepted | LabelTooHigh | LabelDiscarded | Withdrawn | Trained
)
Transition = tuple[TrajectoryState, tuple[Instruction, ...]]


class ImpossibleEvent(ValueError):
    """An event that cannot happen in this state: a fault of the loop, not of the user."""


def after(state: TrajectoryState, event: Event, limits: Limits) -> Transition:
    """What an event does to a trajectory.

    Raises
    ------
    ImpossibleEvent
        If the event cannot happen in the trajectory's status.
    """
    match state.status, event:
        case Status.RUNNING, Moved(n_steps):
            return replace(state, step=state.step + n_steps), ()
        case Status.RUNNING, Exploded(n_steps):
            moved = replace(state, step=state.step + n_steps)
            return _roll_back(moved, limits)
        case Status.RUNNING, Checked(crosses):
            if not crosses:
                return _on_the_move(state, limits), ()
            return replace(state, status=Status.WAITING, last_crossing=state.step), ()
        case _, LabelAccepted(to_validation, is_here=False):
            # Its place in the sets is earned; the point where the trajectory is now has none yet.
            if state.status is Status.RUNNING and not to_validation:
                state = replace(state, status=Status.TRAINING, epochs=0)
            return state, ()
        case (
            (Status.RUNNING, LabelTooHigh(to_validation))
            | (Status.WAITING, LabelTooHigh(to_validation, is_here=True))
            | (Status.TRAINING, LabelTooHigh(to_validation, is_here=False))
        ):
            return _learn_and_roll_back(state, to_validation, limits)
        case (Status.DONE | Status.RETIRED, LabelTooHigh()) | (
            Status.WAITING,
            LabelTooHigh(is_here=False),
        ):
            # It is over, or waits for another label, which decides.
            return state, ()
        case _, LabelDiscarded(is_here=False):
            return state, ()
        case Status.WAITING, Withdrawn():
            return _on_the_move(state, limits), ()
        case (Status.WAITING | Status.RUNNING, LabelAccepted(to_validation)):
            # RUNNING: a sanity check whose true error earned the point a place in the sets.
            if to_validation:
                moving = replace(_on_the_move(state, limits), rollbacks_in_row=0)
                return moving, (Instruction.SET_RESTART_POINT,)
            training = replace(state, status=Status.TRAINING, epochs=0, rollbacks_in_row=0)
            return training, (Instruction.SET_RESTART_POINT,)
        case (Status.WAITING | Status.RUNNING, LabelDiscarded()):
            return _roll_back(state, limits)
        case Status.DONE, LabelAccepted() | LabelDiscarded():
            # The sanity check of the last block: its point may join, the trajectory stays done.
            return state, ()
        case Status.TRAINING, Trained(n_epochs):
            trained = replace(state, epochs=state.epochs + n_epochs)
            if trained.epochs < limits.max_epochs:
                return trained, ()
            return replace(_on_the_move(trained, limits), epochs=0), ()
    raise ImpossibleEvent(f"trajectory {state.index} is {state.status}: {event} cannot happen")


def _on_the_move(state: TrajectoryState, limits: Limits) -> TrajectoryState:
    over = state.step >= limits.max_md_steps
    return replace(state, status=Status.DONE if over else Status.RUNNING)


def _roll_back(state: TrajectoryState, limits: Limits) -> Transition:
    back = replace(
        state,
        rollbacks=state.rollbacks + 1,
        rollbacks_in_row=state.rollbacks_in_row + 1,
        last_rollback=state.step,
    )
    moving = _on_the_move(back, limits)
    if moving.status is Status.RUNNING and _fails_too_often(moving, limits):
        moving = replace(moving, status=Status.RETIRED)
    return moving, (Instruction.ROLL_BACK,)


def _learn_and_roll_back(state: TrajectoryState, to_validation: bool, limits: Limits) -> Transition:
    back, instructions = _roll_back(state, limits)
    if back.status is not Status.RETIRED:
        if state.status is Status.TRAINING:
            back = replace(back, status=Status.TRAINING)
        elif not to_validation:
            back = replace(back, status=Status.TRAINING, epochs=0)
    return back, instructions


def _fails_too_often(state: TrajectoryState, limits: Limits) -> bool:
    return state.rollbacks_in_row >= limits.max_rollbacks_in_row


def reinstated(state: TrajectoryState, limits: Limits) -> TrajectoryState:
    """The trajectory as a run that goes on takes it up, perhaps under other limits than before.

    One that was retired under a lower ``max_rollbacks_in_row`` runs again; one that has trained
    ``max_epochs`` or more leaves training; one that runs beyond ``max_md_steps`` is done.
    """
    match state.status:
        case Status.RETIRED if not _fails_too_often(state, limits):
            return _on_the_move(state, limits)
        case Status.TRAINING if state.epochs >= limits.max_epochs:
            return replace(_on_the_move(state, limits), epochs=0)
        case Status.RUNNING:
            return _on_the_move(state, limits)
    return state


def block_length(state: TrajectoryState, skip_step: int, limits: Limits) -> int:
    """MD steps of the next block: ``skip_step``, or what is left of max_MD_steps, if anything."""
    return int(max(0, min(skip_step, limits.max_md_steps - state.step)))


def sanity_check_due(step_before: int, step_now: int, sanity_skip: int) -> bool:
    """Whether a multiple of ``sanity_skip`` MD steps was reached in the block just done."""
    return step_now // sanity_skip > step_before // sanity_skip
