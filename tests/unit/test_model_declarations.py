"""Declarations of model backends: what settings need of them, without their code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DECLARATION = """
from fhi_al.settings.mace import ModelArchitecture
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
