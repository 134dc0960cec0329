"""FHI_AL-label where a run has several systems: control.in and arguments of its own for each label.

Labels are compared with tblite's own calculator, on which the ASI test library stands, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from run_folder import CONTROL, SPECIES, WATER, run, succeed
from tblite.ase import TBLite

pytestmark = [pytest.mark.mpi, pytest.mark.real]

COMMAND = "FHI_AL-label"
HYDROXIDE = "atom 0.0 0.0 0.0 O\natom 0.0 0.0 0.97 H\n"
OH = Atoms("OH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]])
SYSTEMS = [
    {"name": "water", "geometry": "water.in"},
    {"name": "oh", "geometry": "oh.in", "arguments": {"charge": -1}},
]


def folder_of(folder: Path, systems: list[dict[str, Any]], **keys: Any) -> Path:
    """A folder for the command: an engine and systems."""
    folder.mkdir()
    engine = keys or {"reference_engine": "tblite", "reference_method": "GFN2-xTB"}
    content = {"ACTIVE_LEARNING": engine, "SYSTEMS": systems}
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(content))
    (folder / "water.in").write_text(WATER)
    (folder / "oh.in").write_text(HYDROXIDE)
    return folder


def of_library(folder: Path, library: Path, systems: list[dict[str, Any]]) -> Path:
    """With the ASI library, and no control.in of all systems."""
    folder_of(folder, systems, aims_lib_path=str(library), species_dir="species")
    (folder / "species").mkdir()
    for name, text in SPECIES.items():
        (folder / "species" / f"{name}_default").write_text(text)
    (folder / "control_water.in").write_text(CONTROL)
    (folder / "control_oh.in").write_text(CONTROL.replace("gfn2", "gfn1") + "charge -1\n")
    return folder


def rattled(atoms: Atoms, seed: int, system: str | None = None) -> Atoms:
    copy = atoms.copy()
    copy.rattle(0.03, seed=seed)
    copy.info = {} if system is None else {"system": system}
    return copy


def write(path: Path, frames: list[Atoms]) -> Path:
    ase.io.write(path, frames, format="extxyz")
    return path


def assert_labels(file: Path, given: Path, each: list[dict[str, Any]]) -> None:
    """The labels of a file are what tblite gives of its structures with these arguments."""
    frames, before = ase.io.read(file, ":"), ase.io.read(given, ":")
    for atoms, own, arguments in zip(frames, before, each, strict=True):
        assert atoms.numbers.tolist() == own.numbers.tolist()
        own.calc = TBLite(verbosity=0, **{"method": "GFN2-xTB", **arguments})
        # eV and eV/A: eight decimals in the file; the library converges from another density.
        assert atoms.info["REF_energy"] == pytest.approx(own.get_potential_energy(), abs=2e-5)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], own.get_forces(), atol=1e-3)


def n_stored(folder: Path) -> int:
    return len((folder / "labelled" / "labels.jsonl").read_text().splitlines())


def test_arguments_of_a_system_reach_its_labels(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", SYSTEMS)
    frames = [
        rattled(OH, 1, "oh"),
        rattled(molecule("H2O"), 2),
        rattled(OH, 3),
        rattled(OH[[1, 0]], 4),
    ]
    file = write(tmp_path / "some.xyz", frames)
    output = succeed(folder, 2, str(file), "--check", command=COMMAND)
    assert "4 structures: 3 HO (molecule) of system oh, 1 H2O (molecule) of system water" in output
    assert not (folder / "labelled").exists()
    succeed(folder, 2, str(file), command=COMMAND)
    ion = {"charge": -1}
    assert_labels(folder / "labelled" / "some.xyz", file, [ion, {}, ion, ion])
    assert n_stored(folder) == 4
    # Another charge of one system is another engine of this one alone.
    path = folder / "active_learning_settings.yaml"
    content = yaml.safe_load(path.read_text())
    del content["SYSTEMS"][1]["arguments"]
    path.write_text(yaml.safe_dump(content))
    succeed(folder, 1, str(file), command=COMMAND)
    assert_labels(folder / "labelled" / "some.xyz", file, [{}] * 4)
    assert n_stored(folder) == 7


def test_without_differences_labels_are_those_of_a_folder_without_systems(tmp_path: Path) -> None:
    """Systems share all: any atoms are computed, and a store of before goes on."""
    folder = folder_of(
        tmp_path / "run", [{k: one[k] for k in ("name", "geometry")} for one in SYSTEMS]
    )
    path = folder / "active_learning_settings.yaml"
    with_systems = path.read_text()
    file = write(tmp_path / "some.xyz", [rattled(OH, 1), rattled(molecule("CH4"), 2)])
    content = yaml.safe_load(with_systems)
    del content["SYSTEMS"]
    path.write_text(yaml.safe_dump(content))
    succeed(folder, 1, str(file), command=COMMAND)
    before = (folder / "labelled" / "labels.jsonl").read_bytes()
    path.write_text(with_systems)
    output = succeed(folder, 1, str(file), command=COMMAND)
    assert "2 of 2 different structures have a result already" in output
    assert (folder / "labelled" / "labels.jsonl").read_bytes() == before


def test_structures_of_no_system_or_of_several_are_refused(tmp_path: Path) -> None:
    neutral = {"name": "neutral", "geometry": "oh.in"}
    folder = folder_of(tmp_path / "run", [*SYSTEMS, neutral])
    frames = [
        rattled(OH, 1, "oh"),
        rattled(OH, 2),
        rattled(molecule("CH4"), 3),
        rattled(OH, 4, "water"),
    ]
    file = write(tmp_path / "some.xyz", frames)
    for options in (["--check"], []):
        code, output = run(folder, 1, str(file), *options, command=COMMAND)
        assert code == 2, output
        assert f"{file}: frame 2: could be of several systems (oh and neutral)" in output
        assert f"{file}: frame 3: has the atoms H4C, which no system has" in output
        assert f"{file}: frame 4: says system=water" in output
        assert "nothing was run" in output and "Traceback" not in output
    assert not (folder / "labelled").exists()


def test_a_systems_own_control_is_used_and_no_other_is_needed(
    asi_library: Path, tmp_path: Path
) -> None:
    systems: list[dict[str, Any]] = [
        {"name": "water", "geometry": "water.in", "control": "control_water.in"},
        {"name": "oh", "geometry": "oh.in", "control": "control_oh.in"},
    ]
    folder = of_library(tmp_path / "run", asi_library, systems)
    assert not (folder / "control.in").exists()
    ions = write(tmp_path / "ions.xyz", [rattled(OH, seed) for seed in (1, 2)])
    succeed(folder, 1, str(ions), "--check", command=COMMAND)
    succeed(folder, 2, str(ions), command=COMMAND)
    ion = {"method": "GFN1-xTB", "charge": -1, "max_iterations": 250}
    assert_labels(folder / "labelled" / "ions.xyz", ions, [ion, ion])
    both = write(tmp_path / "both.xyz", [rattled(molecule("H2O"), 1), rattled(OH, 2)])
    code, output = run(folder, 1, str(both), "--check", command=COMMAND)
    assert code == 2, output
    what = (
        "other systems (HO (molecule) of system oh) than frame 1 (H2O (molecule) of system water)"
    )
    assert f"{both}: frame 2: {what}" in output
    # What is wrong with a system's files is said as in a run.
    (folder / "control_oh.in").unlink()
    code, output = run(folder, 1, str(ions), "--check", command=COMMAND)
    assert code == 2 and "control_oh.in" in output, output
