"""The commands, their options, and the ways to sample the initial dataset."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
import yaml
from asi.harness import mpirun
from run_folder import (
    SMALLEST,
    WATER,
    datasets,
    journal,
    labels,
    python_path,
    run,
    succeed,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

EXAMPLES = Path(__file__).parents[2] / "examples"
# GFN2-xTB, spin-polarised atoms in eV, computed with tblite's own calculator.
FREE_ATOMS = {1: -11.682, 8: -104.037}
# The primitive cell; GFN2-xTB labels it in milliseconds.
DIAMOND = """\
lattice_vector 0.000 1.785 1.785
lattice_vector 1.785 0.000 1.785
lattice_vector 1.785 1.785 0.000
atom_frac 0.00 0.00 0.00 C
atom_frac 0.25 0.25 0.25 C
"""
# tblite's electronic temperature of 300 K: the entropy of an open shell is in its energies.
SMEARING = "occupation_type fermi 0.0258519989\n"


def test_two_commands_do_what_one_does(finished_run, tmp_path) -> None:
    folder = write_inputs(tmp_path / "run")
    succeed(folder, 2, command="FHI_AL-initial-ds")
    assert not (folder / "data" / "final").exists()
    assert (folder / "model").is_dir()
    succeed(folder, 1, command="FHI_AL-al")
    assert datasets(folder) == datasets(finished_run("tblite", 1))


def test_active_learning_from_data_and_models(finished_run, tmp_path, monkeypatch) -> None:
    finished = finished_run("tblite", 1, models="mace")
    # MACE-MP-0 cannot be had here, and is not needed.
    settings = SMALLEST | {"initial_sampling": "mace-mp0"}
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": settings}, models="mace"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, output = run(folder, 2, command="FHI_AL-al")
    assert code == 2
    assert "missing" in output and str(folder / "data" / "initial" / "training") in output
    shutil.copytree(finished / "data" / "initial", folder / "data" / "initial")
    shutil.copytree(finished / "model", folder / "model")
    output = succeed(folder, 2, command="FHI_AL-al")
    assert "starts from the models" in output
    assert (folder / "data" / "final" / "training" / "combined.xyz").is_file()
    # Imported points are not computed; what is computed is counted on top of them.
    origins = [record["origin"]["phase"] for record in labels(folder)]
    n_imported = origins.count("imported")
    sets = (folder / "data" / "initial").glob("*/combined.xyz")
    assert n_imported == sum(len(ase.io.read(path, ":")) for path in sets) > 0
    assert f"labels: {len(origins) - n_imported} computed" in output


@pytest.mark.parametrize("engine", ["tblite", "asi"])
def test_atomic_energies(asi_library, tmp_path, engine) -> None:
    library = asi_library if engine == "asi" else None
    folder = write_inputs(tmp_path / "run", asi_library=library)
    (folder / "mace_settings.yaml").unlink()
    if engine == "asi":
        (folder / "control.in").write_text((folder / "control.in").read_text() + SMEARING)
    succeed(folder, 2, "--elements", "O", command="FHI_AL-atomic-energies")
    succeed(folder, 2, "--elements", "H", command="FHI_AL-atomic-energies")
    table = yaml.safe_load((folder / "atomic_energies.yaml").read_text())
    energies = table["ARCHITECTURE"]["atomic_energies"]
    assert energies == pytest.approx(FREE_ATOMS, abs=1e-3)
    assert "isolated atom H" in (folder / "atomic_energies.log").read_text()
    if engine == "asi":
        atom = (folder / "aims" / "atom_O" / "geometry.in").read_text()
        assert re.search(r"initial_moment\s+2\.0", atom)
        assert "spin collinear" in (folder / "aims" / "atom_O" / "control.in").read_text()


def test_atomic_energies_of_all_elements_in_one_launch(tmp_path, asi_library) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    (folder / "control.in").write_text((folder / "control.in").read_text() + SMEARING)
    succeed(folder, 3, command="FHI_AL-atomic-energies")
    table = yaml.safe_load((folder / "atomic_energies.yaml").read_text())
    assert table["ARCHITECTURE"]["atomic_energies"] == pytest.approx(FREE_ATOMS, abs=1e-3)
    code, output = run(folder, 2, "--elements", "Fe", command="FHI_AL-atomic-energies")
    assert code == 2 and "not in geometry.in" in output


@pytest.mark.parametrize("source", ["chgnet", "mace_file"])
def test_a_foundation_model_samples(finished_run, tmp_path, source) -> None:
    settings = dict(SMALLEST, initial_sampling="foundation")
    if source == "chgnet":
        settings["foundation_calculator"] = "chgnet.model.dynamics.CHGNetCalculator"
    else:
        models = sorted((finished_run("tblite", 1, models="mace") / "model").glob("*.model"))
        shutil.copy(models[0], tmp_path / "foundation.model")
        settings["foundation_model"] = "../foundation.model"
    folder = write_inputs(
        tmp_path / "run",
        active_learning={"ACTIVE_LEARNING": settings},
        geometry=DIAMOND if source == "chgnet" else WATER,
    )
    succeed(folder, 1, command="FHI_AL-initial-ds")
    # One label per sampled point: the MD itself costs no reference calculation.
    assert len(labels(folder)) == 4
    assert len(journal(folder, "ensemble")) == 1


def test_a_foundation_model_that_cannot_compute_the_system_is_refused(tmp_path) -> None:
    settings = dict(
        SMALLEST,
        initial_sampling="foundation",
        foundation_calculator="chgnet.model.dynamics.CHGNetCalculator",
    )
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": settings}, models="mace"
    )
    code, output = run(folder, 2, "--check")
    assert code == 2, output
    assert "ACTIVE_LEARNING.foundation_calculator" in output
    assert "cannot compute geometry.in" in output and "Traceback" not in output


@pytest.mark.parametrize("options", [["--check"], []])
def test_mace_mp_that_cannot_be_had_is_said_before_any_work(tmp_path, options) -> None:
    folder = write_inputs(
        tmp_path / "run",
        active_learning={"ACTIVE_LEARNING": {"initial_sampling": "mace-mp0"}},
        models="mace",
    )
    empty_home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code, output = run(folder, 2, *options, env=empty_home, timeout_s=60)
    assert code == 2, output
    assert "ACTIVE_LEARNING.initial_sampling = mace-mp0" in output
    assert "cannot be fetched" in output and str(tmp_path / "cache") in output
    assert "Traceback" not in output
    assert not (folder / "restart").exists()


def test_python_script_runs_both_procedures(tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", active_learning={"ACTIVE_LEARNING": SMALLEST})
    script = EXAMPLES / "python" / "run_a_folder.py"
    assert len(script.read_text().splitlines()) <= 25
    job = subprocess.run(
        [mpirun(), "-n", "2", sys.executable, str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert job.returncode == 0, job.stdout + job.stderr
    assert (folder / "data" / "final" / "training" / "combined.xyz").is_file()


def test_check_runs_nothing_and_counts_the_work(tmp_path, asi_library) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library, models="mace")
    before = sorted(folder.rglob("*"))
    output = succeed(folder, 2, "--check")
    assert "desired_acc: 0.02" in output and "num_channels: 8" in output
    assert "added to control.in: compute_forces .true." in output
    assert "10 points and 40 reference calculations per round" in output
    assert sorted(folder.rglob("*")) == before


def test_no_snapshots_without_create_restart_and_compiled_models_at_the_end(tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        models="mace",
        mace={"MISC": {"compile_final": True}},
        active_learning={"ACTIVE_LEARNING": SMALLEST, "MISC": {"create_restart": False}},
    )
    succeed(folder, 1)
    assert {path.name for path in (folder / "restart").iterdir()} == {
        "labels.jsonl",
        "journal.jsonl",
        "lock",
    }
    assert not (folder / "checkpoints").exists()
    assert (folder / "data" / "final" / "training" / "combined.xyz").is_file()
    models = {path.stem for path in (folder / "model").glob("*.model")}
    to_mace_model = {name for name in models if not name.endswith("_compiled")}
    assert len(to_mace_model) >= 2
    assert models == to_mace_model | {f"{name}_compiled" for name in to_mace_model}


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize(
    "command", ["FHI_AL", "FHI_AL-initial-ds", "FHI_AL-al", "FHI_AL-atomic-energies"]
)
def test_help_and_version(tmp_path, command, option) -> None:
    output = succeed(tmp_path, 2, option, command=command)
    # Printed once, not by every rank.
    assert output.count("usage: " if option == "--help" else command) == 1


# As files written for the original program look: comments, capitals, lists, superseded keys.
ORIGINAL_AL = """\
ACTIVE LEARNING:
  desired_acc: 0    # not a stop rule here
  lambda: 20.
  n_samples: 2
  valid_ratio: 0.3  # 30 % of the data
  converge_initial: False
  converge_al: True
  converge_best: True
  scheduler_initial: True
  max_initial_epochs: 2
  max_epochs_worker: 2
  max_final_epochs: 2
  intermediate_epochs: 2
  patience: 50
  max_MD_steps: 30
  max_set_size: 11
  valid_skip: 2
  sanity_skip: 50
  ensemble_size: 2
  c_x: -0.5
  dataset_dir: "./data"
  skip_step_initial: 2
  skip_step_mlff: 5
  num_trajectories: 2
  species_dir: "{species}"
  aims_lib_path: "{library}"
  analysis: False
  initial_sampling: AIMD
  initial_foundational_size: "small"
  parallel: True

