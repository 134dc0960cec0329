"""What a finished run leaves on disk and on the terminal."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from run_folder import copy_of, labels, succeed

pytestmark = [pytest.mark.mpi, pytest.mark.real]

LOAD_AND_COMPUTE = """
import sys
from mace.calculators import MACECalculator
assert not any(name.startswith("fhi_al") for name in sys.modules)
from ase.build import molecule
atoms = molecule("H2O")
atoms.calc = MACECalculator(model_paths=sys.argv[1:], device="cpu")
print(abs(atoms.get_forces()).max())
assert not any(name.startswith("fhi_al") for name in sys.modules)
"""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_output_is_there(finished_run) -> None:
    folder = finished_run("tblite", 2, models="mace")
    seeds = yaml.safe_load((folder / "data" / "member_seeds.yaml").read_text())
    assert len(seeds) == 2
    for phase in ("initial", "final"):
        for kind in ("training", "validation"):
            for name in (*seeds, "combined"):
                assert (folder / "data" / phase / kind / f"{name}.xyz").stat().st_size > 0
    for name in seeds:
        assert (folder / "model" / f"{name}.model").is_file()
        assert (folder / "checkpoints" / f"{name}.pt").is_file()
        assert rows(folder / "results" / f"{name}_errors.csv")
    card = (folder / "model" / "README.md").read_text()
    assert "| elements | H, O |" in card and "by tblite, GFN2-xTB |" in card
    assert all(f"`{name}.model`" in card for name in seeds)
    assert "on each member's own validation points: forces" in card
    for name in ("initial_dataset.log", "AL.log", "restart/labels.jsonl"):
        assert (folder / name).stat().st_size > 0
    copied = {path.name for path in (folder / "inputs").iterdir()}
    assert copied >= {"geometry.in", "mace_settings.yaml", "active_learning_settings.yaml"}
    assert yaml.safe_load((folder / "inputs" / "versions.yaml").read_text())["ase"]


def test_resolved_settings_run_again(finished_run, tmp_path) -> None:
    finished = finished_run("tblite", 2, models="mace")
    for name in ("mace_settings.yaml", "active_learning_settings.yaml"):
        (tmp_path / name).write_text((finished / "inputs" / f"resolved_{name}").read_text())
    (tmp_path / "geometry.in").write_text((finished / "geometry.in").read_text())
    assert "all inputs are in order" in succeed(tmp_path, 1, "--check")
    assert not (tmp_path / "restart").exists()


def test_analysis_compares_uncertainty_with_the_true_error(finished_run) -> None:
    analysis = finished_run("tblite", 2, models="mace") / "analysis"
    sanity = rows(analysis / "sanity_checks.csv")
    assert len(sanity) == 2 * 4  # two trajectories, 40 steps, one check every 10
    assert all(float(row["mae_forces"]) > 0 and float(row["uncertainty"]) > 0 for row in sanity)
    history = rows(analysis / "uncertainty_history.csv")
    assert len(history) == 2 * 8  # one check every 5 of 40 steps
    assert [row["threshold"] for row in history[:2]] == ["", ""]  # warming up
    crossings = [row for row in history if row["crosses"] == "True"]
    assert len(crossings) == len(rows(analysis / "md_steps_between_crossings.csv")) > 0
    assert all(float(row["uncertainty"]) > float(row["threshold"]) for row in crossings)
    assert rows(analysis / "losses.csv")
    pairs = rows(analysis / "calibration.csv")
    counting = [row for row in pairs if row["counts"] == "True"]
    assert len(counting) == len(sanity) and len(pairs) > len(sanity)
    for check, row in zip(sanity, counting, strict=True):
        assert row["uncertainty"] == check["uncertainty"]
        # Of the worst atom, its rms component against the length of the error vector.
        expected = float(check["max_force_error"]) / 3**0.5
        assert float(row["true_error"]) == pytest.approx(expected, rel=1e-12)
    assert 0 < float(counting[-1]["low"]) < float(counting[-1]["high"])
    assert (analysis / "calibration.png").read_bytes().startswith(b"\x89PNG")


def test_threshold_is_the_moving_average(finished_run) -> None:
    history = rows(
        finished_run("tblite", 2, models="mace") / "analysis" / "uncertainty_history.csv"
    )
    seen = [float(row["uncertainty"]) for row in history]
    for count, row in enumerate(history, start=1):
        if row["threshold"]:
            average = sum(seen[:count]) / count  # c_x = 0, fewer than the window of 400
            assert float(row["threshold"]) == pytest.approx(average, rel=1e-12)


def test_models_load_in_a_fresh_process_without_this_package(finished_run) -> None:
    models = sorted((finished_run("tblite", 2, models="mace") / "model").glob("*.model"))
    out = subprocess.run(
        [sys.executable, "-c", LOAD_AND_COMPUTE, *map(str, models)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    assert float(out.stdout.split()[-1]) > 0


def test_summary_says_labels_errors_and_where_the_time_went(finished_run) -> None:
    folder = finished_run("tblite", 2, models="mace")
    output = (folder / "output.txt").read_text()
    assert f"labels: {len(labels(folder))} computed, of which 0 discarded" in output
    assert "force MAE on validation" in output
    assert "calibration: true error = " in output
    *_, times, idle = output.splitlines()
    for activity in ("DFT", "training", "MD", "waiting for labels", "everything else"):
        assert activity in times
    # A rank that would have nothing to do trains.
    assert "rank 0 (drives, MD, training, labels" in idle and "rank 1 (training: " in idle


def test_a_finished_run_says_so_and_computes_nothing(finished_run, tmp_path) -> None:
    folder = copy_of(finished_run("asi", 3), tmp_path / "again")
    count = tmp_path / "calls.txt"
    output = succeed(folder, 2, env={"ASI_LOG": str(count)})
    assert "complete already" in output
    assert not count.exists()


def test_the_users_control_lines_reach_the_engine(finished_run) -> None:
    folder = finished_run("asi", 3)
    written = (folder / "aims" / "control.in").read_text().splitlines()
    assert "many_body_dispersion_nl" in written
    assert {"compute_forces .true.", "postprocess_anyway .true."} <= set(written)
    assert "added to control.in: compute_forces .true." in (folder / "output.txt").read_text()
