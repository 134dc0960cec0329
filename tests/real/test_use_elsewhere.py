"""docs/use: the final models in other programs, by the pages' own code."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from mace.calculators import MACECalculator
from mace.cli import create_lammps_model
from mace.data import AtomicData, config_from_atoms
from mace.tools import AtomicNumberTable, torch_geometric
from mace.tools.torch_tools import default_dtype
from models_parts import fitted, water_labels

pytestmark = pytest.mark.real

PAGES = Path(__file__).parents[2] / "docs" / "use"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a run, as far as the pages need it."""
    made = tmp_path_factory.mktemp("run")
    fitted(water_labels(12)).export(made / "model", "water")
    ase.io.write(made / "geometry.in", molecule("H2O"), format="aims")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return sorted((folder / "model").glob("*.model"))[0]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["ase.md", "torch-sim.md"])
def test_the_code_of_a_page(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page == "torch-sim.md" and find_spec("torch_sim") is None:
        pytest.skip("torch-sim-atomistic is not installed")
    (code,) = blocks(page, "python")
    monkeypatch.chdir(folder)
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.skipif(find_spec("ipi") is None, reason="ipi is not installed")
def test_the_input_of_i_pi(folder: Path, model: Path) -> None:
    prepare, run = blocks("i-pi.md", "bash")
    (text,) = blocks("i-pi.md", "xml")
    (folder / "input.xml").write_text(text.replace(" 1000 ", " 2 ").replace('"16"', '"2"'))
    (folder / "model" / "water_best.model").write_bytes(model.read_bytes())
    places = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-e", "-c", prepare + run],
        cwd=folder,
        env=places,
        capture_output=True,
        text=True,
        timeout=200,
    )
    (folder / "model" / "water_best.model").unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    potential = np.loadtxt(folder / "water.out")[0, 2]  # eV, mean of beads at the same place
    atoms = ase.io.read(folder / "start.xyz")
    atoms.calc = MACECalculator(model_paths=str(model), device="cpu")
    assert potential == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def converted(model: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mace_create_lammps_model", str(model), *options])
    create_lammps_model.main()


def test_a_model_in_torchscript_for_lammps(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted(model, monkeypatch)
    made = torch.jit.load(f"{model}-lammps.pt")
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    atoms.calc = MACECalculator(model_paths=str(model), device="cpu")
    table = AtomicNumberTable([int(z) for z in made.atomic_numbers])
    with default_dtype(torch.float64):
        data = AtomicData.from_config(config_from_atoms(atoms), table, cutoff=float(made.r_max))
    batch = next(iter(torch_geometric.dataloader.DataLoader([data], batch_size=1)))
    found = made(batch.to_dict(), torch.ones(len(atoms), dtype=torch.float64))
    energy = float(found["total_energy_local"])
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)  # eV
    assert np.allclose(found["forces"].numpy(force=True), atoms.get_forces(), atol=1e-8)  # eV/A


@pytest.mark.skipif(find_spec("cuequivariance_torch") is None, reason="no cuEquivariance")
def test_a_model_for_ml_iap(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted(model, monkeypatch, "--format=mliap")
    made = torch.load(f"{model}-mliap_lammps.pt", weights_only=False)
    assert list(made.element_types) == ["H", "O"]
    assert 2 * made.rcutfac == pytest.approx(
        float(torch.load(model, weights_only=False).r_max)
    )  # A, LAMMPS counts radii
