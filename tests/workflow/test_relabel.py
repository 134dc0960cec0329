"""docs/tutorials/relabel.md, its commands as they stand: labels of one method become another's."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
from asi.harness import mpirun
from preloaded.launch import preloaded
from run_folder import SMALLEST, python_path, write_inputs
from tblite.ase import TBLite

pytestmark = [pytest.mark.mpi, pytest.mark.real]

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "relabel.md"
TIMEOUT_S = 300


def structures_of(*files: Path) -> dict[bytes, ase.Atoms]:
    """The structures of some files, by their positions."""
    return {atoms.positions.tobytes(): atoms for file in files for atoms in ase.io.read(file, ":")}


def commands(folder: Path) -> Path:
    """The commands by their names, of forked ranks: see preloaded/launch.py."""
    folder.mkdir()
    for name in ("FHI_AL", "FHI_AL-al", "FHI_AL-label"):
        program = preloaded(str(Path(sys.executable).parent / name), mace=False)
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    keys = {**SMALLEST, "n_samples": 3, "reference_method": "GFN1-xTB"}
    gfn1 = write_inputs(tmp_path / "gfn1", active_learning={"ACTIVE_LEARNING": keys})
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    places = [
        *(str(commands(tmp_path / "bin")), str(Path(sys.executable).parent)),
        *(str(Path(mpirun()).parent), os.environ["PATH"]),
    ]
    done = subprocess.run(
        ["bash", "-e", "-c", "".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PATH": os.pathsep.join(places), "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout
    gfn2 = tmp_path / "gfn2"
    assert "active learning stops: the training set has" in done.stdout
    before, after = (
        structures_of(*(run / "data" / "final").glob("*/combined.xyz")) for run in (gfn1, gfn2)
    )
    assert before.keys() == after.keys() and len(after) >= 6
    for key, atoms in after.items():
        energies = [one.info["REF_energy"] for one in (before[key], atoms)]
        assert abs(energies[0] - energies[1]) > 1.0  # eV
    atoms = next(iter(after.values())).copy()
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    energy = after[atoms.positions.tobytes()].info["REF_energy"]
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)  # eV
    # Each structure once, though some may be in both files.
    records = [
        json.loads(line)["label"]
        for line in (gfn2 / "labelled" / "labels.jsonl").read_text().splitlines()
    ]
    assert len({record["key"] for record in records}) == len(records) == len(after)
    assert f"labels: 0 computed, of which 0 discarded; {len(after)} from files" in done.stdout
    assert len(list((gfn2 / "model").glob("water_*.model"))) == 2
