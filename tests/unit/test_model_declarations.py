"""Declarations of model backends: what settings need of them, without their code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import model_validator

from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.registry import engine_problems
from fhi_al.settings import SettingsError, engine_names, read_settings
from fhi_al.settings.architecture import ModelArchitecture
from fhi_al.settings.from_python import settings_from
from fhi_al.settings.model_backends import ModelDeclaration
from fhi_al.settings.value_types import Number, setting

DECLARATION = """
from fhi_al.settings.architecture import ModelArchitecture
from fhi_al.settings.model_backends import ModelDeclaration
from fhi_al.settings.value_types import Number, setting


class Architecture(ModelArchitecture):
    r_max: Number = setting(4.0, "Cutoff radius.", unit="A", gt=0)


MODELS = ModelDeclaration("", "models_of_torch:Models", Architecture)
"""
ACTIVE_LEARNING = """
ACTIVE_LEARNING:
  reference_engine: tblite
  desired_acc: 0.1
  model_backend: models_declared:MODELS
"""
READ = """
import sys
from pathlib import Path
from fhi_al.settings import read_settings

mace = read_settings(Path()).mace
print(mace.backend, mace.backend_class, mace.architecture.r_max, "torch" in sys.modules)
"""


def test_settings_of_a_declaration_in_a_module_of_its_own_are_read_without_torch(
    tmp_path: Path,
) -> None:
    (tmp_path / "models_declared.py").write_text(DECLARATION)
    (tmp_path / "models_of_torch.py").write_text("import torch\n\n\nclass Models:\n    pass\n")
    (tmp_path / "active_learning_settings.yaml").write_text(ACTIVE_LEARNING)
    (tmp_path / "mace_settings.yaml").write_text("ARCHITECTURE:\n  r_max: 5.5\n")
    job = subprocess.run(
        [sys.executable, "-c", READ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = job.stdout.split()
    assert said == [
        "models_declared:MODELS",
        "models_of_torch:Models",
        "5.5",
        "False",
    ], job.stdout + job.stderr


def test_the_page_shows_the_declaration_that_is_tested() -> None:
    page = Path(__file__).parents[2] / "docs" / "developer" / "extending" / "model_backend.md"
    assert DECLARATION.strip() in page.read_text()


class Ruled(ModelArchitecture):
    """Keys with a rule between them, as a package's may have."""

    r_max: Number = setting(4.0, "Cutoff radius.", unit="A", gt=0)
    r_min: Number = setting(1.0, "Where functions begin.", unit="A", gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Ruled:
        if self.r_min >= self.r_max:
            raise ValueError(f"r_min = {self.r_min} must be below r_max = {self.r_max}")
        return self


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        ({"r_min": 5}, ["ARCHITECTURE: r_min = 5.0 must be below r_max = 4.0."]),
        # One problem, not a second one with the default of a value that is refused.
        ({"r_min": 5, "r_max": -1}, ["ARCHITECTURE.r_max = -1: must be above 0 A. Try 4.0."]),
        ({"r_min": 3}, []),
    ],
)
def test_a_rule_between_keys_of_a_section_of_ones_own_is_a_problem_of_the_section(
    keys: dict[str, float], problems: list[str]
) -> None:
    models = ModelDeclaration("ruled", "ruled:Ruled", Ruled)
    al = {"ACTIVE_LEARNING": {"reference_engine": "tblite", "desired_acc": 0.1}}
    try:
        settings_from({"ARCHITECTURE": keys}, al, Path(), "here", models)
    except SettingsError as error:
        found = [str(problem).removeprefix("here: ") for problem in error.problems]
    else:
        found = []
    assert found == problems


ENGINE = """
from pydantic import model_validator
from fhi_al.engines.kind import EngineKind
from fhi_al.settings.value_types import Number, Section, setting


class Keys(Section):
    inner: Number = setting(1.0, "Inner radius.", unit="A", gt=0)
    outer: Number = setting(2.0, "Outer radius.", unit="A", gt=0)

    @model_validator(mode="after")
    def _ordered(self):
        if self.inner >= self.outer:
            raise ValueError("inner must be below outer")
        return self


class Kind(EngineKind):
    keys = Keys

    def spec(self, run, geometry):
        raise NotImplementedError
"""


def test_a_rule_between_keys_of_an_engine_of_ones_own_is_a_problem_of_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ruled_engine.py").write_text(ENGINE)
    info = tmp_path / "ruled_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ruled-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fhi_al.engines]\nruled = ruled_engine:Kind\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "active_learning_settings.yaml").write_text(
        "ACTIVE_LEARNING:\n  reference_engine: ruled\n  reference_arguments: {inner: 3}\n"
    )
    settings = read_settings(tmp_path, needs_mace=False)
    problems = list(
        engine_problems(
            tmp_path, settings, Inputs.of([parse_geometry("atom 0 0 0 H", Path("geometry.in"))])
        )
    )
    assert [p.partition("settings.yaml")[2] for p in problems] == [
        ":3: ACTIVE_LEARNING.reference_arguments = {'inner': 3}: inner must be below outer."
    ]


def test_an_engine_installed_meanwhile_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "late" not in engine_names.of_packages()
    info = tmp_path / "late_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fhi_al.engines]\nlate = late_engine:Kind\n")
    assert "late" in engine_names.of_packages()
