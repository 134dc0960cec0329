"""Files that are wrong: every problem with file, line, key and a way to fix it; nothing runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from fhi_al.settings import Problem, SettingsError, read_settings

GOOD_MACE = "GENERAL:\n  name_exp: ethanol\n"
GOOD_AL = "ACTIVE_LEARNING:\n  max_set_size: 50\n  reference_engine: tblite\n"
MACE = "mace_settings.yaml"
AL = "active_learning_settings.yaml"


def problems_of(
    folder: Path, mace: str | bytes = GOOD_MACE, al: str | bytes = GOOD_AL
) -> list[Problem]:
    for name, content in ((MACE, mace), (AL, al)):
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)
    with pytest.raises(SettingsError) as caught:
        read_settings(folder)
    return list(caught.value.problems)


@dataclass(frozen=True)
class Bad:
    """Text added to a good file, and the one problem it must give."""

    file: str
    text: str
    line: int | None
    key: str | None
    hint: str


def mace(text: str, line: int | None, key: str | None, hint: str) -> Bad:
    return Bad(MACE, text, line, key, hint)


def al(text: str, line: int | None, key: str | None, hint: str) -> Bad:
    return Bad(AL, text, line, key, hint)


# The good files have 2 and 3 lines; indented text goes on with GENERAL and ACTIVE_LEARNING.
TABLE = [
    # names
    mace("  sed: 1\n", 3, "GENERAL.sed", "Did you mean seed?"),
    mace("TRAINING:\n  batchsize: 5\n", 4, "TRAINING.batchsize", "Did you mean batch_size?"),
    mace("  LR: 1\n", 3, "GENERAL.LR", "Did you mean lr in TRAINING?"),
    mace("  lr: 0.1\n", 3, "GENERAL.lr", "It belongs in TRAINING."),
    mace("ARCHITECTURE:\n  max_l: 1\n", 4, "ARCHITECTURE.max_l", "Did you mean max_L?"),
    mace("  ensemble_size: 4\n", 3, "GENERAL.ensemble_size", "ACTIVE_LEARNING of " + AL),
    mace("  zzzz: 4\n", 3, "GENERAL.zzzz", "docs/reference/settings.md lists all keys"),
    mace("TRANING:\n  lr: 0.1\n", 3, "TRANING", "Did you mean TRAINING?"),
    mace("training:\n  lr: 0.1\n", 3, "training", "Did you mean TRAINING?"),
    mace("lr: 0.1\n", 3, "lr", "It belongs in section TRAINING."),
    mace("MD:\n  seed: 1\n", 3, "MD", f"It belongs in {AL}."),
    al("  analysis_skip: 5\n", 4, "ACTIVE_LEARNING.analysis_skip", "Did you mean sanity_skip?"),
    al("MD:\n  temprature: 5\n", 5, "MD.temprature", "Did you mean temperature?"),
    # twice
    mace("  seed: 1\n  seed: 2\n", 4, "GENERAL.seed", "already given in line 3"),
    mace("MISC:\n  device: cpu\nMISC:\n", 5, "MISC", "already given in line 3"),
    al("ACTIVE LEARNING:\n  c_x: 0\n", 4, "ACTIVE_LEARNING", "already in line 1. Merge the two"),
    mace(
        "ARCHITECTURE:\n  atomic_energies: {1: -13., H: -12.}\n",
        4,
        "ARCHITECTURE.atomic_energies",
        "atomic number 1 twice",
    ),
    # types
    mace("  seed: 1.5\n", 3, "GENERAL.seed", "must be a whole number. Try 123."),
    mace("  seed: true\n", 3, "GENERAL.seed", "must be a whole number"),
    mace("  seed: one\n", 3, "GENERAL.seed", "must be a whole number"),
    mace("TRAINING:\n  ema: 1\n", 4, "TRAINING.ema", "must be true or false. Try true."),
    mace("TRAINING:\n  lr: fast\n", 4, "TRAINING.lr", "must be a number. Try 0.01."),
    mace("TRAINING:\n  lr: 0,01\n", 4, "TRAINING.lr", "must be a number. Try 0.01."),
    mace("TRAINING:\n  batch_size: 1:30\n", 4, "TRAINING.batch_size", "must be a whole number"),
    mace("TRAINING:\n  lr:\n", 4, "TRAINING.lr", "= null: must be a number"),
    mace("TRAINING:\n  lr: [0.1]\n", 4, "TRAINING.lr", "must be a number"),
    mace("TRAINING: 5\n", 3, "TRAINING", "expected keys below it, found 5"),
    mace("TRAINING:\n  - lr: 1\n", 3, "TRAINING", "expected keys below it"),
    mace("  log_dir: 5\n", 3, "GENERAL.log_dir", "must be a path"),
    al("  reference_arguments: 3\n", 4, "ACTIVE_LEARNING.reference_arguments", "mapping"),
    # range
    mace("TRAINING:\n  lr: .nan\n", 4, "TRAINING.lr", "must be a finite number"),
    mace("TRAINING:\n  lr: inf\n", 4, "TRAINING.lr", "must be a finite number"),
    mace("TRAINING:\n  lr: -1e-3\n", 4, "TRAINING.lr", "must be above 0. Try 0.01."),
    mace("  seed: -1\n", 3, "GENERAL.seed", "must be at least 0"),
    mace("  seed: 4294967296\n", 3, "GENERAL.seed", "must be at most 4294967295"),
    al("  c_x: 1.3\n", 4, "ACTIVE_LEARNING.c_x", "= 1.3: must be below 1. Try 0.2."),
    al("  ensemble_size: 1\n", 4, "ACTIVE_LEARNING.ensemble_size", "must be at least 2. Try 4."),
    al("  desired_acc: -1\n", 4, "ACTIVE_LEARNING.desired_acc", "at least 0 eV/A. Try 0.05."),
    al("  valid_ratio: 1\n", 4, "ACTIVE_LEARNING.valid_ratio", "must be below 1. Try 0.1."),
    al("  n_samples: 1\n", 4, "ACTIVE_LEARNING.n_samples", "must be at least 2"),
    al("  lambda: 0\n", 4, "ACTIVE_LEARNING.lambda", "must be above 0"),
    al("MD:\n  temperature: 0\n", 5, "MD.temperature", "must be above 0 K. Try 300.0."),
    al("MD:\n  timestep: 500\n", 5, "MD.timestep", "must be at most 20 fs. Try 1.0."),
    # choices
    mace("MISC:\n  device: gpu\n", 4, "MISC.device", "one of cpu, cuda,"),
    mace("  default_dtype: float16\n", 3, "GENERAL.default_dtype", "Did you mean float"),
    mace(
        "ARCHITECTURE:\n  interaction: RealAgnosticResidualInteractionBlok\n",
        4,
        "ARCHITECTURE.interaction",
        "Did you mean RealAgnosticResidualInteractionBlock?",
    ),
    mace("ARCHITECTURE:\n  gate: relu\n", 4, "ARCHITECTURE.gate", "silu, tanh, abs, None"),
    mace("ARCHITECTURE:\n  MLP_irreps: 16x1o\n", 4, "ARCHITECTURE.MLP_irreps", "such as 16x0e"),
    mace("ARCHITECTURE:\n  radial_MLP: 64\n", 4, "ARCHITECTURE.radial_MLP", "[64, 64, 64]"),
    mace("ARCHITECTURE:\n  radial_MLP: [0]\n", 4, "ARCHITECTURE.radial_MLP", "at least 1"),
    mace(
        "ARCHITECTURE:\n  atomic_energies: {Xx: -1.}\n",
        4,
        "ARCHITECTURE.atomic_energies",
        "Xx is neither an atomic number nor an element symbol",
    ),
    mace(
        "ARCHITECTURE:\n  atomic_energies: {1: abc}\n",
        4,
        "ARCHITECTURE.atomic_energies",
        "1: abc must be a number, in eV",
    ),
    mace(
        "TRAINING:\n  config_type_weights: {3: 1}\n",
        4,
        "TRAINING.config_type_weights",
        "3 is no config type",
    ),
    al("MD:\n  thermostat: Langevim\n", 5, "MD.thermostat", "Did you mean Langevin?"),
    al("  initial_sampling: mace\n", 4, "ACTIVE_LEARNING.initial_sampling", "mace-mp0, aimd"),
    al(
        "  training_ranks: 0\n",
        4,
        "ACTIVE_LEARNING.training_ranks",
        "at least 1, or auto. Try auto",
    ),
    al("  training_ranks: many\n", 4, "ACTIVE_LEARNING.training_ranks", "at least 1, or auto"),
    # not supported yet, by name
    mace("  compute_stress: 1\n", 3, "GENERAL.compute_stress", "must be true or false"),
    mace("  compute_forces: false\n", 3, "GENERAL.compute_forces", "forces are always computed"),
    mace("TRAINING:\n  swa: true\n  loss: forces_only\n", 4, "TRAINING.swa", "train energies"),
    mace(
        "TRAINING:\n  swa: true\n  swa_energy_weight: 0\n  swa_forces_weight: 0\n",
        6,
        "TRAINING.swa_forces_weight",
        "nothing to train on",
    ),
    mace("TRAINING:\n  start_swa: 0\n", 4, "TRAINING.start_swa", "at least 1"),
    mace("TRAINING:\n  swa_lr: 0\n", 4, "TRAINING.swa_lr", "above 0"),
    mace("TRAINING:\n  loss: universal\n", 4, "TRAINING.loss", "Set GENERAL.compute_stress to tr"),
    mace("TRAINING:\n  loss: Stress\n", 4, "TRAINING.loss", "Set GENERAL.compute_stress to true"),
    mace("MISC:\n  error_table: PerAtomMAEstressvirials\n", 4, "MISC.error_table", "the stress"),
    al("  stress_threshold: 0\n", 4, "ACTIVE_LEARNING.stress_threshold", "above 0 eV/A^3"),
    mace("ARCHITECTURE:\n  model: PolarMACE\n", 4, "ARCHITECTURE.model", "not supported yet"),
    al("MD:\n  barostat: Parrinello\n", 5, "MD.barostat", "CellRescaling"),
    # MD blocks and schedules
    al(
        "MD:\n  - name: a\n  - seed: 2\n  - name: a\n",
        7,
        "MD[2].name",
        "= a: is the name of MD[0], too: labels would not say which block they are of. Give each",
    ),
    al("MD:\n  0: {seed: 1}\n  1: {name: a/b}\n", 6, "MD[1].name", "must be a plain name"),
    al(
        "  num_trajectories: 2\nMD:\n  - seed: 1\n  - temperature: 500\n  - name: hot\n",
        8,
        "MD[2]",
        "no trajectory runs MD block hot: there are 3 blocks and num_trajectories = 2. Make that 3",
    ),
    al(
        "MD:\n  temperature: [300, 400, 500, 600, 700]\n",
        4,
        "MD",
        "no trajectory runs MD block 700K: there are 5 blocks and num_trajectories = 4",
    ),
    al("MD:\n  temperature: [300, 0]\n", 5, "MD.temperature", "must be above 0 K. Try 300"),
    al("MD:\n  temperature: []\n", 5, "MD.temperature", "expected a temperature for each MD bl"),
    al(
        "MD:\n  temperature: {from: 300, to: 500}\n",
        5,
        "MD.temperature",
        "a ramp lacks over: expected {from: 300, to: 1200, over: 5000} (MD steps).",
    ),
    al(
        "MD:\n  temperature: {from: 300, to: 500, over: 100, at: 3}\n",
        5,
        "MD.temperature",
        "a ramp has no at: expected {from",
    ),
    al(
        "MD:\n  temperature: {from: 300, to: -1, over: 100}\n",
        5,
        "MD.temperature",
        "to: must be above 0 K",
    ),
    al(
        "MD:\n  temperature: {from: 300, to: 500, over: 0}\n",
        5,
        "MD.temperature",
        "over: must be a whole number of MD steps, at least 1",
    ),
    al(
        "MD:\n  temperature: {10: 300, 20: 400}\n",
        5,
        "MD.temperature",
        "must say what holds from MD step 0 on, such as {0: 300, 2000: 600}.",
    ),
    al("MD:\n  temperature: {0: 300, -5: 400}\n", 5, "MD.temperature", "-5 is no MD step"),
    al("MD:\n  temperature: {0: hot}\n", 5, "MD.temperature", "0: must be a number"),
    al("MD:\n  pressure: [1, 2]\n", 5, "MD.pressure", "a list of MD blocks has several"),
    al("MD:\n  pressure: {0: 1, 5: 1000}\n", 5, "MD.pressure", "5: must be below 1000 GPa"),
    al(
        "MD:\n  temperature: {0: 300, 5: 400}\n  stat_ensemble: NVE\n",
        5,
        "MD.temperature",
        "NVE has no thermostat that could follow it. Give one temperature, or use NVT",
    ),
    # between keys
    mace(
        "TRAINING:\n  forces_weight: 0\n  energy_weight: 0\n",
        4,
        "TRAINING.forces_weight",
        "nothing to train on",
    ),
    mace("MISC:\n  device: mps\n", 4, "MISC.device", "Set GENERAL.default_dtype to float32"),
    mace(
        "ARCHITECTURE:\n  max_L: 2\n  max_ell: 1\n  correlation: 1\n",
        4,
        "ARCHITECTURE.max_L",
        "at most max_ell x correlation = 1",
    ),
    al("  threshold_window: 5\n", 4, "ACTIVE_LEARNING.threshold_window", "threshold_warmup = 10"),
    al("  calibrate: true\n  desired_acc: 0.1\n", 4, "ACTIVE_LEARNING.calibrate", "analysis: true"),
    al("  analysis: true\n  calibrate: true\n", 5, "ACTIVE_LEARNING.calibrate", "Give calibrated_"),
    al(
        "  analysis: true\n  calibrated_threshold: 0.2\n  calibrate: true\n"
        "  calibration_warmup: 30\n  calibration_window: 20\n",
        8,
        "ACTIVE_LEARNING.calibration_window",
        "at least calibration_warmup = 30",
    ),
    al(
        "  analysis: true\n  desired_acc: 0.2\n  calibrate: true\n  max_MD_steps: 499\n",
        6,
        "ACTIVE_LEARNING.calibrate",
        "4 trajectories of max_MD_steps = 499 have 16 in all. Make sanity_skip smaller",
    ),
    al("  max_MD_steps: 5\n", 4, "ACTIVE_LEARNING.max_MD_steps", "before its first uncertainty"),
    al("  initial_sampling: [aimd, AIMD]\n", 4, "ACTIVE_LEARNING.initial_sampling", "aimd twice"),
    al("  initial_sampling: []\n", 4, "ACTIVE_LEARNING.initial_sampling", "or a list of them"),
    al(
        "  initial_sampling: [displaced, foundatio]\n",
        4,
        "ACTIVE_LEARNING.initial_sampling",
        "Did you mean foundation?",
    ),
    al(
        "  initial_sampling: displaced\n  displaced: {volume_range: [1.1, 0.9]}\n",
        5,
        "ACTIVE_LEARNING.displaced.volume_range",
        "the smaller one first",
    ),
    al(
        "  initial_sampling: displaced\n  displaced:\n    ratle: 0.1\n",
        6,
        "ACTIVE_LEARNING.displaced.ratle",
        "Did you mean rattle?",
    ),
    al(
        "  displaced:\n    rattled: 3\n",
        5,
        "ACTIVE_LEARNING.displaced.rattled",
        "has an effect only with initial_sampling: displaced",
    ),
    al("  initial_sampling: foundation\n", 4, "ACTIVE_LEARNING.initial_sampling", "exactly one of"),
    al("  foundation_model: a\n", 4, "ACTIVE_LEARNING.foundation_model", "Add that line, or"),
    al(
        "  reference_arguments: {method: GFN1-xTB}\n",
        4,
        "ACTIVE_LEARNING.reference_arguments",
        "set by reference_method",
    ),
    # not YAML, or too much of it
    mace("\tseed: 1\n", 3, None, "Indent with spaces, never with tabs"),
    mace("  seed: [1, 2\n", 4, None, "not YAML"),
    mace("   seed: 1\n", 3, None, "Check the indentation"),
    mace("---\nMISC: {}\n", 3, None, "One file holds one document"),
    mace("  seed: \x07\n", 3, None, "control character"),
    mace("  seed: *nowhere\n", 3, None, "undefined alias"),
    mace("MISC: &m {device: *m}\n", 3, "MISC.device", "contains itself"),
    mace("  seed: !!binary aGk=\n", 3, "GENERAL.seed", "tag !!binary is not allowed"),
    mace("  ? [a, b]\n  : 1\n", 3, "GENERAL", "a key must be a word or a whole number"),
]


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: f"{bad.key or 'file'}: {bad.text.strip()}")
def test_a_bad_input_is_reported_where_it_stands(bad: Bad, tmp_path: Path) -> None:
    if bad.file == MACE:
        found = problems_of(tmp_path, mace=GOOD_MACE + bad.text)
    else:
        found = problems_of(tmp_path, al=GOOD_AL + bad.text)
    assert [(p.file, p.line, p.key) for p in found] == [(bad.file, bad.line, bad.key)], found
    assert bad.hint in str(found[0])
    place = bad.file if bad.line is None else f"{bad.file}:{bad.line}"
    assert str(found[0]).startswith(f"{place}: ")


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "..", ".hidden", "a b", "''", "12", "-x", "a\\b", "x" * 101]
)
def test_the_name_of_the_run_cannot_leave_its_folder(name: str, tmp_path: Path) -> None:
    found = problems_of(tmp_path, mace=f"GENERAL:\n  name_exp: {name}\n")
    assert [(p.line, p.key) for p in found] == [(2, "GENERAL.name_exp")]


@pytest.mark.parametrize(
    ("content", "line", "hint"),
    [
        (b"", None, "is empty"),
        (b"# only a comment\n\n", None, "is empty"),
        (b"\x7fELF\x00\x01\x02", None, "binary file"),
        ("GENERAL: {seed: 1}\n".encode("utf-16"), None, "binary file (or UTF-16)"),
        (b"GENERAL:\n  name_exp: caf\xe9\n", None, "is not UTF-8 text (line 2)"),
        (b"- GENERAL\n- MISC\n", 1, "found a list"),
        (b"just words\n", 1, "found the text just words"),
        (b"[" * 5000, None, "nested too deeply"),
        (b"# " + b"x" * 1_000_001, None, "is larger than"),
    ],
    ids=["empty", "comment", "binary", "utf-16", "latin-1", "list", "text", "deep", "large"],
)
def test_a_file_that_is_no_settings_file_gives_one_problem(
    content: bytes, line: int | None, hint: str, tmp_path: Path
) -> None:
    for file, given in ((MACE, {"mace": content}), (AL, {"al": content})):
        found = problems_of(tmp_path, **given)
        assert [(p.file, p.line, p.key) for p in found] == [(file, line, None)]
        assert hint in found[0].message


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"], ids=ascii)
def test_a_comment_in_a_settings_file_ends_with_its_line(character: str, tmp_path: Path) -> None:
    given = f"\ufeffGENERAL:  # was:{character}  seed: 3\r\n  seed: 5\r  nmae_exp: x\n"
    (problem,) = problems_of(tmp_path, mace=given)
    assert (problem.line, problem.key) == (3, "GENERAL.nmae_exp")


def test_a_missing_file_and_a_folder_in_its_place_are_both_reported(tmp_path: Path) -> None:
    (tmp_path / MACE).mkdir()
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{MACE}: is a folder; expected a YAML file",
        f"{AL}: not found in {tmp_path}. FHI_AL-init FOLDER --geometry FILE writes a first one",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_reported(tmp_path: Path) -> None:
    (tmp_path / MACE).write_text(GOOD_MACE)
    (tmp_path / MACE).chmod(0)
    (tmp_path / AL).write_text(GOOD_AL)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(tmp_path)


def test_python_tags_are_refused_and_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    found = problems_of(
        tmp_path,
        mace=f"GENERAL:\n  name_exp: !!python/object/apply:pathlib.Path.touch [{mark}]\n"
        "  seed: !mine 3\n",
        al=f"ACTIVE_LEARNING: !!python/object/new:os.system ['touch {mark}']\n",
    )
    assert not mark.exists()
    assert [(p.file, p.line, p.key) for p in found] == [
        (MACE, 2, "GENERAL.name_exp"),
        (MACE, 3, "GENERAL.seed"),
        (AL, 1, "ACTIVE_LEARNING"),
    ]
    assert all("Nothing was executed" in p.message for p in found)


def test_aliases_that_expand_without_end_are_refused_quickly(tmp_path: Path) -> None:
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    found = problems_of(tmp_path, mace=bomb)
    assert any("more than 20000 values" in p.message for p in found)


def test_what_the_chosen_engine_needs_is_asked_for(tmp_path: Path) -> None:
    found = problems_of(tmp_path, al="ACTIVE_LEARNING:\n  max_set_size: 9\n")
    assert [(p.file, p.line, p.key) for p in found] == [
        (AL, None, "ACTIVE_LEARNING.aims_lib_path"),
    ]
    assert "reference_engine: tblite" in found[0].message
    found = problems_of(
        tmp_path, al="ACTIVE_LEARNING:\n  max_set_size: 9\n  reference_engine: ase\n"
    )
    assert [p.key for p in found] == ["ACTIVE_LEARNING.reference_calculator"]
    assert "ase.calculators.emt.EMT" in found[0].message


def test_a_key_of_another_engine_without_that_engine_is_an_oversight(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        al="ACTIVE_LEARNING:\n  max_set_size: 9\n  species_dir: s\n  aims_lib_path: l\n"
        "  reference_method: GFN1-xTB\n",
    )
    assert [(p.line, p.key) for p in found] == [(5, "ACTIVE_LEARNING.reference_method")]
    assert "only with reference_engine: tblite" in found[0].message


def test_something_must_stop_active_learning(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path, al="ACTIVE_LEARNING:\n  desired_acc: 0\n  reference_engine: tblite\n"
    )
    assert [(p.line, p.key) for p in found] == [(2, "ACTIVE_LEARNING.desired_acc")]
    assert (
        "desired_acc (above 0, in eV/A), max_set_size, max_MD_steps and label_budget"
        in found[0].message
    )
    for rule in ("desired_acc: 0.1", "max_set_size: 5", "max_MD_steps: 1000"):
        (tmp_path / AL).write_text(f"ACTIVE_LEARNING:\n  {rule}\n  reference_engine: tblite\n")
        read_settings(tmp_path)


def test_all_problems_of_both_files_come_in_one_message(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        mace="GENERAL:\n  seed: x\nTRAINING:\n  lr: 0\n  batchsize: 1\n",
        al="ACTIVE_LEARNING:\n  c_x: 2\n  max_set_sze: 10\nMD:\n  seed: -1\n",
    )
    assert [(p.file, p.line) for p in found] == [
        (MACE, 2),
        (MACE, 4),
        (MACE, 5),
        # max_set_size was misspelt: that no stop rule is left is not said on top of it.
        (AL, None),
        (AL, 2),
        (AL, 3),
        (AL, 5),
    ]


def test_a_refused_key_is_not_also_reported_by_the_rules_between_keys(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        al="ACTIVE_LEARNING:\n  reference_engine: vasp\n  max_set_size: 9\n  threshold_warmup: 0\n"
        "  threshold_window: 4\n",
    )
    assert [p.key for p in found] == [
        "ACTIVE_LEARNING.reference_engine",
        "ACTIVE_LEARNING.threshold_warmup",
    ]


def test_every_block_of_a_list_is_checked(tmp_path: Path) -> None:
    blocks = "MD:\n  - timestep: 1\n  - timestep: 0\n  - frction: 1\n"
    found = problems_of(tmp_path, al=GOOD_AL + blocks)
    assert [(p.line, p.key) for p in found] == [(6, "MD[1].timestep"), (7, "MD[2].frction")]


@pytest.mark.parametrize(
    ("budget", "final_test", "fewest"),
    [(40, "0", 41), (42, "auto", 45), (60, "100", 141), (60, "20", 61)],
)
def test_a_budget_pays_for_the_first_round_the_final_test_and_something_between(
    budget: int, final_test: str, fewest: int, tmp_path: Path
) -> None:
    def text(label_budget: int) -> str:
        return (
            f"ACTIVE_LEARNING:\n  label_budget: {label_budget}\n  final_test: {final_test}\n"
            "  n_samples: 10\n  ensemble_size: 4\n  reference_engine: tblite\n"
        )

    (tmp_path / MACE).write_text("GENERAL:\n  seed: 1\n")
    (tmp_path / AL).write_text(text(budget))
    with pytest.raises(SettingsError, match=f"Expected {fewest} or more") as raised:
        read_settings(tmp_path)
    assert raised.value.problems[0].key == "ACTIVE_LEARNING.label_budget"
    (tmp_path / AL).write_text(text(fewest))
    read_settings(tmp_path)
