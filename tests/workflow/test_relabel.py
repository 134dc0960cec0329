"""docs/relabel.md, its commands as they stand: a dataset of one method becomes one of another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
import yaml
from asi.harness import mpirun
from run_folder import SMALLEST, python_path, write_inputs
from tblite.ase import TBLite

pytestmark = [pytest.mark.mpi, pytest.mark.real]

PAGE = Path(__file__).parents[2] / "docs" / "relabel.md"
TIMEOUT_S = 300


def sets_of(folder: Path) -> dict[str, list[float]]:
    """Energies in eV of every set's structures, by its path."""
    return {
        str(path.relative_to(folder)): [a.info["REF_energy"] for a in ase.io.read(path, ":")]
        for path in sorted(folder.glob("*/*.xyz"))
    }


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    keys = {**SMALLEST, "n_samples": 3, "reference_method": "GFN1-xTB"}
    gfn1 = write_inputs(tmp_path / "gfn1", active_learning={"ACTIVE_LEARNING": keys})
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    places = [str(Path(sys.executable).parent), str(Path(mpirun()).parent), os.environ["PATH"]]
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
    old, new = sets_of(gfn1 / "data" / "final"), sets_of(gfn2 / "data" / "final")
    assert old.keys() == new.keys() and len(old) == 6
    for name, energies in new.items():
        before = ase.io.read(gfn1 / "data" / "final" / name, ":")
        after = ase.io.read(gfn2 / "data" / "final" / name, ":")
        assert len(before) == len(after) == len(energies)
        for one, other in zip(before, after, strict=True):
            assert (one.positions == other.positions).all()
            assert abs(one.info["REF_energy"] - other.info["REF_energy"]) > 1.0  # eV
        atoms = after[0]
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        assert energies[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)  # eV
    # Each structure once, though most are in several files.
    records = [
        json.loads(line)["label"]
        for line in (gfn2 / "labelled" / "labels.jsonl").read_text().splitlines()
    ]
    structures = {e for name, energies in new.items() if "combined" in name for e in energies}
    assert len({record["key"] for record in records}) == len(records) == len(structures)
    assert len(list((gfn2 / "model").glob("water_*.model"))) == 2
    settings = yaml.safe_load((gfn2 / "active_learning_settings.yaml").read_text())
    assert settings["ACTIVE_LEARNING"]["converge_from"] == "fresh"
