"""The schemas of the settings files, by a real validator: what they take, what they do not."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from jsonschema import Draft7Validator

from fhi_al.app.new_run.commented_yaml import Key
from fhi_al.app.new_run.settings_files import Plan, active_learning_text, mace_text
from fhi_al.app.new_run.structure import read_start
from fhi_al.cli import main_init
from fhi_al.settings.json_schema import (
    KINDS,
    MODELINE,
    FileKind,
    file_schema,
    main,
    schema_line,
    schema_path,
    with_schema_line,
)
from fhi_al.settings.keys import FILE_NAMES, LAYOUTS
from fhi_al.settings.reading import read_settings
from fhi_al.settings.yaml_reading import read_document

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").glob("*/*.yaml")
    if path.name in FILE_NAMES.values() or path.name == "slurm_settings.yaml"
)


def kind_of(path: Path) -> FileKind:
    return "mace" if path.name == "mace_settings.yaml" else "active_learning"


def with_text_keys(value: Any) -> Any:
    """As JSON has it: keys are texts."""
    if isinstance(value, dict):
        return {str(key): with_text_keys(each) for key, each in value.items()}
    return [with_text_keys(each) for each in value] if isinstance(value, list) else value


def complaints(kind: FileKind, data: Any) -> list[str]:
    schema = json.loads(schema_path(kind).read_text())
    return [error.json_path for error in Draft7Validator(schema).iter_errors(with_text_keys(data))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_that_is_shipped_is_that_of_the_code(kind: FileKind) -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text().split() if "==" in line
    )
    if version("pydantic") != pinned["pydantic"]:
        pytest.skip("another version of pydantic may write the same schema in other words")
    assert main(["--check"]) == 0, "run python -m fhi_al.settings.json_schema"


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_schema(kind: FileKind) -> None:
    Draft7Validator.check_schema(json.loads(schema_path(kind).read_text()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_files_of_an_example_fit_and_name_it(path: Path) -> None:
    first = path.read_text().partition("\n")[0]
    assert first.startswith(f"# {MODELINE}")
    assert (path.parent / first.split("=")[1]).resolve() == schema_path(kind_of(path))
    assert complaints(kind_of(path), read_document(path)[0].data) == []


@pytest.mark.parametrize("atoms", [molecule("H2O"), bulk("Si")], ids=str)
def test_the_files_that_init_writes_fit_and_name_it(tmp_path: Path, atoms: Atoms) -> None:
    write(tmp_path / "a.xyz", atoms)
    folder = tmp_path / "run"
    assert main_init([str(folder), "--geometry", str(tmp_path / "a.xyz")]) == 0
    for kind in KINDS:
        path = folder / FILE_NAMES[kind]
        assert path.read_text().startswith(f"# {schema_line(kind)}\n")
        assert complaints(kind, read_document(path)[0].data) == []


def test_the_files_of_a_fine_tuning_fit(tmp_path: Path) -> None:
    # Not by init itself, which would load the foundation model.
    write(tmp_path / "a.xyz", molecule("H2O"))
    start = read_start(tmp_path / "a.xyz", None)
    keys = [Key("reference_engine", "tblite")]
    plan = Plan("production", start, keys, [300.0, 600.0], "medium-mpa-0", "cpu")
    texts: dict[FileKind, str] = {
        "mace": mace_text(plan),
        "active_learning": active_learning_text(plan),
    }
    for kind, text in texts.items():
        path = tmp_path / FILE_NAMES[kind]
        path.write_text(text)
        assert complaints(kind, read_document(path)[0].data) == []
    settings = read_settings(tmp_path)
    assert settings.al.sources == ("none",) and settings.al.label_budget == 200


def test_resolved_settings_fit(tmp_path: Path) -> None:
    settings = read_settings(ROOT / "examples" / "diamond_npt")
    for kind in KINDS:
        path = tmp_path / FILE_NAMES[kind]
        path.write_text(settings.as_yaml(kind))
        assert complaints(kind, read_document(path)[0].data) == []


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("active_learning", {"ACTIVE_LEARNING": None}),
        (
            "active_learning",
            {"ACTIVE_LEARNING": {"label_budget": "None", "training_ranks": "auto"}},
        ),
        ("active_learning", {"ACTIVE_LEARNING": {"initial_data": ["a.xyz", {"file": "b.xyz"}]}}),
        ("active_learning", {"ACTIVE_LEARNING": {"max_setbacks": 3}}),
        ("active_learning", {"ACTIVE_LEARNING": {"reference_engine": "of_a_package"}}),
        ("active_learning", {"MD": [{"temperature": [300, {"from": 300, "to": 600, "over": 9}]}]}),
        ("active_learning", {"MD": {0: {"temperature": 300}, 1: {"temperature": 600}}}),
        ("active_learning", {"SYSTEMS": [{"name": "a", "md": "300K"}, {"name": "b"}]}),
        ("mace", {"ARCHITECTURE": {"atomic_energies": {1: -13.6, "O": -2000.0}}}),
        ("mace", {"MISC": {"device": "cuda:1", "cuda_graphs": False}}),
    ],
)
def test_what_is_right_is_taken(kind: FileKind, data: dict[str, Any]) -> None:
    assert complaints(kind, data) == []


@pytest.mark.parametrize(
    ("kind", "data", "where"),
    [
        ("active_learning", {"ACTIVE_LEARNIN": {}}, "$"),
        ("active_learning", {"ACTIVE_LEARNING": {"c_xx": 0.2}}, "$.ACTIVE_LEARNING"),
        ("active_learning", {"ACTIVE_LEARNING": {"c_x": 1.5}}, "$.ACTIVE_LEARNING"),
        ("active_learning", {"ACTIVE_LEARNING": {"training_ranks": 0}}, "$.ACTIVE_LEARNING"),
        ("active_learning", {"ACTIVE_LEARNING": {"stop_on": "best"}}, "$.ACTIVE_LEARNING"),
        (
            "active_learning",
            {"ACTIVE_LEARNING": {"cluster": {"walltime": "4h"}}},
            "$.ACTIVE_LEARNING",
        ),
        ("active_learning", {"MD": [{"timestep": 0}]}, "$.MD"),
        ("active_learning", {"MISC": {"device": "cpu"}}, "$.MISC"),
        ("mace", {"TRAINING": {"batchsize": 5}}, "$.TRAINING"),
        ("mace", {"TRAINING": {"batch_size": "five"}}, "$.TRAINING"),
        ("mace", {"MISC": {"device": "gpu"}}, "$.MISC"),
    ],
)
def test_what_is_wrong_is_not(kind: FileKind, data: dict[str, Any], where: str) -> None:
    assert complaints(kind, data) == [where]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_in_it_with_its_meaning(kind: FileKind) -> None:
    definitions = file_schema(kind)["definitions"]
    for model in LAYOUTS[kind].values():
        properties = definitions[model.__name__]["properties"]
        for name, info in model.model_fields.items():
            assert properties[info.alias or name].get("description")


def test_engines_and_models_of_packages_are_in_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "backends"))
    assert main(["--to", str(tmp_path)]) == 0
    schema = json.loads((tmp_path / "mace_settings.json").read_text())
    data = {"ARCHITECTURE": {"num_functions": 8}}
    assert not list(Draft7Validator(schema).iter_errors(data))
    assert complaints("mace", data) == ["$.ARCHITECTURE"]


def test_another_schema_is_replaced_and_nothing_else() -> None:
    text = "GENERAL:\n  seed: 1\n"
    assert with_schema_line(text, "mace") == f"# {schema_line('mace')}\n{text}"
    there = f"# {MODELINE}elsewhere.json\n{text}"
    assert with_schema_line(there, "mace") == f"# {schema_line('mace')}\n{text}"
