"""Changes of the process as a whole are put back."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from fhi_al.process.changes import cores, environment
from fhi_al.process.soft_stop import SIGNALS, SoftStop, signals_left_to_rank_0


def test_variables_are_put_back_and_new_ones_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE_BEFORE", "1")
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(ZeroDivisionError), environment(THERE_BEFORE="2", NOT_THERE="3"):
        assert (os.environ["THERE_BEFORE"], os.environ["NOT_THERE"]) == ("2", "3")
        raise ZeroDivisionError
    assert os.environ["THERE_BEFORE"] == "1"
    assert "NOT_THERE" not in os.environ


def test_a_variable_that_was_removed_meanwhile_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with environment(NOT_THERE="3"):
        del os.environ["NOT_THERE"]
    assert "NOT_THERE" not in os.environ


def test_cores_are_put_back_for_threads_that_were_started_meanwhile_too() -> None:
    all_cores = os.sched_getaffinity(0)
    if len(all_cores) < 2:
        pytest.skip("needs two cores")
    one = {min(all_cores)}
    end, ready = threading.Event(), threading.Event()
    found: list[int] = []

    def wait() -> None:
        found.append(threading.get_native_id())
        ready.set()
        end.wait()

    try:
        os.sched_setaffinity(0, one)  # as a launcher binds a rank
        with cores(all_cores):
            assert os.sched_getaffinity(0) == all_cores
            thread = threading.Thread(target=wait)
            thread.start()
            ready.wait()
            assert os.sched_getaffinity(found[0]) == all_cores
        assert os.sched_getaffinity(0) == one
        assert os.sched_getaffinity(found[0]) == one
        end.set()
        thread.join()
    finally:
        end.set()
        os.sched_setaffinity(0, all_cores)


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    soft_stop = SoftStop(tmp_path)
    with pytest.raises(ZeroDivisionError), soft_stop.listening():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError
    assert soft_stop.reason() == "SIGINT"
    with signals_left_to_rank_0():
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_closed_terminal_stops_a_run_unless_it_was_started_with_nohup(tmp_path: Path) -> None:
    outside = signal.getsignal(signal.SIGHUP)
    try:
        for handler, reason in ((signal.SIG_IGN, None), (signal.SIG_DFL, "SIGHUP")):
            signal.signal(signal.SIGHUP, handler)
            soft_stop = SoftStop(tmp_path)
            with soft_stop.listening():
                signal.raise_signal(signal.SIGHUP)
            assert soft_stop.reason() == reason
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, outside)


def test_in_a_thread_of_the_users_own_signals_are_left_alone(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    soft_stop = SoftStop(tmp_path)
    found: list[object] = []

    def run() -> None:
        with soft_stop.listening():
            found.append({number: signal.getsignal(number) for number in SIGNALS} == before)
        (tmp_path / "STOP").touch()
        found.append(soft_stop.reason())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [True, "the file STOP"]
