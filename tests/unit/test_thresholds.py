"""Thresholds of a run and the calibration: what counts, what is used, what is saved."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_parts import some_label

from fhi_al.active_learning.options import Criterion
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.saved_state import run_state
from fhi_al.active_learning.thresholds import Thresholds, describe
from fhi_al.active_learning.upgrades import upgraded
from fhi_al.app.options import criterion
from fhi_al.core.calibration import Pairs
from fhi_al.core.label import Label
from fhi_al.core.run_state import (
    ActiveLearningState,
    Frame,
    PendingLabel,
    RunState,
    Stage,
    SweepStage,
)
from fhi_al.core.threshold import MovingAverage
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.report.calibration_figure import draw_calibration
from fhi_al.report.journal import Journal
from fhi_al.report.tables import Tables
from fhi_al.settings import read_settings
from fhi_al.storage.checkpoint import Snapshot

SETTINGS = """ACTIVE_LEARNING:
  reference_engine: tblite
  max_set_size: 50
  threshold_warmup: 1
  analysis: true
"""
CALIBRATED = SETTINGS + "  calibrate: true\n  calibrated_threshold: 0.3\n  calibration_warmup: 10\n"


def active_state(**changes: Any) -> ActiveLearningState:
    state = ActiveLearningState(
        sweep=3,
        stage=SweepStage.LABEL,
        pending=(),
        next_round=0,
        epochs=0,
        trajectories=(TrajectoryState(0),),
        uncertainties=(MovingAverage((0.1, 0.3), 2),),
        true_errors=(MovingAverage(),),
        n_points=0,
        n_validation=0,
        n_test=0,
        n_duplicates=0,
        n_withdrawn=0,
        rescored=0,
        mae_forces=None,
        mae_to_reach=None,
        plateaus=(),
        pairs=(Pairs(),),
    )
    return dataclasses.replace(state, **changes)


@dataclasses.dataclass
class Parts:
    """What decides on a threshold: the criterion of some settings, the state, the journal."""

    criterion: Criterion
    progress: Progress
    journal: Journal

    def thresholds(self) -> Thresholds:
        return Thresholds(self.progress, self.criterion, self.journal, lambda system: None)


def parts_of(folder: Path, al: str, state: ActiveLearningState | None = None) -> Parts:
    folder.mkdir(exist_ok=True)
    (folder / "mace_settings.yaml").write_text("GENERAL:\n  name_exp: x\n")
    (folder / "active_learning_settings.yaml").write_text(al)
    return Parts(
        criterion(read_settings(folder).al),
        Progress(RunState(stage=Stage.ACTIVE_LEARNING, active=state or active_state())),
        Journal(folder / "restart" / "journal.jsonl"),
    )


def labelled(
    uncertainty: float, error: float, step: int = 10, *, sanity: bool = True
) -> tuple[PendingLabel, Label]:
    """A structure whose worst atom is wrong by ``error`` in each component, the others less."""
    label = some_label(step)
    wrong = label.forces + error * np.array([0.1, 1.0, 0.5, 0.0])[:, None]
    frame = Frame(step, (), ())
    forces = tuple((x, y, z) for x, y, z in wrong.tolist())
    return PendingLabel(0, frame, 0, uncertainty, 0.2, not sanity, sanity, forces), label


def feed(taker: Thresholds, ratios: list[float], first: int = 0) -> None:
    for n, ratio in enumerate(ratios, start=first):
        uncertainty = 0.05 + 0.01 * (n % 7)
        taker.compare(*labelled(uncertainty, ratio * uncertainty, 10 * n))


RATIOS = [1.8, 2.2, 2.0, 1.9, 2.1, 2.0, 1.7, 2.3, 2.0, 2.0]
SCALE = float(np.sqrt(np.mean(np.square(RATIOS))))


def test_the_calibrated_uncertainty_is_compared_once_there_are_enough_pairs(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, CALIBRATED)
    taker = parts.thresholds()
    feed(taker, RATIOS[:9])
    assert taker.limit(0) == pytest.approx(0.2)  # the moving average of 0.1 and 0.3
    feed(taker, RATIOS[9:], first=9)
    # 0.3 eV/A of true error are 0.3 / scale of uncertainty.
    assert taker.limit(0) == pytest.approx(0.3 / SCALE, rel=1e-9)
    assert taker.observe(0, 5.0) == pytest.approx(0.3 / SCALE, rel=1e-9)
    assert parts.progress.active.uncertainties == (MovingAverage((0.1, 0.3, 5.0), 3),)


def test_without_calibrate_the_scale_is_only_recorded(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, SETTINGS)
    taker = parts.thresholds()
    feed(taker, RATIOS * 2)
    assert taker.limit(0) == pytest.approx(0.2)
    assert parts.progress.active.pairs[0].seen == 20
    last = list(parts.journal.entries())[-1]
    assert last["scale"] == pytest.approx(SCALE, rel=1e-9) and last["in_use"] is False


def test_an_uncertainty_that_says_nothing_is_not_used(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, CALIBRATED)
    taker = parts.thresholds()
    feed(taker, [0.01, 3.0, 0.02, 0.01, 5.0, 0.01, 0.02, 0.01, 0.01, 0.02, 0.01, 0.03])
    # Median ratio 0.015: the two large ones count as 0.06; the interval is still too wide.
    assert taker.limit(0) == pytest.approx(0.2)


def test_crossings_are_recorded_but_do_not_count(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, CALIBRATED)
    taker = parts.thresholds()
    taker.compare(*labelled(0.1, 0.2, sanity=False))
    assert parts.progress.active.pairs == (Pairs(),)
    (entry,) = parts.journal.entries()
    assert entry["counts"] is False and "scale" not in entry
    assert entry["true_error"] == pytest.approx(0.2, rel=1e-12)


def test_the_error_is_reduced_as_the_uncertainty_is(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, SETTINGS + "  uncertainty_type: mean_atomic_sd\n")
    parts.thresholds().compare(*labelled(0.1, 0.2))
    ((_, error),) = parts.progress.active.pairs[0].values
    assert error == pytest.approx(0.2 * (0.1 + 1.0 + 0.5 + 0.0) / 4, rel=1e-12)


def test_without_analysis_nothing_is_recorded(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, SETTINGS.replace("analysis: true", "analysis: false"))
    parts.thresholds().compare(*labelled(0.1, 0.2, sanity=False))
    assert list(parts.journal.entries()) == [] and parts.progress.active.pairs == (Pairs(),)


def saved_and_read(state: RunState) -> RunState:
    return run_state({"state": json.loads(json.dumps(dataclasses.asdict(state)))})


def test_a_resumed_run_decides_and_tells_what_an_unbroken_one_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The scale drifts, so that it is told more than once.
    ratios = [*RATIOS, *(ratio * 1.1**n for n, ratio in enumerate(RATIOS))]
    caplog.set_level(logging.INFO)
    unbroken = parts_of(tmp_path / "unbroken", CALIBRATED)
    feed(unbroken.thresholds(), ratios)
    lines = list(caplog.messages)
    assert len(lines) >= 4  # two lines each time
    for cut in (0, 7, 10, 15, 19):
        caplog.clear()
        broken = parts_of(tmp_path / f"cut_{cut}", CALIBRATED)
        feed(broken.thresholds(), ratios[:cut])
        state = saved_and_read(broken.progress.state)
        assert state == broken.progress.state
        resumed = parts_of(tmp_path / f"cut_{cut}", CALIBRATED, state.active)
        feed(resumed.thresholds(), ratios[cut:], first=cut)
        broken.journal.length()
        assert resumed.progress.state == unbroken.progress.state
        assert resumed.thresholds().limit(0) == unbroken.thresholds().limit(0)
        assert caplog.messages == lines
        entries = sorted(map(json.dumps, resumed.journal.entries()))
        assert entries == sorted(map(json.dumps, unbroken.journal.entries()))


def test_a_run_that_version_3_began_calibrates_from_now_on() -> None:
    state = dataclasses.asdict(dataclasses.replace(RunState(), active=active_state()))
    sampling, active = state["sampling"], state["active"]
    del active["pairs"]
    # The names of that time.
    active["next_visit"] = active.pop("next_round")
    for each in (sampling, active):
        each["asked"] = each.pop("pending")
    for each in active["trajectories"]:
        each["setbacks"] = each.pop("rollbacks")
        each["setbacks_in_row"] = each.pop("rollbacks_in_row")
    del sampling["trajectories"], sampling["sampled"], sampling["n_displaced"]
    sampling |= {"md_steps": 0, "setbacks": 0, "setbacks_in_row": 0}
    content = {"state": state, "systems": None, "settings": {}}
    files = upgraded(Snapshot(3, {"run.json": json.dumps(content).encode()}))
    read = run_state(json.loads(files["run.json"]))
    assert read.active == active_state()


def test_the_log_names_the_rule_when_active_learning_begins(tmp_path: Path) -> None:
    quantile = "  threshold_type: quantile\n  threshold_quantile: 0.9\n  c_x: 0.2\n"
    message = describe(parts_of(tmp_path, CALIBRATED + quantile).criterion)
    assert message == (
        "threshold = 0.8 x 0.9 quantile of the uncertainty (c_x = 0.2), after 1 estimates, "
        "at most 0.5 x rms force of the initial dataset x (1 - c_x); once 10 "
        "sanity checks have calibrated the uncertainty, a true error of 0.3 eV/A"
    )


def test_table_and_figure_show_sanity_checks_and_crossings(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, CALIBRATED)
    tables = Tables(tmp_path / "results", tmp_path / "analysis")
    parts.journal.listen(tables.add)
    taker = parts.thresholds()
    feed(taker, RATIOS)
    taker.compare(*labelled(0.1, 0.2, 999, sanity=False))
    tables.close()
    header, *rows = (tmp_path / "analysis" / "calibration.csv").read_text().splitlines()
    assert header.startswith("system,sweep,trajectory,md_step,uncertainty,true_error,counts,in_use")
    assert len(rows) == 11
    assert rows[0].endswith(",True" + 9 * ",")  # a single pair has no scale
    assert ",True,True,10,2.0" in rows[9]
    assert rows[10].endswith(",False" + 9 * ",")
    draw_calibration(parts.journal, tmp_path / "analysis")
    picture = (tmp_path / "analysis" / "calibration.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_without_matplotlib_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    caplog.set_level(logging.INFO)
    parts = parts_of(tmp_path, SETTINGS)
    draw_calibration(parts.journal, tmp_path / "analysis")
    assert caplog.messages == []  # nothing to draw
    parts.thresholds().compare(*labelled(0.1, 0.2))
    draw_calibration(parts.journal, tmp_path / "analysis")
    (message,) = caplog.messages
    assert "matplotlib is not installed" in message
    assert not (tmp_path / "analysis" / "calibration.png").exists()


def test_what_models_disagree_by_that_know_nothing_does_not_become_the_threshold(
    tmp_path: Path,
) -> None:
    """Their average uncertainty is larger than the forces themselves."""
    text = "ACTIVE_LEARNING:\n  max_set_size: 9\n  reference_engine: tblite\n  c_x: 0.2\n"
    for bound, expected in (
        ("  max_threshold: 0.25\n", 0.2 * 0.8),
        ("  max_threshold: None\n", 0.8 * (0.1 + 0.3 + 9 * 3.6) / 11),
    ):
        parts = parts_of(tmp_path / str(expected), text + bound)
        made = Thresholds(parts.progress, parts.criterion, parts.journal, lambda system: 0.8)
        for _ in range(9):
            limit = made.observe(0, 3.6)
        # After two estimates, of 0.1 and 0.3.
        assert limit == pytest.approx(expected)


def test_models_are_asked_while_the_threshold_warms_up(tmp_path: Path) -> None:
    text = "ACTIVE_LEARNING:\n  max_set_size: 9\n  reference_engine: tblite\n  c_x: 0.2\n"
    parts = parts_of(tmp_path, text + "  max_threshold: 0.25\n")
    made = Thresholds(parts.progress, parts.criterion, parts.journal, lambda system: 0.8)
    assert made.observe(0, 0.05) == pytest.approx(0.25 * 0.8 * 0.8)
