"""A run that begins with labels of the user's own: FHI_AL, and FHI_AL-al without any model."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from run_folder import (
    SMALLEST,
    copy_of,
    datasets,
    fault_env,
    final_weights,
    labels,
    run,
    snapshots,
    succeed,
    write_inputs,
)
from tblite.ase import TBLite

pytestmark = [pytest.mark.mpi, pytest.mark.real]

N_DATA = 12
SETS = ("training", "validation")


@pytest.fixture(scope="module")
def data() -> list[Atoms]:
    """Water molecules with the labels of GFN2-xTB as results of a calculator."""
    positions = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
    generator = np.random.default_rng(1)
    found = []
    for _ in range(N_DATA):
        atoms = Atoms("OHH", positions + generator.normal(0.0, 0.05, (3, 3)))
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        atoms.get_forces()
        found.append(atoms)
    return found


def folder_with(
    folder: Path, data: list[Atoms], limit: Any = None, lr: float = 0.1, **keys: Any
) -> Path:
    """Inputs of a small run, and its data as a trajectory of ASE's.

    With a limit of the wall time it ends in its first step, after it has taken the data in.
    """
    write_inputs(
        folder,
        mace={"TRAINING": {"lr": lr}},
        active_learning={
            "ACTIVE_LEARNING": {**SMALLEST, "initial_data": "old/*.traj", **keys},
            "MISC": {"walltime_limit": limit},
        },
    )
    (folder / "old").mkdir(exist_ok=True)
    ase.io.write(folder / "old" / "water.traj", data)
    return folder


def rounds(output: str) -> list[tuple[int, float]]:
    """Labels at the end of each round of the initial dataset, and its force MAE in eV/A."""
    found = re.findall(
        r"initial dataset, round \d+: (\d+) labels.* force MAE ([\d.]+) eV/A", output
    )
    return [(int(n_labels), float(mae)) for n_labels, mae in found]


@pytest.mark.parametrize("parallel", [False, True])
def test_data_are_trained_on_before_any_point_is_sampled(tmp_path, data, parallel) -> None:
    folder = folder_with(
        tmp_path / "run",
        data,
        lr=0.03,
        parallel=parallel,
        initial_sets="shared",
        skip_step_initial=1,
        intermediate_gain=0.02,
        max_initial_epochs=30,
        desired_acc=1e-6,
    )
    output = succeed(folder, 1 + parallel, command="FHI_AL-initial-ds")
    assert f"{N_DATA} labels; 9 + 3, 9 + 3 points of the members" in output
    found = rounds(output)
    print(found)
    with_data = [mae for n_labels, mae in found if n_labels == N_DATA]
    # As long as a round lowers the error by more than that.
    assert len(with_data) >= 3 and found[len(with_data)][0] > N_DATA
    *helping, last = [after / before for before, after in pairwise(with_data)]
    assert all(ratio < 0.981 for ratio in helping) and last > 0.979
    phases = [record["origin"]["phase"] for record in labels(folder)]
    assert phases[:N_DATA] == ["imported"] * N_DATA
    assert set(phases[N_DATA:]) == {"initial"}
    assert f"labels: {len(phases) - N_DATA} computed, of which 0 discarded" in output
    assert f"; {N_DATA} from files" in output


def test_nothing_is_sampled_where_the_data_are_enough(tmp_path, data) -> None:
    keys = {"desired_acc": 10.0, "valid_ratio": 0.3, "test_ratio": 0.25}
    folder = folder_with(tmp_path / "run", data, **keys)
    output = succeed(folder, command="FHI_AL-initial-ds")
    assert "the validation force MAE" in output and "has reached lambda x desired_acc" in output
    assert "labels: 0 computed, of which 0 discarded; 12 from files" in output
    sets = folder / "data" / "initial"
    test = ase.io.read(sets / "test" / "combined.xyz", ":")
    assert [atoms.info["md_step"] for atoms in test] == [4, 8, 12]  # its frames
    assert len(ase.io.read(sets / "training" / "combined.xyz", ":")) == 6


def test_too_few_data_are_the_beginning_of_a_round_that_is_sampled(tmp_path, data) -> None:
    folder = folder_with(tmp_path / "run", data[:3])
    output = succeed(folder, command="FHI_AL-initial-ds")
    ((n_labels, _),) = rounds(output)
    assert n_labels > 3
    sets = folder / "data" / "initial"
    n_points = [len(ase.io.read(sets / kind / "combined.xyz", ":")) for kind in SETS]
    # Two for each of the two members besides the three.
    assert sum(n_points) == 3 + 4


def test_active_learning_starts_from_data_alone(tmp_path, data) -> None:
    """And asks for no foundation model, which FHI_AL may need."""
    foundation = {"initial_sampling": "foundation", "foundation_model": "absent.model"}
    keys = {**foundation, "max_initial_epochs": 50, "intermediate_gain": 0.3, "max_threshold": 1e-6}
    folder = folder_with(tmp_path / "run", data, **keys)
    code, output = run(folder, 1, "--check")
    assert code == 2 and "absent.model" in output
    output = succeed(folder, 1, "--check", command="FHI_AL-al")
    assert "water.traj: 12 labels; 5 + 1, 5 + 1 points of the members" in output
    assert not (folder / "restart").exists()
    code, output = run(folder_with(folder, data, limit=0.001, **keys), command="FHI_AL-al")
    assert code == 3, output
    output = succeed(folder_with(folder, data, **keys), command="FHI_AL-al")
    assert "continuing from the snapshot" in output
    assert [n_labels for n_labels, _ in rounds(output)] == [N_DATA] * len(rounds(output))
    assert "does not help any more, and none is sampled" in output
    phases = [record["origin"]["phase"] for record in labels(folder)]
    assert phases[:N_DATA] == ["imported"] * N_DATA
    assert len(phases) > N_DATA and set(phases[N_DATA:]) == {"active_learning"}
    assert "summary: stage: done" in output
    # Without restart/ there are still the sets and models that it wrote.
    shutil.rmtree(folder / "restart")
    output = succeed(folder, 1, "--check", command="FHI_AL-al")
    assert f"starts from {folder / 'data' / 'initial'}: 12 labels" in output
    assert "ACTIVE_LEARNING.initial_data: not used: there are sets and models" in output
    few = folder_with(tmp_path / "few", data[:3], **foundation)
    code, output = run(few, 1, "--check", command="FHI_AL-al")
    assert code == 2
    assert "3 labels for 2 members: expected for each at least one to train on and one to" in output


def end_of(folder: Path) -> tuple[Any, ...]:
    files = [(folder / "restart" / name).read_bytes() for name in ("labels.jsonl", "journal.jsonl")]
    return datasets(folder), final_weights(folder), *files


def test_a_run_that_takes_data_in_may_end_at_any_moment(tmp_path, data) -> None:
    """Killed among the labels and before the first snapshot; stopped after it; and never."""
    keys = {"intermediate_gain": 0.3, "max_initial_epochs": 6}
    unbroken = folder_with(tmp_path / "unbroken", data, **keys)
    succeed(unbroken)
    lines = (unbroken / "restart" / "labels.jsonl").read_bytes().splitlines(keepends=True)
    killed = folder_with(tmp_path / "killed", data, **keys)
    (killed / "restart").mkdir()
    (killed / "restart" / "labels.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:-30])
    code, output = run(killed, env=fault_env(KILL_AT_STEP=1, KILL_IN_WRITE=1))
    assert code != 0 and snapshots(killed) == [], output
    stopped = folder_with(tmp_path / "stopped", data, limit=0.001, **keys)
    code, output = run(stopped)
    assert code == 3, output
    for folder in (killed, stopped):
        folder_with(folder, data, **keys)
        succeed(folder)
        assert end_of(folder) == end_of(unbroken)


def test_files_that_are_changed_afterwards(tmp_path, data) -> None:
    """Refused while the initial dataset is built, told when it is complete; nobody misses them."""
    folder = folder_with(tmp_path / "run", data, limit=0.001)
    code, output = run(folder, 1)
    assert code == 3, output
    folder_with(folder, data[:-1])
    for command in ("FHI_AL", "FHI_AL-al"):
        code, output = run(folder, 1, command=command)
        assert code == 2, output
        assert (
            f"{folder / 'old' / 'water.traj'}: was changed since the run took its 12 labels in, "
            "which it goes on with: expected the same file." in output
        )
    gone = copy_of(folder, tmp_path / "gone")
    (gone / "old" / "water.traj").unlink()
    succeed(gone, command="FHI_AL-initial-ds")
    assert [r["origin"]["phase"] for r in labels(gone)][:N_DATA] == ["imported"] * N_DATA
    ase.io.write(gone / "old" / "water.traj", data[:-1])
    output = succeed(gone, 1, "--check")
    assert "note: " in output and "was changed since the run took its 12 labels in" in output
    output = succeed(gone)
    assert "was changed since the run took its 12 labels in" in output
    folder_with(gone, data, initial_data=["old/water.traj", "old/more.traj"])
    code, output = run(gone, 1, "--check")
    assert code == 2 and "these inputs were changed: ACTIVE_LEARNING.initial_data: " in output
