"""Which files the settings name as initial data, and what is wrong with such a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from imported_parts import frame, write_frames
from pydantic_core import PydanticCustomError

from fhi_al.app.checks import read_inputs
from fhi_al.app.choices import InitialDataset
from fhi_al.app.data_sources import data_sources
from fhi_al.app.initial_data import initial_data
from fhi_al.app.needs import Command, needs_of
from fhi_al.core.errors import InputError
from fhi_al.settings import Settings, SettingsError, read_settings
from fhi_al.settings.changes import changes
from fhi_al.settings.initial_data import read_initial_data


def settings_of(folder: Path, initial_data: Any, **more: Any) -> Settings:
    """Settings of a run in a folder that has two files of data, and one elsewhere."""
    keys = {"reference_engine": "tblite", "desired_acc": 0.1, **more}
    if initial_data is not None:
        keys["initial_data"] = initial_data
    content = {"ACTIVE_LEARNING": keys}
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(content))
    (folder / "mace_settings.yaml").write_text("GENERAL: {name_exp: water}\n")
    (folder / "geometry.in").write_text("atom 0 0 0 O\natom 0 0.76 -0.59 H\natom 0 -0.76 -0.59 H\n")
    (folder / "old").mkdir(exist_ok=True)
    for name in ("old/b.xyz", "old/a.xyz", "c.traj"):
        (folder / name).touch()
    return read_settings(folder)


def files_of(folder: Path, initial_data: Any) -> list[str]:
    settings = settings_of(folder, initial_data)
    return [each.name for each in data_sources(settings, read_inputs(settings))]


def test_a_path_a_pattern_or_a_list_of_them(tmp_path: Path) -> None:
    assert files_of(tmp_path, "c.traj") == ["c.traj"]
    assert files_of(tmp_path, "old/*.xyz") == ["old/a.xyz", "old/b.xyz"]
    both = ["c.traj", {"file": "old/?.xyz"}]
    assert files_of(tmp_path, both) == ["c.traj", "old/a.xyz", "old/b.xyz"]
    assert files_of(tmp_path, str(tmp_path / "**" / "*.xyz")) == ["old/a.xyz", "old/b.xyz"]


def test_an_entry_says_names_and_shares(tmp_path: Path) -> None:
    entry = {"file": "c.traj", "energy": "dft_energy", "valid_ratio": 1, "test_ratio": "0.5"}
    settings = settings_of(tmp_path, [entry, "old/a.xyz"])
    one, other = data_sources(settings, read_inputs(settings))
    assert (one.names.energy, one.names.forces) == ("dft_energy", None)
    assert (one.valid_ratio, one.test_ratio) == (1.0, 0.5)
    assert (other.valid_ratio, other.test_ratio) == (0.1, 0.0)
    # What is written as resolved is read as the same.
    assert yaml.safe_load(settings.as_yaml("active_learning"))["ACTIVE_LEARNING"][
        "initial_data"
    ] == [
        {"file": "c.traj", "energy": "dft_energy", "valid_ratio": 1.0, "test_ratio": 0.5},
        {"file": "old/a.xyz"},
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("d.xyz", "no file {folder}/d.xyz: expected one that ASE reads. Correct the path."),
        ("old", "no file {folder}/old: expected one that ASE reads. Correct the path."),
        ("*.db", "no file matches *.db in {folder}: expected some. Correct the pattern."),
        (
            ["c.traj", "*.traj"],
            "{folder}/c.traj is named twice: expected each file once. Take one entry out.",
        ),
        (
            {"file": "c.traj", "system": "ice"},
            "no system ice: expected one of SYSTEMS (none has a name).",
        ),
    ],
)
def test_a_file_that_is_not_there_is_told(tmp_path: Path, given: Any, message: str) -> None:
    settings = settings_of(tmp_path, given)
    with pytest.raises(InputError) as caught:
        data_sources(settings, read_inputs(settings))
    (problem,) = caught.value.problems
    assert problem.startswith("active_learning_settings.yaml:")
    assert problem.endswith(message.format(folder=tmp_path.resolve()))


def test_a_run_keeps_the_data_it_began_with(tmp_path: Path) -> None:
    """Without the key it goes on as before; with another one it would not be the same run."""
    began = settings_of(tmp_path, "c.traj")
    without = settings_of(tmp_path, None).with_values_of(began.values())
    assert without.al.initial_data == [{"file": "c.traj"}]
    assert changes(began.values(), without.values()) == ([], [])
    other = settings_of(tmp_path, "old/a.xyz").with_values_of(began.values())
    allowed, (refused,) = changes(began.values(), other.values())
    assert allowed == []
    assert refused.startswith("ACTIVE_LEARNING.initial_data: [{'file': 'c.traj'}] -> ")


def test_with_data_a_budget_need_not_pay_for_a_first_round(tmp_path: Path) -> None:
    settings_of(tmp_path, "c.traj", label_budget=5)
    with pytest.raises(
        SettingsError, match="the first round of the initial dataset takes 40 calculations"
    ):
        settings_of(tmp_path, None, label_budget=5)


def test_from_python_paths_count_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [Path("a.xyz"), {"file": "b.traj", "valid_ratio": 1}]
    assert InitialDataset(data=data).keys()["initial_data"] == [
        str(tmp_path / "a.xyz"),
        {"file": str(tmp_path / "b.traj"), "valid_ratio": 1},
    ]
    assert InitialDataset().keys()["initial_data"] is None


def test_a_system_without_labels_is_told(tmp_path: Path) -> None:
    """FHI_AL samples some of it first; FHI_AL-al, which samples none, refuses."""
    settings = settings_of(tmp_path, "old/water.xyz")
    path = tmp_path / "active_learning_settings.yaml"
    content = yaml.safe_load(path.read_text())
    systems = [
        {"name": "water", "geometry": "geometry.in"},
        {"name": "hydrogen", "geometry": "h2.xyz"},
    ]
    path.write_text(yaml.safe_dump({**content, "SYSTEMS": systems}))
    (tmp_path / "h2.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.75\n")
    write_frames(tmp_path / "old" / "water.xyz", [frame(k) for k in range(9)])
    settings = read_settings(tmp_path)
    inputs = read_inputs(settings)
    data = initial_data(settings, inputs, None, needs_of(Command.ALL, None, tests=False))
    assert data is not None and data.without == ("hydrogen",) and not data.is_enough
    assert "no labels of hydrogen: points are sampled before training begins" in data.notes[-1]
    with pytest.raises(InputError, match="no labels of hydrogen: expected some of every system"):
        initial_data(settings, inputs, None, needs_of(Command.ACTIVE_LEARNING, None, tests=False))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "is empty: expected a file"),
        (7, "7: must be a path, or {file: PATH} with any of energy, forces"),
        ([{"fil": "a.xyz"}], "unknown key fil. Did you mean file?"),
        ([{"energy": "E"}], "lacks file"),
        ([{"file": "a.xyz", "valid_ratio": 0.7}], "must be from 0 to 0.5, or 1 for all of them"),
        ([{"file": "a.xyz", "test_ratio": 1.5}], "test_ratio = 1.5: must be from 0 to 1"),
        ([{"file": "a.xyz", "energy": 3}], "energy = 3: must be text"),
    ],
)
def test_a_wrong_entry_is_refused(given: Any, message: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        read_initial_data(given)
    assert message in caught.value.message()
