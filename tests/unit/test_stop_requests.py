"""Requests to stop are heard, whenever they come."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fhi_al.process.soft_stop import SoftStop


def test_a_signal_in_the_midst_of_a_look_for_other_requests_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft_stop = SoftStop(tmp_path)
    assert soft_stop.reason() is None

    def exists(path: Path) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return False

    monkeypatch.setattr(Path, "exists", exists)
    with soft_stop.listening():
        assert soft_stop.reason() == "SIGTERM"


def test_the_first_request_is_the_reason(tmp_path: Path) -> None:
    soft_stop = SoftStop(tmp_path)
    (tmp_path / "STOP").touch()
    assert soft_stop.reason() == "the file STOP"
    assert not (tmp_path / "STOP").exists()
    with soft_stop.listening():
        signal.raise_signal(signal.SIGUSR1)
    assert soft_stop.reason() == "the file STOP"


def test_a_file_that_another_has_taken_away_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert SoftStop(tmp_path).reason() == "the file STOP"
