"""Files that are right: read as meant, with defaults, notes and a faithful written form."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_settings_bad_inputs import AL, GOOD_AL, MACE

from fhi_al.settings import Settings, SettingsError, read_settings

FILES = Path(__file__).parent / "settings_files"


def write(folder: Path, mace: str = "", al: str = "") -> Path:
    """The minimal files with lines added."""
    minimal = FILES / "minimal"
    (folder / "mace_settings.yaml").write_text(
        (minimal / "mace_settings.yaml").read_text() + mace, encoding="utf-8"
    )
    (folder / "active_learning_settings.yaml").write_text(
        (minimal / "active_learning_settings.yaml").read_text() + al, encoding="utf-8"
    )
    return folder


def test_original_files_are_read_as_they_were_meant() -> None:
    settings = read_settings(FILES / "original")

    assert settings.mace is not None
    assert settings.mace.general.name_exp == "water_box"
    assert settings.mace.architecture.atomic_energies == {1: -12.4810138479, 8: -2041.7}
    assert settings.mace.architecture.radial_MLP == (16, 16, 16)
    assert settings.mace.training.weight_decay == 5e-7
    assert settings.mace.misc.device == "cuda"
    assert settings.al.lambda_ == 0.4
    assert settings.al.margin == 1e-3
    assert settings.al.max_final_epochs == 1000
    assert isinstance(settings.al.max_final_epochs, int)
    assert settings.al.initial_sampling == "mace-mp0"
    assert settings.al.initial_foundational_size == "small"
    assert [md.stat_ensemble for md in settings.md] == ["NVT"]
    assert settings.md[0].thermostat == "Langevin"
    assert settings.md[0].temperature == 500.0
    assert settings.misc.create_restart is True


def test_original_files_give_a_note_for_every_key_that_decides_nothing() -> None:
    notes = "\n".join(read_settings(FILES / "original").notes)
    for expected in (
        "TRAINING.valid_fraction = 0.1: superseded: what counts is ACTIVE_LEARNING.valid_ratio.",
        "TRAINING.max_num_epochs = 20: superseded: what counts is ACTIVE_LEARNING.max_initial",
        "TRAINING.eval_interval = 1: superseded: what counts is ACTIVE_LEARNING.valid_skip.",
        "TRAINING.patience = 50: superseded: what counts is ACTIVE_LEARNING.patience.",
        "MISC.restart_latest = false: superseded:",
        "GENERAL.compute_forces = true: has no effect",
        "MISC.save_cpu = true: has no effect",
        "MISC.device = CUDA: read as cuda.",
        "MD.stat_ensemble = nvt: read as NVT.",
        "ACTIVE_LEARNING.desired_acc = 0:",
    ):
        assert expected in notes
    assert "forces_weight" not in notes


@pytest.mark.parametrize("path", ["ase.calculators.emt.EMT", "ase.calculators.emt:EMT"])
def test_both_spellings_of_an_import_path_mean_the_same(tmp_path: Path, path: str) -> None:
    (tmp_path / MACE).write_text("GENERAL: {name_exp: copper}\n")
    (tmp_path / AL).write_text(
        "ACTIVE_LEARNING:\n  max_set_size: 50\n  reference_engine: ase\n"
        f"  reference_calculator: {path}\n"
        f"  initial_sampling: foundation\n  foundation_calculator: '{path}'\n"
    )
    settings = read_settings(tmp_path)
    assert settings.al.reference_calculator == "ase.calculators.emt.EMT"
    assert settings.al.foundation_calculator == "ase.calculators.emt.EMT"


@pytest.mark.parametrize("path", ["EMT", ":EMT", "ase.emt:", "a:b:C", "a:b.C", "ase/emt:EMT"])
def test_what_is_no_import_path_is_refused(tmp_path: Path, path: str) -> None:
    keys = f"  reference_calculator: '{path}'\n"
    with pytest.raises(SettingsError, match="must be an import path such as ase"):
        read_settings(write(tmp_path, al=keys))


def test_a_renamed_key_is_read_under_its_old_name_with_a_note(tmp_path: Path) -> None:
    write(tmp_path, al="  max_setbacks: 3\n")
    settings = read_settings(tmp_path)
    assert settings.al.max_rollbacks == 3
    assert settings.values()["ACTIVE_LEARNING.max_rollbacks"] == 3
    expected = "ACTIVE_LEARNING.max_setbacks = 3: read as max_rollbacks, its name now."
    assert expected in settings.notes


def test_a_renamed_key_is_checked_like_any_other(tmp_path: Path) -> None:
    write(tmp_path, al="  max_setbacks: 0\n")
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path)
    (problem,) = caught.value.problems
    assert problem.line is not None
    assert "max_rollbacks = 0: must be at least 1. Try 10." in problem.message
    write(tmp_path, al="  max_setbacks: 3\n  max_rollbacks: 4\n")
    with pytest.raises(
        SettingsError, match="is the old name of max_rollbacks, which is given, too"
    ):
        read_settings(tmp_path)


@pytest.mark.parametrize("files", ["original", "minimal"])
def test_resolved_settings_written_and_read_again_are_the_same(files: str, tmp_path: Path) -> None:
    settings = read_settings(FILES / files)
    for kind, name in (
        ("mace", "mace_settings.yaml"),
        ("active_learning", "active_learning_settings.yaml"),
    ):
        (tmp_path / name).write_text(settings.as_yaml(kind), encoding="utf-8")  # type: ignore[arg-type]
    again = read_settings(tmp_path)
    assert again == settings
    assert again.as_yaml("mace") == settings.as_yaml("mace")


def test_awkward_texts_survive_being_written_and_read_again(tmp_path: Path) -> None:
    write(
        tmp_path,
        mace="  log_dir: 'logs: # ä'\n"
        "ARCHITECTURE:\n  gate: None\n  atomic_energies: {O: -2041, 1: -13}\n"
        "TRAINING:\n  clip_grad: None\n",
        al="  reference_arguments: {accuracy: 1e-3, code: '1e-3', nested: {a: [1, null, true]}}\n",
    )
    settings = read_settings(tmp_path)
    assert settings.mace is not None
    assert settings.mace.architecture.gate == "None"
    assert settings.mace.architecture.atomic_energies == {1: -13.0, 8: -2041.0}
    assert settings.mace.training.clip_grad is None
    # Unquoted it is a number, as everywhere; quoted the user means text.
    assert settings.al.reference_arguments == {
        "accuracy": 1e-3,
        "code": "1e-3",
        "nested": {"a": [1, None, True]},
    }
    for kind, name in (
        ("mace", "mace_settings.yaml"),
        ("active_learning", "active_learning_settings.yaml"),
    ):
        (tmp_path / name).write_text(settings.as_yaml(kind), encoding="utf-8")  # type: ignore[arg-type]
    assert read_settings(tmp_path) == settings


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        ("TRAINING:\n  lr: 1e-3\n", "training.lr", 1e-3),
        ("TRAINING:\n  lr: '1.0e-3'\n", "training.lr", 1e-3),
        ("TRAINING:\n  weight_decay: .5e-6\n", "training.weight_decay", 5e-7),
        ("TRAINING:\n  batch_size: 1.0e1\n", "training.batch_size", 10),
        ("TRAINING:\n  batch_size: 010\n", "training.batch_size", 10),
        ("TRAINING:\n  ema: 'True'\n", "training.ema", True),
        ("TRAINING:\n  amsgrad: no\n", "training.amsgrad", False),
        ("ARCHITECTURE:\n  radial_MLP: '[16, 8]'\n", "architecture.radial_MLP", (16, 8)),
        ("ARCHITECTURE:\n  MLP_irreps: 8x0e + 4x0e\n", "architecture.MLP_irreps", "8x0e+4x0e"),
        ("ARCHITECTURE:\n  model: scaleshiftmace\n", "architecture.model", "ScaleShiftMACE"),
        ("ARCHITECTURE:\n  gate: null\n", "architecture.gate", "None"),
        ("MISC:\n  device: cuda:1\n", "misc.device", "cuda:1"),
        ("MISC: &m\n  log_level: debug\n", "misc.log_level", "DEBUG"),
        ("MISC:\n", "misc.device", "cpu"),
    ],
)
def test_spellings_of_a_value(line: str, path: str, expected: Any, tmp_path: Path) -> None:
    value: Any = read_settings(write(tmp_path, mace=line)).mace
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    write(
        tmp_path,
        mace="TRAINING: &base\n  lr: 0.005\n  batch_size: 3\n",
        al="MD:\n  <<: &hot {temperature: 900, timestep: 0.5}\n  timestep: 2\n",
    )
    md = read_settings(tmp_path).md[0]
    assert (md.temperature, md.timestep) == (900.0, 2.0)


def test_one_md_block_may_stand_in_a_list(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, al="MD:\n  - temperature: 77\n"))
    assert settings.md[0].temperature == 77.0
    assert settings.problem("active_learning", "MD.temperature", "is too cold").line == 6


def test_keys_of_an_engine_that_was_not_chosen_are_noted(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, al="  species_dir: light\n"))
    assert settings.notes == (
        "ACTIVE_LEARNING.species_dir = light: has no effect with reference_engine: tblite.",
        "ACTIVE_LEARNING.desired_acc = 0: no accuracy ends a phase; the initial dataset ends after"
        " max_initial_epochs.",
    )


@pytest.mark.parametrize(
    ("section", "line", "expected"),
    [
        ("mace", "TRAINING:\n  stress_weight: 5\n", "has no effect with loss weighted"),
        ("mace", "TRAINING:\n  huber_delta: 0.1\n", "has no effect with loss weighted"),
        ("mace", "TRAINING:\n  swa_stress_weight: 5\n", "has no effect with loss weighted"),
        ("mace", "  compute_stress: true\n", "loss = weighted does not train on the stress"),
        ("al", "  max_stress: 3\n", "has no effect without GENERAL.compute_stress"),
        ("mace", "TRAINING:\n  ema: false\n  ema_decay: 0.9\n", "has no effect without ema"),
        ("mace", "TRAINING:\n  scheduler: exponentiallr\n  lr_factor: 0.5\n", "ExponentialLR"),
        ("al", "MD:\n  stat_ensemble: NVE\n  friction: 0.1\n", "has no effect with NVE"),
        ("al", "MD:\n  thermostat: Bussi\n  friction: 0.1\n", "has no effect with Bussi"),
        ("al", "  sanity_skip: 7\n", "has no effect without analysis"),
        ("al", "  calibration_window: 70\n", "has no effect without analysis"),
        ("al", "  calibrated_threshold: 0.2\n", "has no effect without calibrate"),
        ("al", "  threshold_quantile: 0.9\n", "with threshold_type: moving_average"),
        ("al", "  reference_groups: 2\n", "has no effect without parallel"),
        ("al", "  rescore_queue: false\n", "has no effect without parallel"),
        ("al", "  foundation_model: a.model\n", "has no effect with initial_sampling: aimd"),
    ],
)
def test_a_key_without_effect_is_noted(
    section: str, line: str, expected: str, tmp_path: Path
) -> None:
    settings = read_settings(write(tmp_path, **{section: line}))
    assert any(expected in note for note in settings.notes)


def test_atomic_energies_need_no_mace_file_and_no_stop_rule(tmp_path: Path) -> None:
    (tmp_path / "active_learning_settings.yaml").write_text(
        "ACTIVE_LEARNING:\n  reference_engine: tblite\n"
    )
    settings = read_settings(tmp_path, needs_mace=False)
    assert settings.mace is None
    with pytest.raises(ValueError, match="was not read"):
        settings.as_yaml("mace")


def test_later_checks_find_file_line_and_value_of_a_key() -> None:
    settings = read_settings(FILES / "original")
    problem = settings.problem("mace", "MISC.device", "there is no GPU here. Set cpu")
    assert (
        str(problem) == "mace_settings.yaml:61: MISC.device = CUDA: there is no GPU here. Set cpu."
    )
    defaulted = settings.problem("active_learning", "ACTIVE_LEARNING.max_force", "is too small")
    assert defaulted.line is None
    assert str(defaulted) == (
        "active_learning_settings.yaml: ACTIVE_LEARNING.max_force = 300.0 (the default):"
        " is too small."
    )
    # The section was spelt with a blank; its keys are found by the one name all the same.
    spelt = settings.problem("active_learning", "ACTIVE_LEARNING.species_dir", "lacks hydrogen")
    assert spelt.line == 27
    with pytest.raises(KeyError):
        settings.problem("mace", "MISC.devise", "")


def test_relative_paths_count_from_the_folder_of_the_run(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, al="  foundation_model: models/a.model\n"))
    assert settings.al.foundation_model is not None
    assert settings.resolve(settings.al.foundation_model) == tmp_path / "models" / "a.model"


def test_settings_can_be_sent_to_another_process() -> None:
    settings = read_settings(FILES / "original")
    sent: Settings = pickle.loads(pickle.dumps(settings))
    assert sent == settings
    assert sent.problem("mace", "MISC.device", "x") == settings.problem("mace", "MISC.device", "x")


def test_reading_settings_imports_neither_torch_nor_mace() -> None:
    # A rank that only labels reads settings; torch alone would cost it 300 MB.
    code = (
        "import sys, fhi_al.settings\n"
        "sys.exit(','.join({'torch', 'mace', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_weight_that_only_imported_data_can_have_is_noted(tmp_path: Path) -> None:
    (tmp_path / MACE).write_text("TRAINING:\n  config_type_weights: {bulk: 2, initail: 3}\n")
    (tmp_path / AL).write_text(GOOD_AL)
    notes = read_settings(tmp_path).notes
    assert (
        "TRAINING.config_type_weights: bulk: counts for imported data with that config_type only."
        in notes
    )
    assert any("initail" in note and "Did you mean initial?" in note for note in notes)
