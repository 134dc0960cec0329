"""--set: a key of the command line is one of the file, but for what messages name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhi_al.settings import SettingsError, read_settings
from fhi_al.settings.changes import changes

MACE = "ARCHITECTURE:\n  r_max: 4.0\nMISC:\n  device: cpu\n"
AL = """\
ACTIVE_LEARNING:
  reference_engine: tblite
  initial_sampling: [displaced, aimd]
  desired_acc: 0.02
  c_x: 0.1
"""
BLOCKS = "MD:\n- temperature: 300\n- temperature: 600\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mace_settings.yaml").write_text(MACE)
    (tmp_path / "active_learning_settings.yaml").write_text(AL)
    return tmp_path


def problems(folder: Path, *given: str, **how: bool) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(folder, given=given, **how)
    return [str(problem) for problem in caught.value.problems]


def test_a_run_with_it_is_the_run_of_a_file_with_the_key(folder: Path) -> None:
    keys = ("ACTIVE_LEARNING.c_x=0.2", "MISC.device=cuda", "MISC.snapshot_interval=5")
    nested = ("ACTIVE_LEARNING.displaced.rattled=7", "MD.temperature=[300, 600]")
    found = read_settings(folder, given=(*keys, *nested))
    al = AL.replace("c_x: 0.1", "c_x: 0.2\n  displaced: {rattled: 7}")
    (folder / "active_learning_settings.yaml").write_text(
        f"{al}MD:\n  temperature: [300, 600]\nMISC:\n  snapshot_interval: 5\n"
    )
    (folder / "mace_settings.yaml").write_text(MACE.replace("cpu", "cuda"))
    same = read_settings(folder)
    assert found == same
    assert found.values() == same.values()
    assert found.given("active_learning") == same.given("active_learning")
    assert found.as_yaml("active_learning") == same.as_yaml("active_learning")
    assert "ACTIVE_LEARNING.c_x = 0.2: by --set." in found.notes


def test_a_continued_run_compares_it_as_one_of_the_file(folder: Path) -> None:
    before = read_settings(folder).values()
    now = read_settings(folder, given=("ACTIVE_LEARNING.c_x=0.2", "ARCHITECTURE.r_max=5"))
    assert changes(before, now.values()) == (
        ["ACTIVE_LEARNING.c_x: 0.1 -> 0.2"],
        ["ARCHITECTURE.r_max: 4.0 -> 5.0"],
    )
    # What a run began with stays, where no file and no option says otherwise.
    began = before | {"ACTIVE_LEARNING.ensemble_size": 7}
    assert read_settings(folder).with_values_of(began).al.ensemble_size == 7
    given = read_settings(folder, given=("ACTIVE_LEARNING.ensemble_size=4",))
    assert given.with_values_of(began).al.ensemble_size == 4


def test_of_the_same_key_the_last_counts_and_none_is_a_value(folder: Path) -> None:
    given = ("ACTIVE_LEARNING.c_x=0.2", "ACTIVE_LEARNING.c_x=-1e-1", "TRAINING.clip_grad=None")
    found = read_settings(folder, given=given)
    assert found.al.c_x == -0.1
    assert found.mace is not None and found.mace.training.clip_grad is None


def test_a_block_of_several_is_named_by_its_number(folder: Path) -> None:
    (folder / "active_learning_settings.yaml").write_text(AL + BLOCKS)
    found = read_settings(folder, given=("MD[1].temperature=900",))
    assert [md.temperature for md in found.md] == [300.0, 900.0]
    (message,) = problems(folder, "MD.temperature=900")
    assert message.startswith("--set MD.temperature: MD has 2 blocks: expected the one")
    assert problems(folder, "MD[2].temperature=9") == [
        "--set MD[2].temperature: MD has 2 block(s), counted from 0."
    ]
    (wrong,) = problems(folder, "MD[1].timestep=-1")
    assert wrong.startswith("--set MD[1].timestep: MD[1].timestep = -1: must be above 0")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "ACTIVE_LEARNING.c_x=1.3",
            "--set ACTIVE_LEARNING.c_x: ACTIVE_LEARNING.c_x = 1.3: must be below 1. Try 0.2.",
        ),
        (
            "ACTIVE_LEARNING.c_xx=1",
            "--set ACTIVE_LEARNING.c_xx: unknown key ACTIVE_LEARNING.c_xx. Did you mean c_x?",
        ),
        (
            "ACTIVE_LEARNIN.c_x=1",
            "--set ACTIVE_LEARNIN.c_x: unknown section ACTIVE_LEARNIN."
            " Did you mean ACTIVE_LEARNING?",
        ),
        (
            "c_x=1",
            "--set c_x=1: no key: expected SECTION.key=value, such as ACTIVE_LEARNING.c_x=0.2.",
        ),
        (
            "MISC.devize=1",
            "--set MISC.devize: unknown key MISC.devize. Did you mean device?",
        ),
        ("MD.temperature=[1", "--set MD.temperature: not YAML: expected ',' or ']'"),
        (
            "ACTIVE_LEARNING.c_x.d=1",
            "--set ACTIVE_LEARNING.c_x.d: ACTIVE_LEARNING.c_x has no keys below it",
        ),
        # Two keys that contradict each other: the place is that of the option.
        (
            "MISC.device=mps",
            "--set MISC.device: MISC.device = mps: this device has no double precision.",
        ),
    ],
)
def test_what_is_wrong_names_the_option(folder: Path, given: str, message: str) -> None:
    (found,) = problems(folder, given)
    assert found.startswith(message)


def test_a_key_of_a_file_that_is_not_read_is_refused(folder: Path) -> None:
    (found,) = problems(folder, "TRAINING.lr=0.1", needs_mace=False)
    assert found == (
        "--set TRAINING.lr: is a key of mace_settings.yaml, which this command does not read."
        " Remove it."
    )


def test_a_problem_that_is_found_later_names_the_option(folder: Path) -> None:
    settings = read_settings(folder, given=("ACTIVE_LEARNING.species_dir=light",))
    problem = settings.problem("active_learning", "ACTIVE_LEARNING.species_dir", "no such folder")
    assert str(problem) == (
        "--set ACTIVE_LEARNING.species_dir: ACTIVE_LEARNING.species_dir = light: no such folder."
    )
