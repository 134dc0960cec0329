"""Rank 0 drives, the others serve: under a real mpirun, failures included."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from asi.harness import run_mpi

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_commands_are_obeyed_in_order(ranks: int) -> None:
    job = run_mpi("serve_commands.py", ranks)
    # The exit code of "stop" is that of every rank, and so of the job.
    assert job.exit_code == 4, job.output
    driver, *servers = job.result
    total = 1 + 7 * (ranks - 1)
    assert driver == [["total", total]]
    assert len(servers) == ranks - 1
    for message in servers:
        assert message == [
            *[["number", n] for n in range(50)],
            ["array", [(0.1).hex(), (5e-324).hex(), (-0.0).hex()]],
            ["sum", total],
            ["nothing", None],
        ]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("serving", "Failure: rank {last} was told to fail"),
        ("serving_in_collective", "Failure: rank {last} was told to fail"),
        ("driving", "Failure: rank 0 has a bug"),
        ("driving_in_collective", "Failure: rank 0 has a bug"),
    ],
)
def test_an_exception_on_any_rank_ends_the_job_with_its_traceback(
    ranks: int, failure: str, words: str
) -> None:
    started = time.monotonic()
    job = run_mpi("serve_errors.py", ranks, failure, timeout_s=30)
    assert job.exit_code not in (0, None), job.output
    failed = ranks - 1 if failure.startswith("serving") else 0
    assert f"FHI_AL: rank {failed} failed:" in job.output
    assert "Traceback (most recent call last)" in job.output
    assert words.format(last=ranks - 1) in job.output
    assert time.monotonic() - started < 30


def test_an_exception_on_one_rank_alone_is_a_plain_failure() -> None:
    job = run_mpi("serve_errors.py", 1, "driving")
    assert job.exit_code == 1
    assert "Failure: rank 0 has a bug" in job.output


@pytest.mark.parametrize("ranks", [2, 3])
def test_rank_0_finds_out_whether_all_others_wait_for_commands(ranks: int) -> None:
    job = run_mpi("serve_there.py", ranks)
    assert job.exit_code == 0, job.output
    assert job.result == [True, False, True]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_agreeing_on_an_error_raises_it_on_all_ranks(ranks: int) -> None:
    job = run_mpi("serve_agree.py", ranks)
    assert job.exit_code == 0, job.output
    last = ranks - 1
    for rank, seen in enumerate(job.result):
        assert seen["none"] == seen["none again"] == [None, None]
        cause = "ValueError('zero is wrong')" if rank == 0 else None
        assert seen["rank 0"] == ["rank 0: ValueError: zero is wrong", cause]
        assert seen["last rank"][0] == f"rank {last}: OSError: the disk is gone"
        message = "; ".join(
            f"rank {other}: RuntimeError: words of {other}" for other in range(ranks)
        )
        assert seen["all"] == [message, f"RuntimeError('words of {rank}')"]
    # The rank that failed says so itself too, beside the report in which all do.
    assert "OSError: the disk is gone" in job.output.replace("RESULT", "\n").splitlines()


def test_idle_ranks_leave_the_cores_alone_and_still_answer_soon() -> None:
    job = run_mpi("serve_idle.py", 3, 2.0)
    assert job.exit_code == 0, job.output
    for used_s, delay_s in job.result[1:]:
        print(f"CPU in 2 s of waiting: {used_s[1] - used_s[0]:.3f} s; delay {delay_s[1]:.4f} s")
        assert used_s[1] - used_s[0] < 0.5
        # The longest sleep is 0.01 s; the rest is a machine that has other things to do.
        assert delay_s[1] < 1.0


def test_ase_on_rank_0_alone_does_not_talk_to_the_serving_ranks(tmp_path: Path) -> None:
    job = run_mpi("serve_ase.py", 2, tmp_path)
    assert job.exit_code == 0, job.output
    received = ["collective", "from rank 0"]
    assert job.result == [[received], [["before", 1], ["after", 2], received]]
    assert (tmp_path / "atoms.xyz").read_text().startswith("4\n")
