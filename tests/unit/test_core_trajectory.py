"""The life of a trajectory: every pair of status and event, as one table."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from fhi_al.core.trajectory import (
    Checked,
    Event,
    Exploded,
    ImpossibleEvent,
    Instruction,
    LabelAccepted,
    LabelDiscarded,
    LabelTooHigh,
    Limits,
    Moved,
    Status,
    Trained,
    TrajectoryState,
    Withdrawn,
    after,
    block_length,
    reinstated,
    sanity_check_due,
)

RUNNING, WAITING, TRAINING, DONE = Status.RUNNING, Status.WAITING, Status.TRAINING, Status.DONE
RETIRED = Status.RETIRED
BACK = (Instruction.ROLL_BACK,)
KEEP = (Instruction.SET_RESTART_POINT,)

# The trajectory of the table has done 60 of 100 steps and trained 2 of 5 epochs, crossed at step
# 20 and went back seven times, last at step 40, once since its restart point was set.
LIMITS = Limits(max_md_steps=100, max_epochs=5, max_rollbacks_in_row=3)
MIDDLE = TrajectoryState(
    index=3,
    system=1,
    md=2,
    step=60,
    epochs=2,
    last_crossing=20,
    rollbacks=7,
    rollbacks_in_row=1,
    last_rollback=40,
)
BACK_AGAIN: dict[str, object] = {"rollbacks": 8, "rollbacks_in_row": 2}
TOO_OFTEN: dict[str, object] = {"rollbacks": 8, "rollbacks_in_row": 3}
GOOD_POINT: dict[str, object] = {"rollbacks_in_row": 0}

Changes = dict[str, object]
Row = tuple[Changes, tuple[Instruction, ...]]  # what changes, and what becomes of its point

# (status, event type) -> [(event, the state before differs by, (what changes, instructions))].
# An empty list: impossible.
TABLE: dict[tuple[Status, type], list[tuple[Event, Changes, Row]]] = {
    (RUNNING, Moved): [
        (Moved(10), {}, ({"step": 70}, ())),
        # Not done yet at the last step: the structure it arrived at still has to be checked.
        (Moved(40), {}, ({"step": 100}, ())),
    ],
    (RUNNING, Exploded): [
        (Exploded(10, "overlap"), {}, ({"step": 70, **BACK_AGAIN}, BACK)),
        (Exploded(0, "NaN"), {}, (BACK_AGAIN, BACK)),
        # The discarded steps count: it may not have any left.
        (Exploded(40, "overlap"), {}, ({"step": 100, **BACK_AGAIN, "status": DONE}, BACK)),
        # Too often from the same point: no use in going on, unless it is over anyway.
        (
            Exploded(10, "overlap"),
            {"rollbacks_in_row": 2},
            ({"step": 70, **TOO_OFTEN, "status": RETIRED}, BACK),
        ),
        (
            Exploded(40, "overlap"),
            {"rollbacks_in_row": 2},
            ({"step": 100, **TOO_OFTEN, "status": DONE}, BACK),
        ),
    ],
    (RUNNING, Checked): [
        (Checked(crosses=False), {}, ({}, ())),
        (Checked(crosses=True), {}, ({"status": WAITING, "last_crossing": 60}, ())),
        (Checked(crosses=False), {"step": 100}, ({"status": DONE}, ())),
        (
            Checked(crosses=True),
            {"step": 100},
            ({"status": WAITING, "last_crossing": 100}, ()),
        ),
    ],
    (RUNNING, LabelAccepted): [  # of a sanity check
        (LabelAccepted(to_validation=True), {}, (GOOD_POINT, KEEP)),
        (
            LabelAccepted(to_validation=False),
            {},
            ({"status": TRAINING, "epochs": 0, **GOOD_POINT}, KEEP),
        ),
        (
            LabelAccepted(to_validation=True),
            {"step": 100},
            ({"status": DONE, **GOOD_POINT}, KEEP),
        ),
        (
            LabelAccepted(to_validation=False),
            {"step": 100},
            ({"status": TRAINING, "epochs": 0, **GOOD_POINT}, KEEP),
        ),
    ],
    (RUNNING, LabelDiscarded): [  # of a sanity check
        (LabelDiscarded("SCF"), {}, (BACK_AGAIN, BACK)),
        (LabelDiscarded("SCF"), {"step": 100}, ({**BACK_AGAIN, "status": DONE}, BACK)),
    ],
    (RUNNING, Trained): [],
    (WAITING, Moved): [],
    (WAITING, Exploded): [],
    (WAITING, Checked): [],
    (WAITING, LabelAccepted): [
        (LabelAccepted(to_validation=True), {}, ({"status": RUNNING, **GOOD_POINT}, KEEP)),
        (
            LabelAccepted(to_validation=False),
            {},
            ({"status": TRAINING, "epochs": 0, **GOOD_POINT}, KEEP),
        ),
        (
            LabelAccepted(to_validation=True),
            {"step": 100},
            ({"status": DONE, **GOOD_POINT}, KEEP),
        ),
        # The members still learn from the last point of a trajectory.
        (
            LabelAccepted(to_validation=False),
            {"step": 100},
            ({"status": TRAINING, "epochs": 0, **GOOD_POINT}, KEEP),
        ),
    ],
    (WAITING, LabelDiscarded): [
        (LabelDiscarded("SCF"), {}, ({"status": RUNNING, **BACK_AGAIN}, BACK)),
        (LabelDiscarded("SCF"), {"step": 100}, ({"status": DONE, **BACK_AGAIN}, BACK)),
        (
            LabelDiscarded("SCF"),
            {"rollbacks_in_row": 2},
            ({"status": RETIRED, **TOO_OFTEN}, BACK),
        ),
    ],
    (WAITING, Trained): [],
    (TRAINING, Moved): [],
    (TRAINING, Exploded): [],
    (TRAINING, Checked): [],
    (TRAINING, LabelAccepted): [],
    (TRAINING, LabelDiscarded): [],
    (TRAINING, Trained): [
        (Trained(2), {}, ({"epochs": 4}, ())),
        (Trained(3), {}, ({"status": RUNNING, "epochs": 0}, ())),
        (Trained(4), {}, ({"status": RUNNING, "epochs": 0}, ())),
        (Trained(2), {"step": 100}, ({"epochs": 4}, ())),
        (Trained(3), {"step": 100}, ({"status": DONE, "epochs": 0}, ())),
    ],
    (DONE, Moved): [],
    (DONE, Exploded): [],
    (DONE, Checked): [],
    (DONE, LabelAccepted): [  # of a sanity check in its last block
        (LabelAccepted(to_validation=True), {"step": 100}, ({}, ())),
        (LabelAccepted(to_validation=False), {"step": 100}, ({}, ())),
    ],
    (DONE, LabelDiscarded): [(LabelDiscarded("SCF"), {"step": 100}, ({}, ()))],
    (DONE, Trained): [],
    **{(RETIRED, kind): [] for kind in get_args(Event)},
    **{(status, Withdrawn): [] for status in Status},
}
TABLE[WAITING, Withdrawn] = [
    (Withdrawn(), {}, ({"status": RUNNING}, ())),
    (Withdrawn(), {"step": 100}, ({"status": DONE}, ())),
]
# A sanity check that comes when the trajectory is elsewhere: its restart point stays.
for status in Status:
    training = {"status": TRAINING, "epochs": 0} if status is RUNNING else {}
    TABLE[status, LabelAccepted] += [
        (LabelAccepted(to_validation=True, is_here=False), {}, ({}, ())),
        (LabelAccepted(to_validation=False, is_here=False), {}, (training, ())),
    ]
    TABLE[status, LabelDiscarded] += [(LabelDiscarded("SCF", is_here=False), {}, ({}, ()))]
# A label that MD must not go on from; where the trajectory waits for another one, that one decides.
HIGH = LabelTooHigh(to_validation=False, reason="high")
HIGH_TO_VALIDATE = LabelTooHigh(to_validation=True, reason="high")
LEARN: Changes = {"status": TRAINING, "epochs": 0, **BACK_AGAIN}
for status in (RUNNING, WAITING):
    TABLE[status, LabelTooHigh] = [
        (HIGH, {}, (LEARN, BACK)),
        (HIGH, {"step": 100}, (LEARN, BACK)),
        (
            HIGH,
            {"rollbacks_in_row": 2},
            ({**TOO_OFTEN, "status": RETIRED}, BACK),
        ),
        (HIGH_TO_VALIDATE, {}, ({**BACK_AGAIN, "status": RUNNING}, BACK)),
        (HIGH_TO_VALIDATE, {"step": 100}, ({**BACK_AGAIN, "status": DONE}, BACK)),
    ]
TABLE[RUNNING, LabelTooHigh] += [(replace(HIGH, is_here=False), {}, (LEARN, BACK))]
TABLE[WAITING, LabelTooHigh] += [(replace(HIGH, is_here=False), {}, ({}, ()))]
TABLE[TRAINING, LabelTooHigh] = [
    (replace(HIGH, is_here=False), {}, (BACK_AGAIN, BACK)),
    (replace(HIGH_TO_VALIDATE, is_here=False), {}, (BACK_AGAIN, BACK)),
]
for status in (DONE, RETIRED):
    TABLE[status, LabelTooHigh] = [
        (HIGH, {"step": 100}, ({}, ())),
        (HIGH_TO_VALIDATE, {"step": 100}, ({}, ())),
    ]
IMPOSSIBLE = [
    (status, kind)
    for (status, kind), rows in TABLE.items()
    if all(getattr(event, "is_here", True) is False for event, _, _ in rows)
]
ROWS = [
    (status, event, before, row)
    for (status, _), rows in TABLE.items()
    for event, before, row in rows
]
EXAMPLES: dict[type, Event] = {
    Moved: Moved(10),
    Exploded: Exploded(10, "overlap"),
    Checked: Checked(crosses=True),
    LabelAccepted: LabelAccepted(to_validation=False),
    LabelTooHigh: HIGH,
    LabelDiscarded: LabelDiscarded("SCF"),
    Withdrawn: Withdrawn(),
    Trained: Trained(1),
}


def test_the_table_holds_every_pair() -> None:
    assert set(TABLE) == set(product(Status, get_args(Event)))
    assert set(EXAMPLES) == set(get_args(Event))
    for (_, kind), rows in TABLE.items():
        assert all(type(event) is kind for event, _, _ in rows)


@pytest.mark.parametrize(("status", "event", "before", "row"), ROWS)
def test_possible_event(status: Status, event: Event, before: Changes, row: Row) -> None:
    state = replace(MIDDLE, status=status, **before)  # type: ignore[arg-type]
    changes, instructions = row
    expected = replace(state, **changes)  # type: ignore[arg-type]
    if Instruction.ROLL_BACK in instructions:  # it has left all structures up to this step
        expected = replace(expected, last_rollback=expected.step)
    assert after(state, event, LIMITS) == (expected, instructions)


@pytest.mark.parametrize(("status", "kind"), IMPOSSIBLE)
def test_impossible_event(status: Status, kind: type) -> None:
    with pytest.raises(ImpossibleEvent, match=f"trajectory 3 is {status}: {kind.__name__}"):
        after(replace(MIDDLE, status=status), EXAMPLES[kind], LIMITS)


def test_without_a_step_limit_a_trajectory_is_never_done() -> None:
    limits = Limits(max_md_steps=float("inf"), max_epochs=1, max_rollbacks_in_row=1)
    state = replace(MIDDLE, step=10**9)
    assert after(state, Checked(crosses=False), limits) == (state, ())
    assert block_length(state, 25, limits) == 25


def test_a_raised_limit_gives_a_retired_trajectory_another_chance() -> None:
    retired = replace(MIDDLE, status=RETIRED, rollbacks_in_row=3)
    assert reinstated(retired, LIMITS) == retired
    more = replace(LIMITS, max_rollbacks_in_row=4)
    assert reinstated(retired, more) == replace(retired, status=RUNNING)
    assert reinstated(replace(retired, status=DONE), more).status is DONE


@pytest.mark.parametrize("status", [RUNNING, WAITING, TRAINING, DONE])
def test_under_the_same_limits_a_trajectory_goes_on_as_it_was(status: Status) -> None:
    state = replace(MIDDLE, status=status)
    assert reinstated(state, LIMITS) == state


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_trajectory_that_has_trained_more_than_a_lowered_limit_leaves_training(
    epochs: int,
) -> None:
    training = replace(MIDDLE, status=TRAINING, epochs=epochs)
    fewer = replace(LIMITS, max_epochs=2)
    assert reinstated(training, fewer) == replace(training, status=RUNNING, epochs=0)
    less = replace(fewer, max_md_steps=50)
    assert reinstated(training, less) == replace(training, status=DONE, epochs=0)
    assert reinstated(replace(training, epochs=1), less).status is TRAINING


@pytest.mark.parametrize("max_md_steps", [59, 60])
def test_a_trajectory_beyond_a_lowered_limit_of_steps_is_done(max_md_steps: int) -> None:
    less = replace(LIMITS, max_md_steps=max_md_steps)
    assert reinstated(MIDDLE, less) == replace(MIDDLE, status=DONE)
    # Its label, which is paid for, comes first.
    assert reinstated(replace(MIDDLE, status=WAITING), less).status is WAITING


@pytest.mark.parametrize(
    ("step", "length"), [(0, 30), (60, 30), (70, 30), (71, 29), (99, 1), (100, 0), (120, 0)]
)
def test_the_last_block_is_what_is_left(step: int, length: int) -> None:
    assert block_length(replace(MIDDLE, step=step), 30, LIMITS) == length


@pytest.mark.parametrize(
    ("before", "now", "due"),
    [(0, 9, False), (0, 10, True), (9, 10, True), (10, 19, False), (10, 20, True), (15, 45, True)],
)
def test_a_sanity_check_is_due_when_a_multiple_is_reached(before: int, now: int, due: bool) -> None:
    assert sanity_check_due(before, now, sanity_skip=10) is due


def test_sanity_checks_come_at_their_rate_whatever_the_block_length() -> None:
    for block in (1, 3, 7, 10):
        steps = range(0, 2100, block)
        checks = sum(sanity_check_due(step, step + block, 50) for step in steps)
        assert checks == (steps[-1] + block) // 50
