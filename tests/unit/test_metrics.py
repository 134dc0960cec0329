"""Curves for TensorBoard and Weights & Biases, read by their own readers."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fhi_al.report.journal import Entry, Journal
from fhi_al.report.metrics import Metrics, Scalar, TensorBoardCurves, WandbCurves, scalars

WAIT_S = 60.0
ENSEMBLE = {
    "kind": "ensemble",
    "phase": "active learning",
    "epoch": 10,
    "n_training": 12,
    "n_validation": 3,
    "training_loss": 0.5,
    "mae_forces": 0.25,
    "mae_stress": None,
}


def journal(folder: Path, *epochs: int) -> Journal:
    made = Journal(folder / "restart" / "journal.jsonl")
    for epoch in epochs:
        made.add(**{**ENSEMBLE, "epoch": epoch, "mae_forces": 1 / epoch})
    return made


def drawn(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of all points, by their tag."""
    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_an_entry_becomes_points_of_curves() -> None:
    assert list(scalars(ENSEMBLE)) == [
        Scalar("active learning/training loss", "epoch", 10, 0.5),
        Scalar("active learning/force MAE (eV/A)", "epoch", 10, 0.25),
        Scalar("active learning/training points", "epoch", 10, 12.0),
    ]
    check: Entry = {"kind": "check", "trajectory": 1, "md_step": 40, "uncertainty": 0.2}
    assert list(scalars({**check, "threshold": None})) == [
        Scalar("MD, trajectory 1/uncertainty (eV/A)", "MD step", 40, 0.2)
    ]
    assert list(scalars({**check, "uncertainty": float("nan")})) == []
    assert list(scalars({"kind": "initial points", "round": 1})) == []


def test_tensorboard_reads_them_and_a_resumed_run_has_each_once(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    entries = journal(tmp_path, 2, 4)
    first = Metrics(lambda: TensorBoardCurves(folder))
    entries.listen(first.add)
    entries.add(**{**ENSEMBLE, "epoch": 8, "mae_forces": 0.125})
    first.close()
    tag = "active learning/force MAE (eV/A)"
    assert drawn(folder)[tag] == [(2, 0.5), (4, 0.25), (8, 0.125)]
    again = Metrics(lambda: TensorBoardCurves(folder))
    entries.listen(again.add)
    again.close()
    assert drawn(folder)[tag] == [(2, 0.5), (4, 0.25), (8, 0.125)]


def test_what_fails_is_said_once_and_costs_the_run_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        curves = Metrics(lambda: TensorBoardCurves(tmp_path / "tensorboard"))
        journal(tmp_path, 2, 4).listen(curves.add)
        curves.close()
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("MISC.logger: ") and "the run goes on" in message


def test_weights_and_biases_has_them_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    curves = Metrics(lambda: WandbCurves(tmp_path, "water", {"MISC.logger": "wandb"}))
    journal(tmp_path, 2, 4).listen(curves.add)
    curves.close()
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    # A log of protocol buffers, which hold the names and, as JSON, the numbers.
    deadline = time.monotonic() + WAIT_S  # a process of theirs writes them
    while b"learning/training points" not in (content := path.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for text in ("active learning/force MAE (eV/A)", "0.25", "active learning/training loss"):
        assert text.encode() in content