MD:
  stat_ensemble: nvt
  thermostat: langevin
  temperature: 300
  timestep: 0.5
  friction: 1e-3
  seed: 42

MISC:
  create_restart: True
"""
ORIGINAL_MACE = """\
GENERAL:
  name_exp: test
  log_dir: ./logs
  checkpoints_dir: ./checkpoints
  results_dir: ./results
  model_dir: ./model
  default_dtype: float32
  compute_stress: False
  seed: 100

ARCHITECTURE:
  model: ScaleShiftMACE
  r_max: 3.
  num_channels: 8
  max_L: 0
  max_ell: 2
  radial_type: bessel
  num_radial_basis: 8
  num_cutoff_basis: 5
  interaction: RealAgnosticResidualInteractionBlock
  num_interactions: 2
  correlation: 2
  radial_MLP:
  - 16
  - 16
  gate: silu
  MLP_irreps: 16x0e
  interaction_first: RealAgnosticResidualInteractionBlock
  compute_avg_num_neighbors: True
  atomic_energies:
    1: -11.68
    8: -104.03

TRAINING:
  valid_fraction: 0.1
  batch_size: 5
  valid_batch_size: 5
  weight_decay: 5.e-07
  scaling: rms_forces_scaling
  lr: 0.01
  amsgrad: True
  optimizer: adam
  scheduler: ReduceLROnPlateau
  lr_scheduler_gamma: 0.9993
  lr_factor: 0.8
  scheduler_patience: 5
  swa: False
  ema: True
  ema_decay: 0.99
  max_num_epochs: 30
  loss: weighted
  energy_weight: 1.
  forces_weight: 1000.
  virials_weight: 1.
  stress_weight: 1.
  config_type_weights: {Default: 1.0}
  patience: 15
  clip_grad: 10.
  eval_interval: 5

MISC:
  device: CPU
  keep_checkpoints: False
  restart_latest: False
  error_table: PerAtomMAE
  log_level: INFO
"""


def test_files_of_the_original_program_run_unchanged(asi_library, tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    filled = ORIGINAL_AL.format(species=folder / "species", library=asi_library)
    (folder / "active_learning_settings.yaml").write_text(filled)
    (folder / "mace_settings.yaml").write_text(ORIGINAL_MACE)
    output = succeed(folder, 2)
    assert "layout: rank 1: labels (group 1)" in output  # parallel: true
    assert "TRAINING.max_num_epochs = 30: superseded" in output
    assert "MAE of E" in output  # error_table
    # converge_best: the one member that was converged stands apart.
    models = {path.name: path.read_bytes() for path in (folder / "model").glob("*.model")}
    best = models.pop("test_best.model")
    assert len(models) == 2 and list(models.values()).count(best) == 1
