"""FHI_AL-label on a cluster, and the most different structures by a MACE model."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import ase.io
import models_parts
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from cluster_parts import processes_of
from tblite.ase import TBLite
from test_aims_executable import CONTROL, FAKE, WATER

from fhi_al.app.label import command
from fhi_al.app.label.work import LabelOrder
from fhi_al.app.process_set_up import process_set_up
from fhi_al.core.errors import InputError

pytestmark = pytest.mark.real


def rattled(name: str, seed: int, size: float = 0.05) -> Atoms:
    atoms = molecule(name)
    atoms.rattle(size, seed=seed)
    atoms.info["seed"] = seed
    return atoms


def compute(folder: Path, order: LabelOrder) -> list[Atoms]:
    with process_set_up() as process:
        command.compute(folder, order, process)
    return ase.io.read(folder / "labelled" / f"{order.file.stem}.xyz", ":")  # type: ignore


def n_stored(folder: Path) -> int:
    return (folder / "labelled" / "labels.jsonl").read_bytes().count(b"\n")


def test_each_label_on_a_cluster_brings_its_own_inputs(tmp_path: Path) -> None:
    """FHI-aims' executable; a library would know one system only."""
    command = shlex.join([sys.executable, str(FAKE), "well"])
    (tmp_path / "control.in").write_text(CONTROL.format(k_grid=""))
    # Names the oxygen's species, which control.in knows by no other name.
    (tmp_path / "geometry.in").write_text(WATER)
    (tmp_path / "active_learning_settings.yaml").write_text(
        "ACTIVE_LEARNING:\n  parallel: true\n"
        f"  cluster:\n    workers_per_node: 2\n    aims_command: {command}\n"
    )
    frames = [rattled(name, seed) for seed, name in enumerate(["H2O", "CH4", "H2O", "C2H6"])]
    file = tmp_path / "some.xyz"
    ase.io.write(file, frames)
    found = compute(tmp_path, LabelOrder(file))
    assert [atoms.info["seed"] for atoms in found] == [0, 1, 2, 3]
    for atoms in found:
        copy = atoms.copy()
        copy.calc = TBLite(method="GFN2-xTB", verbosity=0)
        assert atoms.info["REF_energy"] == pytest.approx(copy.get_potential_energy(), abs=1e-4)
    inputs = tmp_path.glob("labelled/cluster/*/*/geometry.in")
    geometries = [path.read_text() for path in inputs]
    assert sorted(text.count("\natom ") for text in geometries) == [3, 3, 5, 8]
    assert sum("O_w" in text for text in geometries) == 2
    # One more kind beside them: the jobs of the others are not done again.
    ase.io.write(file, [*frames, rattled("C2H4", 4)])
    (tmp_path / "labelled" / "labels.jsonl").unlink()
    assert len(compute(tmp_path, LabelOrder(file))) == 5
    assert len(list(tmp_path.glob("labelled/cluster/*/attempt_1"))) == 5
    assert not list(tmp_path.glob("labelled/cluster/*/attempt_2"))
    assert not processes_of(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MACE model that knows hydrogen and oxygen."""
    ensemble = models_parts.fitted(models_parts.water_labels(8))
    return ensemble.export(tmp_path_factory.mktemp("model"), "water", [0])[0]


def test_the_most_different_structures_come_first(tmp_path: Path, model: Path) -> None:
    (tmp_path / "active_learning_settings.yaml").write_text(
        "ACTIVE_LEARNING:\n  reference_engine: tblite\n"
    )
    frames = [rattled("H2O", seed, 0.001) for seed in range(6)]
    frames[3].set_distance(0, 1, 1.4, fix=0)
    frames.insert(2, rattled("H2O2", 6))
    file = tmp_path / "some.xyz"
    ase.io.write(file, frames)
    found = compute(tmp_path, LabelOrder(file, n_selected=3, model=model))
    # In the order of the file: the first one, another molecule, a long bond.
    assert [atoms.info["seed"] for atoms in found] == [0, 6, 3]
    assert n_stored(tmp_path) == 3
    choice = json.loads((tmp_path / "labelled" / "selection.json").read_text())["order"]
    assert choice[0] == 0 and sorted(choice) == [0, 2, 4]
    # More of them: those that are there are not computed again.
    found = compute(tmp_path, LabelOrder(file, n_selected=5, model=model))
    assert len(found) == n_stored(tmp_path) == 5
    longer = json.loads((tmp_path / "labelled" / "selection.json").read_text())["order"]
    assert longer[:3] == choice


def test_a_model_that_does_not_do_is_refused(tmp_path: Path, model: Path) -> None:
    settings = tmp_path / "active_learning_settings.yaml"
    settings.write_text("ACTIVE_LEARNING:\n  reference_engine: tblite\n")
    file, other = tmp_path / "some.xyz", tmp_path / "other.model"
    ase.io.write(file, [molecule("H2O"), molecule("CH4"), molecule("NH3")])
    other.write_bytes(np.arange(9).tobytes())

    def refused(chosen: Path, n_selected: int = 2) -> str:
        with process_set_up() as process, pytest.raises(InputError) as error:
            command.checked(tmp_path, LabelOrder(file, None, n_selected, chosen), process)
        return str(error.value)

    assert f"{file}: frames 2-3: --model {model} does not know C, N" in refused(model)
    assert f"{other}: not a MACE model" in refused(other)
    assert "expected a number of structures" in refused(model, 0)
    settings.write_text(settings.read_text() + "  model_backend: pair_potential:PairPotential\n")
    assert "expected mace" in refused(model)
