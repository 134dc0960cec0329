"""A first try of a user's: few points of one short ab initio MD of water.  Is the error told true?

    python benchmarks/short_aimd.py [--folder DIR] [--seeds 1 2 3] [--program FHI_AL] [--report]

Copies of benchmarks/short_aimd/ with other seeds run to their end.  Their models are judged on 100
structures of a separate MD of the reference method, under the case's thermostat and temperature,
and what the runs say of their errors is compared with that.  `--program` names the command of
another version.  Every result is kept, so that a killed benchmark goes on.  Writes short_aimd.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io import read
from label_sets import kept_by_seed
from mace.calculators import MACECalculator
from selection_systems import SANE, sampled
from tblite.ase import TBLite

from fhi_al.core.structure import structure
from fhi_al.md.conditions import MDConditions
from fhi_al.md.system import MDSystem

INPUTS = Path(__file__).with_name("short_aimd")
METHOD = "GFN2-xTB"
N_STRUCTURES, STRIDE, BEFORE = 100, 200, 4000
FRICTION = 0.01  # 1/fs: the run's own, 0.001, needs ten times as long for the same


@cache
def independent(temperature: float, timestep: float) -> list[Atoms]:
    """Structures of canonical MD of the reference method, with energies and forces."""
    start: Any = read(INPUTS / "geometry.in", format="aims")
    conditions = MDConditions("Langevin", temperature, timestep, FRICTION, 100.0, 0.01, 1)
    calculator = TBLite(method=METHOD, verbosity=0)
    md = MDSystem(structure(start.numbers, start.positions), conditions, SANE)
    found = []
    for positions in sampled(md, calculator, N_STRUCTURES, STRIDE, seed=77, n_before=BEFORE):
        atoms = Atoms(start.numbers, positions)
        atoms.calc = TBLite(method=METHOD, verbosity=0)
        atoms.info["energy"] = atoms.get_potential_energy()
        atoms.arrays["f"] = atoms.get_forces()
        atoms.calc = None
        found.append(atoms)
    return found


def errors(model: Path, structures: list[Atoms]) -> dict[str, float]:
    """Force MAE in meV/A and energy RMSE in meV/atom of an exported model."""
    calculator = MACECalculator(model_paths=[str(model)], device="cpu", default_dtype="float64")
    forces, energies = [], []
    for atoms in structures:
        at = atoms.copy()
        at.calc = calculator
        forces.append(at.get_forces() - atoms.arrays["f"])
        energies.append((at.get_potential_energy() - atoms.info["energy"]) / len(at))
    return {
        "forces": 1000 * float(np.abs(forces).mean()),
        "energy": 1000 * float(np.sqrt(np.square(energies).mean())),
    }


def one_seed(folder: Path, seed: int, program: str) -> dict[str, Any]:
    """Run the case with a seed, and judge it."""
    here = folder / f"run_{seed}"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(INPUTS, here)
    values = {}
    for name, section, value in (
        ("active_learning_settings.yaml", "MD", 41 + seed),
        ("mace_settings.yaml", "GENERAL", 100 * seed),
    ):
        values[name] = yaml.safe_load((here / name).read_text())
        values[name][section]["seed"] = value
        (here / name).write_text(yaml.safe_dump(values[name]))
    begun = time.perf_counter()
    output = subprocess.run(
        ["mpirun", "-n", "1", program, "--workdir", str(here)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seconds = time.perf_counter() - begun
    md = values["active_learning_settings.yaml"]["MD"]
    structures = independent(md["temperature"], md["timestep"])
    true = re.findall(r"summary: true errors.*: forces ([\d.]+) \+- ([\d.]+)", output)
    return {
        "seconds": seconds,
        "labels": int(re.findall(r"summary: labels: (\d+) computed", output)[-1]),
        "validation": 1000 * float(re.findall(r"force MAE on validation: ([\d.]+)", output)[-1]),
        "final test": [float(each) for each in true[-1]] if true else None,
        "best": errors(here / "model" / "short_best.model", structures),
    }


def table(found: dict[int, dict[str, Any]]) -> list[str]:
    """Results in Markdown."""
    lines = [
        "| seed | labels | best member, independent structures: forces, energy RMSE "
        "| told: validation | told: final test | its ratio to the independent one | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, one in found.items():
        best, test = one["best"], one["final test"]
        told = "none" if test is None else f"{test[0]:.1f} +- {test[1]:.1f} meV/A"
        ratio = "" if test is None else f"{test[0] / best['forces']:.2f}"
        lines.append(
            f"| {seed} | {one['labels']} | {best['forces']:.1f} meV/A, {best['energy']:.2f} "
            f"meV/atom | {one['validation']:.1f} meV/A | {told} | {ratio} | {one['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    """Compute what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("short_aimd"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--program", default="FHI_AL")
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    given = parser.parse_args()
    compute = partial(one_seed, given.folder, program=given.program)
    found = kept_by_seed(given.folder, given.seeds, None if given.report else compute)
    lines = table(found)
    (given.folder / "short_aimd.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
