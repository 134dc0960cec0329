"""The whole workflow on tblite and on the ASI library, with 1, 2 and 3 ranks."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from run_folder import datasets, finish, journal, labels, rank_number, ranks_of, start, write_inputs
from tblite.ase import TBLite

pytestmark = [pytest.mark.mpi, pytest.mark.real]


@pytest.mark.parametrize(
    ("engine", "ranks", "models"),
    [("tblite", 2, "mace"), ("asi", 3, "pair")],
)
def test_datasets_do_not_depend_on_the_number_of_ranks(finished_run, engine, ranks, models) -> None:
    alone, together = (finished_run(engine, n, models=models) for n in (1, ranks))
    assert datasets(together) == datasets(alone)
    store = "restart/labels.jsonl"
    assert (together / store).read_bytes() == (alone / store).read_bytes()


def test_asi_and_tblite_give_the_same_first_round(finished_run) -> None:
    # Later rounds part: the engines agree to 1e-15, and MD on a trained model is chaotic.
    pairs = list(
        zip(labels(finished_run("asi", 3)), labels(finished_run("tblite", 1)), strict=False)
    )
    for mine, theirs in pairs[:20]:
        assert mine["energy"] == pytest.approx(theirs["energy"], abs=1e-8)
        np.testing.assert_allclose(mine["forces"], theirs["forces"], atol=1e-7)


@pytest.mark.parametrize(("engine", "ranks", "models"), [("tblite", 2, "mace"), ("asi", 3, "pair")])
def test_labels_are_the_engines_own_and_none_is_computed_twice(
    finished_run, engine, ranks, models
) -> None:
    records = labels(finished_run(engine, ranks, models=models))
    assert len({record["key"] for record in records}) == len(records)
    for record in records[:: max(1, len(records) // 12)]:
        atoms = Atoms(record["numbers"], record["positions"])
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        assert record["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)  # eV
        np.testing.assert_allclose(record["forces"], atoms.get_forces(), atol=1e-7)  # eV/A


def test_exported_labels_are_the_stored_ones(finished_run) -> None:
    from fhi_al.labels.labelled_frames import read_labels

    folder = finished_run("tblite", 1)
    stored = {round(record["energy"], 9): record for record in labels(folder)}
    exported = read_labels(folder / "data" / "final" / "training" / "combined.xyz")
    assert len(exported) > 8
    for label in exported:
        record = stored[round(label.energy, 9)]
        np.testing.assert_allclose(label.positions, record["positions"], atol=1e-8)  # xyz digits
        np.testing.assert_allclose(label.forces, record["forces"], atol=1e-8)


def test_a_rank_that_only_labels_stays_small(asi_library, tmp_path, record_property) -> None:
    """Of the command itself, at its peak: rank 0 holds torch and models, the others the engine."""
    # The inputs' training_ranks is 1: by default the others train, too.
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    job = start(folder, 3, preload=False)
    peaks: dict[int, float] = {}
    while job.poll() is None:
        peaks |= peak_memory_mb(folder)
        time.sleep(0.05)
    code, output = finish(job)
    assert code == 0, output
    rank_0, *labelling = (peaks[rank] for rank in sorted(peaks))
    message = ", ".join(f"{peak:.0f} MB" for peak in labelling)
    record_property("measured", f"peak memory: labelling ranks {message}; rank 0 {rank_0:.0f} MB")
    assert len(labelling) == 2
    assert max(labelling) <= 150


def peak_memory_mb(folder: Path) -> dict[int, float]:
    """Peak resident memory in MB of every rank that works in a folder, so far."""
    peaks: dict[int, float] = {}
    for process in ranks_of(folder):
        # ValueError: mpirun's own variables are not there yet.
        with contextlib.suppress(OSError, KeyError, ValueError):
            status = Path(f"/proc/{process}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in status if ":" in line)
            peak_mb = int(fields["VmHWM"].split()[0]) / 1024
            # A child that rank 0 has just forked looks like it until it becomes something else.
            rank = rank_number(process)
            peaks[rank] = max(peak_mb, peaks.get(rank, 0.0))
    return peaks


def test_no_trajectory_is_a_copy_of_another(finished_run) -> None:
    checks = journal(finished_run("tblite", 1), "check")
    by_step: dict[int, list[float]] = {}
    for check in checks:
        by_step.setdefault(check["md_step"], []).append(check["uncertainty"])
    compared = [values for values in by_step.values() if len(values) == 2]
    assert len(compared) >= 3
    for first, second in compared:
        assert abs(first - second) > 1e-6  # eV/A; copies would agree to the last bit


def test_members_have_their_own_initial_data(finished_run) -> None:
    folder: Path = finished_run("tblite", 1) / "data" / "initial" / "training"
    members = [path for path in sorted(folder.glob("*.xyz")) if path.name != "combined.xyz"]
    assert len(members) == 2
    first, second = (set(path.read_text().splitlines()) for path in members)
    assert not {line for line in first & second if line.startswith("O ")}
