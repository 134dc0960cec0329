"""On a GPU: recorded steps and forces beside plain ones, and training from a state."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule

from fhi_al.core.label import Label, Origin
from fhi_al.models.devices import cuequivariance_problem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.models.training import SerialTrainingPool, whole_epoch
from fhi_al.settings.mace import MaceSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]

# eV/A in float64: sums in another order, on another device.
FORCES = 1e-9


EXAMPLE = Path(__file__).parents[2] / "examples" / "ethanol"
# The ethanol example in seconds.
SMALL: dict[str, dict[str, Any]] = {
    "ACTIVE_LEARNING": {
        "ensemble_size": 2,
        "num_trajectories": 2,
        "n_samples": 2,
        "label_budget": 10,
        "max_initial_epochs": 4,
        "intermediate_epochs": 2,
        "valid_skip": 1,
        "max_MD_steps": 300,
        "c_x": 0.5,
        "max_final_epochs": 4,
    },
    "ARCHITECTURE": {"num_channels": 8},
}


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    random = np.random.default_rng(4)
    found = []
    for step in range(20):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, rng=random)
        found.append(label_of(atoms, str(step), random))
    return found


def label_of(atoms: Atoms, key: str, random: np.random.Generator) -> Label:
    """With an energy and forces out of the air."""
    return Label(
        key=key,
        system=0,
        numbers=atoms.numbers.copy(),
        positions=atoms.positions.copy(),
        cell=np.zeros((3, 3)),
        pbc=False,
        energy=float(random.normal()),
        forces=random.normal(size=(len(atoms), 3)),
        stress=None,
        origin=Origin("initial", 0, 0),
    )


def ensemble(
    labels: Sequence[Label], device: str, *, seeds: Sequence[int] = (11,), **misc: Any
) -> Ensemble:
    settings = MaceSettings.model_validate(
        {
            "general": {"default_dtype": "float64"},
            "architecture": {"num_channels": 16, "max_L": 1},
            "training": {"batch_size": 5, "ema": True},
            "misc": {"device": device, **misc},
        }
    )
    made = Ensemble(settings, {1, 6, 8}, seeds)
    for member in made.members:
        member.add_training(labels)
        member.fit_normalisation()
    return made


def test_members_side_by_side_train_as_with_plain_steps() -> None:
    """Batches of several sizes, whose memory is used again; recorded twice."""
    random = np.random.default_rng(5)
    labels = []
    for step in range(24):
        atoms = molecule(("H2O", "CH3CH2OH")[step % 2])
        atoms.rattle(0.05, rng=random)
        labels.append(label_of(atoms, str(step), random))
    losses, errors = [], []
    for key in ("off", "auto"):
        made = ensemble(labels, "cuda", seeds=(11, 22, 33), cuda_graphs=key, enable_cueq=False)
        for member in made.members:
            member.add_validation(labels[:4])
        pool = SerialTrainingPool(made, valid_skip=3)
        records = pool.begin(range(3), 4).finish()
        for member in made.members:
            member.fresh_optimizer(scheduler=False)
        before = made.backend.recordings.n_recorded  # type: ignore[attr-defined]
        records += pool.begin(range(3), 4).finish()
        losses.append([record.loss for record in records])
        errors.append([member.validate().mae_forces for member in made.members])
    assert n_recorded(made) > before > len(made.members)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-9)


def n_recorded(made: Ensemble) -> int:
    assert isinstance(made.backend, TorchBackend)
    assert made.backend.recordings.is_on
    return made.backend.recordings.n_recorded


def test_steps_and_forces_are_recorded_and_those_of_the_plain_way(labels: list[Label]) -> None:
    plain, recorded = (ensemble(labels, "cuda", cuda_graphs=key) for key in ("off", "auto"))
    losses = [[whole_epoch(made.members[0]) for _ in range(4)] for made in (plain, recorded)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert n_recorded(recorded) > 0
    before = n_recorded(recorded)
    recorded.members[0].set_weights(plain.members[0].weights())
    for label in labels[:5]:
        np.testing.assert_allclose(
            recorded.predict([label])[0].forces, plain.predict([label])[0].forces, atol=FORCES
        )
    assert n_recorded(recorded) > before


@pytest.mark.parametrize("cuda_graphs", ["off", "auto"])
@pytest.mark.parametrize("device", ["cuda", f"cuda:{max(torch.cuda.device_count() - 1, 0)}"])
def test_cuequivariance_trains_and_predicts_as_plain_mace(
    cuda_graphs: str, device: str, labels: list[Label], caplog: pytest.LogCaptureFixture
) -> None:
    if (problem := cuequivariance_problem(device)) is not None:
        pytest.skip(problem)
    plain, quick = (
        ensemble(labels, device, cuda_graphs=cuda_graphs, enable_cueq=key) for key in (False, True)
    )
    losses = [[whole_epoch(made.members[0]) for _ in range(4)] for made in (plain, quick)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    quick.load_state_bytes(plain.state_bytes())
    for label in labels[:5]:
        np.testing.assert_allclose(
            quick.predict([label])[0].forces, plain.predict([label])[0].forces, atol=FORCES
        )
    assert "not used" not in caplog.text  # neither it nor recording was given up


def test_auto_decides_for_training_and_predictions(
    labels: list[Label], caplog: pytest.LogCaptureFixture
) -> None:
    if (problem := cuequivariance_problem("cuda")) is not None:
        pytest.skip(problem)
    caplog.set_level(logging.INFO)
    made = ensemble(labels, "cuda")
    whole_epoch(made.members[0])
    made.predict([labels[0]])
    for purpose in ("training", "predictions in float64"):
        assert f"cuEquivariance: {purpose} takes" in caplog.text


def test_forces_are_those_of_the_cpu(labels: list[Label]) -> None:
    cpu, gpu = (ensemble(labels, device) for device in ("cpu", "cuda"))
    gpu.members[0].set_weights(cpu.members[0].weights())
    for label in labels[:5]:
        np.testing.assert_allclose(
            gpu.predict([label])[0].forces, cpu.predict([label])[0].forces, atol=FORCES
        )


def test_training_goes_on_from_a_state(labels: list[Label]) -> None:
    unbroken, resumed = (ensemble(labels, "cuda") for _ in range(2))
    for _ in range(3):
        whole_epoch(unbroken.members[0])
    resumed.load_state_bytes(unbroken.state_bytes())
    losses = [[whole_epoch(made.members[0]) for _ in range(3)] for made in (unbroken, resumed)]
    # Kernels that add with atomics add in any order: not bit for bit.
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-8)


def test_constants_of_energies_are_those_of_the_cpu(labels: list[Label]) -> None:
    found = []
    for device in ("cpu", "cuda"):
        made = ensemble(labels, device)
        (member,) = made.members
        if found:
            member.set_weights(found[0][0])
        weights = member.weights()
        for _ in range(4):  # the last two are replayed
            member.fit_atomic_energies()
        found.append((weights, member.normalisation.atomic_energies))
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-9)


def run(folder: Path, command: str = "main", *options: str) -> str:
    """The output of a command on one rank."""
    program = f"from fhi_al import cli; raise SystemExit(cli.{command}())"
    done = subprocess.run(
        [sys.executable, "-c", program, *options, "--workdir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("parallel", [False, True])
def test_a_whole_run_and_its_evaluation(parallel: bool, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "run")
    for name in ("mace_settings.yaml", "active_learning_settings.yaml"):
        content = yaml.safe_load((folder / name).read_text())
        for section in content.keys() & SMALL.keys():
            content[section] |= SMALL[section]
        if name.startswith("mace"):
            content["MISC"]["device"] = "cuda"
        else:
            content["ACTIVE_LEARNING"]["parallel"] = parallel
        (folder / name).write_text(yaml.safe_dump(content))
    output = run(folder)
    assert "CUDA graphs are not used" not in output
    assert "summary: labels:" in output
    assert len(list((folder / "model").glob("*.model"))) == 2
    run(folder, "main_evaluate", "--on", "md", "--structures", "4")
