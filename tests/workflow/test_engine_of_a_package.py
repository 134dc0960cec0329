"""An engine that a package of somebody else's brings: installed by pip, used by the commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.morse import MorsePotential
from run_folder import python_path, run, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]

MODULE = Path(__file__).with_name("engine_package") / "morse_engine.py"
PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "engines.md"
TRIMER = "atom 0 0 0 C\natom 1.5 0 0 C\natom 0.75 1.299 0 C\n"
SETTINGS = "active_learning_settings.yaml"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the package is installed, as docs/how_to/engines.md describes it."""
    folder = tmp_path_factory.mktemp("package")
    (described,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    project = tomllib.loads(described)["project"]
    (points,) = project["entry-points"].items()
    # A wheel is a zip file: pip needs neither a network nor a build backend for it.
    wheel = folder / "morse_engine-1.0-py3-none-any.whl"
    info = "morse_engine-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(MODULE, "morse_engine.py")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: morse-engine\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        named = [f"{name} = {target}" for name, target in points[1].items()]
        archive.writestr(f"{info}/entry_points.txt", "\n".join([f"[{points[0]}]", *named, ""]))
        archive.writestr(f"{info}/RECORD", "")
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--target", str(site), str(wheel)], check=True, timeout=120)
    return {"PYTHONPATH": python_path(site)}


def inputs(folder: Path, arguments: str, **more: object) -> Path:
    small = {"max_MD_steps": 10, "converge_al": False, "analysis": False, "max_initial_epochs": 5}
    write_inputs(folder, active_learning={"ACTIVE_LEARNING": {**small, **more}}, geometry=TRIMER)
    text = (folder / SETTINGS).read_text()
    text = text.replace("  reference_engine: tblite\n", "  reference_engine: Morse\n")
    text = text.replace("  reference_method: GFN2-xTB\n", f"  reference_arguments:\n{arguments}")
    (folder / SETTINGS).write_text(text)
    return folder


@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
def test_the_workflow_runs_on_it(installed, tmp_path, parallel) -> None:
    folder = inputs(tmp_path / "run", "    distance: 1.5\n    depth: 2\n", parallel=parallel)
    code, output = run(folder, 2, env=installed)
    assert code == 0, output
    lines = (folder / "restart" / "labels.jsonl").read_text().splitlines()
    assert len(lines) > 10
    for line in lines:
        label = json.loads(line)["label"]
        atoms = Atoms("C3", label["positions"])
        atoms.calc = MorsePotential(epsilon=2.0, r0=1.5, rho0=3.0)
        assert label["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        assert np.abs(np.array(label["forces"]) - atoms.get_forces()).max() < 1e-12
    # The keys are a part of what the engine is.
    (folder / SETTINGS).write_text((folder / SETTINGS).read_text().replace("depth: 2", "depth: 3"))
    code, output = run(folder, 1, "--check", env=installed)
    assert code == 2 and "reference_arguments" in output, output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("    depht: 2\n", "reference_arguments.depht: unknown key of morse. Did you mean depth?"),
        ("    depth: -2\n", "reference_arguments.depth: must be above 0 eV"),
        ("    distance: far\n", "reference_arguments.distance: must be a number"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(installed, tmp_path, arguments, words) -> None:
    folder = inputs(tmp_path / "run", arguments)
    code, output = run(folder, 2, "--check", env=installed)
    lines = (folder / SETTINGS).read_text().splitlines()
    number = 1 + next(n for n, line in enumerate(lines) if line == arguments.rstrip("\n"))
    assert code == 2
    assert f"{SETTINGS}:{number}: ACTIVE_LEARNING.{words}" in output


def test_atomic_energies_and_its_absence(installed, tmp_path) -> None:
    folder = inputs(tmp_path / "run", "    depth: 2\n")
    code, output = run(folder, 1, command="FHI_AL-atomic-energies", env=installed)
    assert code == 0, output
    assert "6: 0.0" in (folder / "atomic_energies.yaml").read_text()
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert "reference_engine = Morse: must be one of aims, tblite, ase" in output
