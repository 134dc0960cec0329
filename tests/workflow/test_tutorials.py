"""The tutorials' commands as they stand in the pages, with smaller settings."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml
from ase.build import molecule
from asi.harness import mpirun
from preloaded.launch import preloaded
from run_folder import python_path

pytestmark = [pytest.mark.mpi, pytest.mark.real]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 400
# As little of everything as shows every step.
SHORT: dict[str, Any] = {
    "n_samples": 4,
    "skip_step_initial": 2,
    "max_initial_epochs": 2,
    "intermediate_epochs": 2,
    "ensemble_size": 2,
    "skip_step_mlff": 5,
    "max_MD_steps": 10,
    "threshold_warmup": 2,
    "sanity_skip": 5,
    "max_epochs_worker": 2,
    "max_final_epochs": 2,
    "valid_skip": 2,
    "final_test": 0,  # has MD of more than a thousand steps: see test_final_test.py
}
SMALL_NETWORK = {"num_channels": 4, "max_ell": 1, "radial_MLP": [4], "MLP_irreps": "4x0e"}
# What a command of a page gets besides: fewer structures.
SHORT_FORMS = {"FHI_AL-evaluate": "--structures 2 --spacing 2.5 --equilibration 5 --md-time 0.1"}
# What has to come out.
TUTORIALS = {
    "ethanol": "ensemble mean",
    "diamond": "labels: ",
    "diamond_npt": "GFN1-xTB",
    "two_molecules": "methanol",
    "fine_tuning": "ensemble mean",
    "cluster": "labels: ",
}


def shorten(folder: Path) -> None:
    """Make a run of an example one of seconds."""
    file = folder / "active_learning_settings.yaml"
    settings = yaml.safe_load(file.read_text())
    keys = settings["ACTIVE_LEARNING"]
    keys |= SHORT
    if "label_budget" in keys:
        keys["label_budget"] = 14
    if "SYSTEMS" not in settings:
        keys["num_trajectories"] = 2
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    file = folder / "mace_settings.yaml"
    settings = yaml.safe_load(file.read_text())
    if "foundation_model" not in settings["ARCHITECTURE"]:
        settings["ARCHITECTURE"] |= SMALL_NETWORK
    file.write_text(yaml.safe_dump(settings, sort_keys=False))


def add_the_third_molecule(folder: Path, page: str) -> None:
    """What the page of two_molecules says to append, and to raise."""
    (block,) = re.findall(r"```yaml\n(- name: methanol\n.*?)```", page, re.DOTALL)
    file = folder / "active_learning_settings.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["SYSTEMS"] += yaml.safe_load(block)
    settings["ACTIVE_LEARNING"]["label_budget"] = 24
    file.write_text(yaml.safe_dump(settings, sort_keys=False))


def commands_of(page: str) -> list[str]:
    """The shell commands of a page, but for installations and what needs Slurm or FHI-aims."""
    page = page.split("\n## With FHI-aims")[0]
    lines = "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).splitlines()
    for name, short in SHORT_FORMS.items():
        lines = [f"{line} {short}" if name in line else line for line in lines]
    return [line for line in lines if not line.startswith("pip install")]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands by their names, of forked ranks: see preloaded/launch.py."""
    folder = tmp_path_factory.mktemp("bin")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, entry in project["scripts"].items():
        module, function = entry.split(":")
        source = folder / f"{name}.py"
        source.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        program = preloaded(str(source), mace=True)
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def run(lines: list[str], folder: Path, programs: Path) -> str:
    places = [str(programs), str(Path(sys.executable).parent), str(Path(mpirun()).parent)]
    environment = {
        "PATH": os.pathsep.join([*places, os.environ["PATH"]]),
        "PYTHONPATH": python_path(),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "name",
    # The first in every run, the others (`-m slow`) take a minute in all.
    [
        name if name == "ethanol" else pytest.param(name, marks=pytest.mark.slow)
        for name in TUTORIALS
    ],
)
def test_the_commands_of_a_tutorial(name: str, tmp_path: Path, programs: Path) -> None:
    example = tmp_path / "examples" / name
    made_by_runs = shutil.ignore_patterns("model", "data", "restart", "results", "*.log")
    shutil.copytree(ROOT / "examples" / name, example, ignore=made_by_runs)
    page = (example / "README.md").read_text()
    lines = commands_of(page)
    assert lines and lines[0].startswith("mpirun -n")
    shorten(example)
    output = run(lines, tmp_path, programs)
    assert list((example / "model").glob("*.model"))
    if name == "two_molecules":
        add_the_third_molecule(example, page)
        output = run(lines, tmp_path, programs)
    assert TUTORIALS[name] in output
    # "Start the command again: it says that everything is done."
    assert "complete already" in run(lines[:1], tmp_path, programs)


@pytest.mark.slow
def test_getting_started_with_a_structure_of_ones_own(tmp_path: Path, programs: Path) -> None:
    page = (ROOT / "docs" / "getting_started.md").read_text()
    first, *others = commands_of("```bash\n" + page.split("```bash\n")[2])
    assert first == "FHI_AL-init run --geometry some.xyz"
    ase.io.write(tmp_path / "some.xyz", molecule("CH3OH"))
    run([first], tmp_path, programs)
    shorten(tmp_path / "run")
    output = run(others, tmp_path, programs)
    assert (tmp_path / "run" / "report" / "report.html").stat().st_size > 1e6  # bytes
    assert "done" in output and "stability" in output
