"""The simulation of the loop in time, where what must come out is known by hand."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import loop_inputs  # noqa: E402
import loop_scans  # noqa: E402
import simulate_loop  # noqa: E402
from loop_inputs import Durations, Layout, NotRecorded, Workload  # noqa: E402
from loop_model import CHECKS, EXTRA, MD, TRAINING, simulate  # noqa: E402

SERIAL = Layout(parallel=False)
ONE_GROUP = Layout(parallel=True)


def always_asks(num_trajectories: int, n_labels: int, **changes: Any) -> Workload:
    """Every check from the first on asks for a label, while there is room."""
    work = Workload(
        num_trajectories, n_labels, c_x=0.1, threshold_warmup=1, uncertainty_log_sd=0.0, grows=False
    )
    return dataclasses.replace(work, **changes)


def durations(dft_s: float, md_step_s: float = 0.0, epoch_point_s: float = 0.0) -> Durations:
    return Durations(md_step_s, 0.0, epoch_point_s, dft_s)


def test_with_dft_alone_the_wall_time_is_labels_times_dft() -> None:
    for layout in (SERIAL, ONE_GROUP):
        out = simulate(durations(7.0), always_asks(4, 24), layout)
        assert (out.wall_s, out.dft_s, out.rank0_s) == (24 * 7.0, 24 * 7.0, 0.0)
        assert out.groups_busy == 1.0


def test_groups_share_the_dft() -> None:
    out = simulate(durations(7.0), always_asks(8, 24), Layout(groups=4))
    assert out.wall_s == 24 / 4 * 7.0
    assert out.labels_per_hour == 3600 * 4 / 7.0


def test_dft_that_dominates_hides_all_but_the_first_move() -> None:
    # A block takes 20 x 0.01 s and a round 3 members x 5 epochs x 40 points x 0.001 s.
    times, block_s, round_s = durations(100.0, 0.01, 0.001), 0.2, 0.6
    out = simulate(times, always_asks(8, 30), ONE_GROUP)
    # At the beginning all eight move before the first check; at the end the last point is trained.
    least = 8 * block_s + 30 * 100.0
    slices = 30 * 0.01  # a label that ends in a slice waits for the end of it
    # What is under way when the last label comes: a move of all, and the round after it.
    assert least <= out.wall_s <= least + slices + 8 * block_s + round_s


def test_without_dft_the_wall_time_is_rank_0s() -> None:
    times = durations(0.0, 0.01, 0.001)
    for layout in (SERIAL, ONE_GROUP):
        out = simulate(times, always_asks(4, 24), layout)
        # Six sweeps, or seven: of the first two points one goes to validation and is not trained.
        n_rounds = 24 - sum(simulate_split(24))
        assert out.busy[TRAINING] == pytest.approx(n_rounds * 3 * 5 * 40 * 0.001)
        assert out.wall_s == pytest.approx(out.busy[MD] + out.busy[TRAINING])


def simulate_split(n_points: int) -> list[bool]:
    """Which of the points go to validation: by the rule n_validation < 0.2 x n_points."""
    chosen: list[bool] = []
    for n in range(n_points):
        chosen.append(sum(chosen) < 0.2 * n)
    return chosen


def test_serial_mode_is_the_sum_of_its_parts() -> None:
    times = Durations(0.01, 0.05, 0.001, 2.0, label_s=0.1, send_s=0.01, nap_s=0.02, copy_s=0.001)
    layout = Layout(parallel=False, ranks_per_group=5)
    out = simulate(times, always_asks(4, 12), layout)
    n_rounds = 12 - sum(simulate_split(12))
    # Three sweeps of four blocks and checks each: all move, all ask.
    parts = 12 * (20 * 0.01 + 0.05) + 12 * (5 * 0.01 + 0.02 + 2.0 + 0.1) + n_rounds * 3 * 5 * 0.04
    steps = 3 + 12 + n_rounds  # each costs 4 trajectories x 0.001 s
    assert out.wall_s == pytest.approx(parts + 4 * 0.001 * steps)
    assert out.layout.ranks == 5


def test_at_equal_costs_overlap_halves_the_wall_time() -> None:
    _, (serial, parallel) = next(
        iter(loop_scans.overlap(durations(0.0, 0.01, 0.001), always_asks(16, 320), [1.0]).items())
    )
    assert serial.n_labels == parallel.n_labels == 320
    assert serial.wall_s == pytest.approx(2 * serial.ideal_s, rel=1e-9)
    # The ideal is 0.5; what the start and the end cost is under a tenth of it.
    assert 0.5 <= parallel.wall_s / serial.wall_s <= 0.55


def test_one_trajectory_has_nothing_to_overlap() -> None:
    times = durations(3.0, 0.01, 0.001)
    serial, parallel = (simulate(times, always_asks(1, 10), mode) for mode in (SERIAL, ONE_GROUP))
    assert parallel.wall_s == pytest.approx(serial.wall_s)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_faster_than_the_busiest_part(seed: int) -> None:
    durations_, workload = loop_inputs.read_recorded(simulate_loop.RECORDED)
    times = dataclasses.replace(durations_, dft_s=5.0, dft_log_sd=0.5)
    work = dataclasses.replace(workload, num_trajectories=12, n_labels=60)
    for groups in (1, 3, 12):
        out = simulate(times, work, Layout(groups=groups), seed)
        assert out.n_labels == 60
        rounded = 1 + 1e-9  # times are sums of many terms
        assert out.wall_s * rounded >= out.ideal_s
        assert max(out.rank0_busy, out.groups_busy) <= rounded


GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 32)


def test_more_groups_are_never_slower() -> None:
    walls = [
        simulate(durations(7.0), always_asks(16, 96), Layout(groups=groups)).wall_s
        for groups in GROUPS
    ]
    assert all(more <= fewer for fewer, more in itertools.pairwise(walls))
    assert walls[0] == 8 * walls[5] == 16 * walls[7]
    assert walls[8] == walls[7]  # 16 trajectories ask for no more at a time


@pytest.mark.parametrize("dft_s", [3.0, 30.0, 300.0])
def test_nor_where_rank_0_has_work_and_durations_vary(dft_s: float) -> None:
    times, workload = loop_inputs.read_recorded(simulate_loop.RECORDED)
    times = dataclasses.replace(times, dft_s=dft_s, dft_log_sd=0.3)
    outcomes = loop_scans.scan(times, workload, Layout(), (40,), GROUPS)
    walls = [out.wall_s for out in outcomes.values()]
    # Not strictly: once rank 0 is the limit, another order of arrivals is up to 3 % of chance.
    assert all(more <= 1.05 * fewer for fewer, more in itertools.pairwise(walls))


def test_a_group_for_everybody_lets_all_go_in_step() -> None:
    # No scatter at all: with 16 groups all compute, then all train, and little overlaps.
    times = Durations(0.01, 0.02, 0.001, 5.0)
    eight, sixteen = (
        simulate(times, always_asks(16, 96), Layout(groups=groups)) for groups in (8, 16)
    )
    assert sixteen.wall_s > 1.15 * eight.wall_s
    assert eight.wall_s < 1.08 * eight.ideal_s


def test_training_ranks_share_the_members() -> None:
    times = durations(0.0, 0.0, 0.001)
    one, two, three = (
        simulate(times, always_asks(4, 24), Layout(training_ranks=t)).busy[TRAINING]
        for t in (1, 2, 3)
    )
    assert (one / three, one / two) == (pytest.approx(3.0), pytest.approx(1.5))


def test_rank_0_becomes_the_bottleneck() -> None:
    times, workload = loop_inputs.read_recorded(simulate_loop.RECORDED)
    times = dataclasses.replace(times, dft_s=100.0)
    outcomes = loop_scans.scan(times, workload, Layout(), (50,), (1, 10, 100, 1000))
    few, many, most = (outcomes[50, groups] for groups in (1, 100, 1000))
    assert few.groups_busy > 0.95 and few.rank0_busy < 0.5
    assert many.groups_busy < 0.2 and many.rank0_busy > 0.95
    assert most.labels_per_hour == pytest.approx(many.labels_per_hour, rel=1e-6)


def test_training_goes_on_while_all_wait() -> None:
    times = durations(100.0, 0.01, 0.001)
    out = simulate(times, always_asks(2, 10, extra_rounds=3), ONE_GROUP)
    # Never more than three rounds after each point, and before the first.
    assert 0 < out.busy[EXTRA] <= 11 * 3 * 0.6 + 1e-9
    assert out.wall_s < 10 * 100.0 + 20.0


def test_trajectories_that_never_ask_run_to_their_end() -> None:
    work = always_asks(3, 10, c_x=-0.1, max_md_steps=110)
    out = simulate(Durations(0.01, 0.5, 0.0, 9.0), work, ONE_GROUP)
    assert (out.n_labels, out.dft_s) == (0, 0.0)
    assert out.busy[MD] == pytest.approx(3 * 110 * 0.01)
    assert out.busy[CHECKS] == pytest.approx(3 * 6 * 0.5)  # five blocks of 20 and one of 10


def test_the_same_seed_gives_the_same_run() -> None:
    times, workload = loop_inputs.read_recorded(simulate_loop.RECORDED)
    times = dataclasses.replace(times, dft_s=5.0, dft_log_sd=0.5)
    work = dataclasses.replace(workload, num_trajectories=5, n_labels=30)
    first, again, other = (simulate(times, work, Layout(groups=2), seed) for seed in (3, 3, 4))
    assert first == again
    assert first.wall_s != other.wall_s


def test_serial_mode_has_one_group() -> None:
    with pytest.raises(ValueError, match="one group, not 2"):
        Layout(parallel=False, groups=2)


def test_a_finished_run_gives_its_durations(tmp_path: Path) -> None:
    al = {
        "num_trajectories": 2,
        "ensemble_size": 3,
        "skip_step_mlff": 20,
        "intermediate_epochs": 5,
        "max_epochs_worker": 10,
        "valid_ratio": 0.2,
        "c_x": -0.2,
        "threshold_warmup": 8,
        "md_forces": "member",
    }
    settings = {f"ACTIVE_LEARNING.{name}": value for name, value in al.items()}
    settings |= {"TRAINING.batch_size": 5}
    seconds = {"MD": 100.0, "training": 60.0, "DFT": 8.0}
    for name, md_s in (("restart", 100.0), ("before", 8.0)):
        snapshot = tmp_path / name / "snapshot-00000001"
        snapshot.mkdir(parents=True)
        content = {"settings": settings, "state": {"seconds": seconds | {"MD": md_s}}}
        (snapshot / "run.json").write_text(json.dumps(content))
    entries = [
        {"kind": "check", "uncertainty": 1.0},
        {"kind": "check", "uncertainty": 1.0},
        {"kind": "crossing"},
        {"kind": "epoch", "phase": "initial", "n_training": 10},
        {"kind": "epoch", "phase": "active learning", "n_training": 20},
    ]
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (tmp_path / "restart" / "journal.jsonl").write_text(lines)
    (tmp_path / "restart" / "labels.jsonl").write_text("{}\n" * 4)
    found, workload = loop_inputs.recorded(tmp_path / "restart", tmp_path / "before")
    # 92 s for two blocks of 20 steps on one member and two checks on three: 46 calls of 2 s.
    assert found == Durations(md_step_s=2.0, check_s=6.0, epoch_point_s=2.0, dft_s=2.0)
    assert (workload.n_training, workload.n_labels, workload.uncertainty_log_sd) == (20, 1, 0.0)
    loop_inputs.write_recorded(tmp_path / "file.json", "a test", found, workload)
    assert loop_inputs.read_recorded(tmp_path / "file.json") == (found, workload)


def test_a_file_with_other_keys_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text('{"durations": {"md_step": 1.0}}')
    with pytest.raises(NotRecorded, match=r"wrong\.json.*md_step"):
        loop_inputs.read_recorded(path)


def test_the_command_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    simulate_loop.main(["--dft", "30", "--trajectories", "4", "--groups", "1", "4"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 4 |")]
    assert rows[0].startswith("| 4 | 1 | 11 |") and rows[1].startswith("| 4 | 4 | 41 |")
