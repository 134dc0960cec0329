"""The test of the final models where there is little to test with."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models_parts import ensemble
from mpi4py import MPI

from fhi_al.active_learning.excess_energy import ExcessEnergy
from fhi_al.active_learning.final_test import FinalTest
from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.options import SplitOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.core.assignment import Assignment
from fhi_al.core.plausible import GeometryLimits, LabelLimits
from fhi_al.core.structure import structure
from fhi_al.core.uncertainty import MEASURES
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.crash_trace import CallRecord
from fhi_al.labels.engine_service import EngineService
from fhi_al.labels.serial_queue import SerialLabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.labels.validation import LabelValidator
from fhi_al.md.conditions import MDConditions
from fhi_al.md.system import MDSystem
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal

pytestmark = pytest.mark.real

WATER = structure([8, 1, 1], np.array([[0, 0, 0.12], [0, 0.76, -0.47], [0, -0.76, -0.47]]))
CONDITIONS = MDConditions("Langevin", 300.0, 0.5, 0.01, 100.0, 0.01, 1)


@pytest.fixture
def progress() -> Progress:
    return Progress()


@pytest.fixture
def final_test(progress: Progress, tmp_path: Path) -> FinalTest:
    """Of models without any label."""
    calls = CallRecord(tmp_path)
    engines = EngineService(MPI.COMM_WORLD, [tblite_spec("GFN2-xTB", WATER)], calls.traces)
    store = LabelStore(tmp_path / "labels.jsonl")
    validator = LabelValidator(
        [WATER], store, limits=LabelLimits(100.0, 50.0), e0_sums=[None], max_failures=3
    )
    made = ensemble([])
    md_system = MDSystem(WATER, CONDITIONS, GeometryLimits())
    return FinalTest(
        progress,
        Dynamics((WATER,), lambda system, md: md_system, made),
        SerialLabelQueue(validator, engines, calls, timed=nullcontext),
        HeldOut(progress, made.members, store, SplitOptions(0.1, 0.0)),
        ExcessEnergy(None, lambda system: None, lambda system, md: md_system),
        MEASURES["max_atomic_sd"],
        nullcontext,
        Journal(tmp_path / "journal.jsonl"),
        Clock(),
    )


def test_a_system_without_labels_begins_at_its_geometry(
    final_test: FinalTest, progress: Progress
) -> None:
    final_test.begin(3, [Assignment(0, 0), Assignment(0, 0)])
    assert progress.state.final_test is not None and progress.state.final_test.n_labels == 3
    first, second = progress.live
    for live in (first, second):
        np.testing.assert_array_equal(live.point.positions, WATER.positions)
    assert not np.array_equal(first.point.momenta, second.point.momenta)


def test_without_structures_to_choose_from_the_test_ends_and_says_so(
    final_test: FinalTest, progress: Progress
) -> None:
    final_test.begin(3, [Assignment(0, 0)])
    assert progress.state.final_test is not None
    # Five blocks, each of which ended in nonsense: as many as count as useless.
    after = {"blocks": 5, "failures": 5}
    progress.update(final_test=replace(progress.state.final_test, **after))
    errors = final_test.run([0, 1])
    assert str(errors) == (
        "no structure was labelled; their MD of 0.1 ps ended 5 times in a structure that makes no"
        " sense"
    )
    assert progress.state.final_test.has_chosen and not progress.state.test
