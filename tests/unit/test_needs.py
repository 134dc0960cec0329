"""What a command still needs, by where its run stands."""

from __future__ import annotations

import itertools

import pytest

from fhi_al.app.needs import Command, needs_of
from fhi_al.core.run_state import Stage

ALL, INITIAL, ACTIVE = Command.ALL, Command.INITIAL_DATASET, Command.ACTIVE_LEARNING
SAMPLING, LABELS, MODELS = "sampling", "labels", "models"
# Stage: what FHI_AL, FHI_AL-initial-ds and FHI_AL-al still need.
NEEDED = {
    None: ({SAMPLING, LABELS, MODELS}, {SAMPLING, LABELS, MODELS}, {LABELS, MODELS}),
    Stage.INITIAL_SAMPLING: (
        {SAMPLING, LABELS, MODELS},
        {SAMPLING, LABELS, MODELS},
        {LABELS, MODELS},
    ),
    Stage.INITIAL_CONVERGENCE: ({LABELS, MODELS}, {MODELS}, {LABELS, MODELS}),
    Stage.INITIAL_DONE: ({LABELS, MODELS}, set(), {LABELS, MODELS}),
    Stage.ACTIVE_LEARNING: ({LABELS, MODELS}, set(), {LABELS, MODELS}),
    Stage.FINAL_CONVERGENCE: ({LABELS, MODELS}, set(), {LABELS, MODELS}),
    Stage.FINAL_TEST: ({LABELS, MODELS}, set(), {LABELS, MODELS}),
    Stage.DONE: (set(), set(), set()),
}


def test_every_stage_is_thought_of() -> None:
    assert set(NEEDED) == {None, *Stage}


@pytest.mark.parametrize(
    ("stage", "command"), list(itertools.product(NEEDED, [ALL, INITIAL, ACTIVE]))
)
def test_a_command_needs_what_it_still_has_to_do(stage: Stage | None, command: Command) -> None:
    found = needs_of(command, stage, tests=True)
    expected = NEEDED[stage][(ALL, INITIAL, ACTIVE).index(command)]
    assert {name for name in (SAMPLING, LABELS, MODELS) if getattr(found, name)} == expected
    assert found.cluster == found.labels
    assert found.is_nothing == (not expected)


@pytest.mark.parametrize("stage", [Stage.FINAL_CONVERGENCE, Stage.FINAL_TEST])
def test_without_a_final_test_no_label_is_needed_any_more(stage: Stage) -> None:
    found = needs_of(ALL, stage, tests=False)
    assert found.models and not found.labels and not found.cluster
