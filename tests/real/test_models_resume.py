"""A run resumed in a new process is, bit by bit, the run that was not interrupted."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from models_parts import ensemble, fitted, settings, water_labels
from models_parts import save_labels as save
from models_resume import train_on
from preloaded.launch import preloaded

import fhi_al
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.training import SerialTrainingPool

pytestmark = pytest.mark.real

CASES = {
    "float64_plateau": {"default_dtype": "float64", "scheduler_patience": 1},
    "float32_no_ema": {"default_dtype": "float32", "ema": False},
    "float64_more_angular": {
        "max_ell": 3,
        "max_L": 1,
        "scheduler": "ExponentialLR",
        "optimizer": "adamw",
    },
}


def test_resume_in_a_new_process_is_bitwise_the_unbroken_run(tmp_path: Path) -> None:
    labels = water_labels(12)
    save(tmp_path / "labels.npz", labels)
    expected = {}
    for name, changes in CASES.items():
        made = fitted(labels, **changes)
        for member in made.members:
            member.fresh_optimizer(scheduler=True)
        # 8 labels in batches of 5: a partial batch; 3 epochs: the moving average is still warming.
        SerialTrainingPool(made, 2).begin(range(2), 3).finish()
        (tmp_path / name).mkdir()
        for file, content in made.state_bytes().items():
            (tmp_path / name / file).write_bytes(content)
        expected[name] = train_on(made)
    (tmp_path / "cases.json").write_text(
        json.dumps([{"name": name, "settings": changes} for name, changes in CASES.items()])
    )

    here = Path(__file__).parent
    source = Path(fhi_al.__path__[0]).parent
    subprocess.run(
        [*preloaded(str(here / "models_resume.py"), mace=True), tmp_path],
        env={**os.environ, "PYTHONPATH": f"{source}:{here}", "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
    )

    found = json.loads((tmp_path / "found.json").read_text())
    for name in CASES:
        assert found[name] == expected[name], name


def test_state_of_other_settings_or_other_labels_is_refused() -> None:
    labels = water_labels(6)
    states = fitted(labels).state_bytes()
    with pytest.raises(ValueError, match=r"num_channels: 8 -> 16"):
        ensemble(labels, num_channels=16).load_state_bytes(states)
    with pytest.raises(ValueError, match=r"TRAINING\.ema: was on"):
        ensemble(labels, ema=False).load_state_bytes(states)
    with pytest.raises(ValueError, match="seed 11, expected 12"):
        ensemble(labels, seeds=(12, 22)).load_state_bytes(states)
    with pytest.raises(ValueError, match="training set"):
        ensemble(labels[1:]).load_state_bytes(states)
    with pytest.raises(ValueError, match=r"no state member_1\.pt"):
        ensemble(labels).load_state_bytes({"member_0.pt": states["member_0.pt"]})
    with pytest.raises(ValueError, match="training set"):
        Ensemble(settings(), (1, 8), (11, 22)).load_state_bytes(states)
