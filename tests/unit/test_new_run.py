"""FHI_AL-init: what it writes passes the checks; what is wrong is said and nothing is written."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixCartesian
from ase.io import read, write

from fhi_al.app.definition import definition_of
from fhi_al.app.needs import Command
from fhi_al.app.new_run import examples
from fhi_al.app.new_run.commented_yaml import Key, commented_yaml
from fhi_al.app.new_run.engine_choice import chosen_engine
from fhi_al.app.new_run.supercell import enough_cells
from fhi_al.app.prepare import prepare
from fhi_al.cli import main_init
from fhi_al.engines.aims_input.geometry import read_geometry

ROOT = Path(__file__).parents[2]
SPECIES = "  species {0}\n    nucleus {1}\n"


def init(folder: Path, atoms: Atoms | list[Atoms], *options: str) -> int:
    """Run the command on structures in an extended xyz file."""
    path = folder.with_suffix(".xyz")
    write(path, atoms)
    return main_init([str(folder), "--geometry", str(path), *options])


def keys(folder: Path) -> dict[str, object]:
    text = (folder / "active_learning_settings.yaml").read_text()
    return dict(yaml.safe_load(text)["ACTIVE_LEARNING"])


def passes(folder: Path) -> bool:
    """Whether ``--check`` has nothing to say; it raises otherwise."""
    return prepare(definition_of(folder), Command.ALL).found is None


@pytest.mark.parametrize("goal", ["quick", "production"])
@pytest.mark.parametrize("atoms", [molecule("CH3CHO"), bulk("Si", cubic=True)], ids=str)
def test_what_is_written_passes_the_check(tmp_path: Path, atoms: Atoms, goal: str) -> None:
    assert init(tmp_path / "run", atoms, "--engine", "tblite", "--goal", goal) == 0
    assert passes(tmp_path / "run")
    notes = definition_of(tmp_path / "run").settings.notes
    assert not [note for note in notes if "no effect" in note or "superseded" in note]


def test_a_calculator_of_ase_labels(tmp_path: Path) -> None:
    options = ("--engine", "ase", "--calculator", "ase.calculators.emt.EMT")
    assert init(tmp_path / "run", bulk("Cu", cubic=True), *options) == 0
    assert passes(tmp_path / "run")
    md = yaml.safe_load((tmp_path / "run/active_learning_settings.yaml").read_text())["MD"]
    assert md["timestep"] == 2.0


def test_fixed_atoms_and_moments_are_kept(tmp_path: Path) -> None:
    atoms = bulk("Fe", cubic=True)
    atoms.set_initial_magnetic_moments([2.0, -2.0])
    atoms.set_constraint([FixAtoms([0]), FixCartesian([1], (True, False, False))])
    write(tmp_path / "fe.traj", atoms)
    arguments = ["--geometry", str(tmp_path / "fe.traj"), "--engine", "aims"]
    assert main_init([str(tmp_path / "run"), *arguments]) == 0
    found = read_geometry(tmp_path / "run" / "geometry.in").structure
    assert found.fixed.tolist() == [[True] * 3, [True, False, False]]
    assert found.initial_moments.tolist() == [2.0, -2.0]
    np.testing.assert_array_equal(found.cell, atoms.cell[:])
    assert "spin                   collinear" in (tmp_path / "run/control.in").read_text()


def test_of_several_frames_it_says_which_one_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [molecule(name) for name in ("H2O", "CH4", "NH3")]
    assert init(tmp_path / "last", frames) == 0
    assert "H3N, 4 atoms, a molecule (frame 2 of 0 to 2 of last.xyz)" in capsys.readouterr().out
    assert init(tmp_path / "first", frames, "--frame", "0") == 0
    assert "H2O, 3 atoms" in (tmp_path / "first/active_learning_settings.yaml").read_text()
    assert init(tmp_path / "none", frames, "--frame", "3") == 2
    assert "expected 0 to 2" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_radical_gets_a_multiplicity_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radical = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    assert init(tmp_path / "run", radical, "--engine", "tblite") == 0
    assert keys(tmp_path / "run")["reference_arguments"] == {"multiplicity": 2}
    assert "an odd number of electrons" in capsys.readouterr().out
    assert init(tmp_path / "anion", radical, "--engine", "tblite", "--charge", "-1") == 0
    assert keys(tmp_path / "anion")["reference_arguments"] == {"charge": -1.0}
    assert init(tmp_path / "wrong", radical, "--multiplicity", "3") == 2
    assert "expected an even multiplicity" in capsys.readouterr().err
    assert init(tmp_path / "aims", radical, "--engine", "aims") == 0
    control = (tmp_path / "aims" / "control.in").read_text()
    assert "fixed_spin_moment      1\n" in control
    assert "default_initial_moment 0.5000\n" in control


@pytest.mark.parametrize("multiplicity", [1, 5])
def test_fhi_aims_holds_a_multiplicity_that_moments_of_the_file_only_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], multiplicity: int
) -> None:
    atoms = Atoms("Fe2", [[0, 0, 0], [0, 0, 2.0]])
    atoms.set_initial_magnetic_moments([4.0, -4.0])
    options = ("--engine", "aims", "--multiplicity", str(multiplicity))
    assert init(tmp_path / "run", atoms, *options) == 0
    control = (tmp_path / "run" / "control.in").read_text().splitlines()
    assert "spin                   collinear" in control
    assert f"fixed_spin_moment      {multiplicity - 1}" in control
    assert not any(line.startswith("default_initial_moment") for line in control)
    assert read_geometry(tmp_path / "run" / "geometry.in").structure.initial_moments[1] == -4.0
    note = f"note: fixed_spin_moment {multiplicity - 1} in control.in holds the number of unpaired"
    assert note in capsys.readouterr().out
    assert init(tmp_path / "free", atoms, "--engine", "aims") == 0
    assert "fixed_spin_moment" not in (tmp_path / "free" / "control.in").read_text()


def test_a_calculator_whose_keywords_are_not_known_takes_no_charge_or_multiplicity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ase = ("--engine", "ase", "--calculator", "ase.calculators.emt.EMT")
    copper = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]])
    assert init(tmp_path / "run", copper, *ase, "--charge", "-1", "--multiplicity", "2") == 2
    error = capsys.readouterr().err
    assert "--charge -1 --multiplicity 2 with --engine ase" in error
    assert "keywords in ACTIVE_LEARNING.reference_arguments" in error
    assert init(tmp_path / "run", copper, *ase, "--charge", "0") == 2
    assert "Leave --charge out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    # Nor is it said that something was assumed which is written nowhere.
    copper.info["charge"] = 1.0
    assert init(tmp_path / "run", copper, *ase) == 0
    assert keys(tmp_path / "run")["reference_arguments"] == {}
    out = capsys.readouterr().out
    assert "note: the calculator is not told the file's charge, 1 e" in out
    assert "an odd number of electrons: a radical, which the calculator is not told" in out
    assert "--multiplicity" not in out


def test_what_xtb_is_told_it_is_told_by_either_name(tmp_path: Path) -> None:
    radical = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    for name, engine in {
        "tblite": ("--engine", "tblite"),
        "dotted": ("--engine", "ase", "--calculator", "tblite.ase.TBLite"),
        "colon": ("--engine", "ase", "--calculator", "tblite.ase:TBLite"),
    }.items():
        assert init(tmp_path / name, radical, *engine, "--multiplicity", "4") == 0
        assert keys(tmp_path / name)["reference_arguments"] == {"multiplicity": 4}
    # tblite adds up initial charges where no charge is given.
    radical.set_initial_charges([-1.0, 0.0])
    assert init(tmp_path / "neutral", radical, "--engine", "tblite", "--charge", "0") == 0
    assert keys(tmp_path / "neutral")["reference_arguments"] == {"charge": 0.0, "multiplicity": 2}


def test_with_fhi_aims_only_the_two_paths_are_left_to_adapt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIMS_SPECIES_DIR", raising=False)
    assert init(tmp_path / "run", bulk("NaCl", "rocksalt", a=5.64), "--engine", "aims") == 0
    adapt = [line for line in capsys.readouterr().out.splitlines() if line.startswith("adapt:")]
    assert sorted("species_dir" in line for line in adapt) == [False, True]
    assert "k_grid                 7 7 7\n" in (tmp_path / "run/control.in").read_text()


def test_with_fhi_aims_there_is_a_job_script_that_queues_itself_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "run", molecule("H2O"), "--engine", "aims") == 0
    script = tmp_path / "run" / "submit.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "sbatch submit.sh" in capsys.readouterr().out
    tools = tmp_path / "tools"
    tools.mkdir()
    said = tmp_path / "said"
    for name, content in {
        "FHI_AL": f'echo "$0 $@" >> {said}; exit $CODE_OF_CHECK',
        "srun": f'echo "srun $@" >> {said}; exit $CODE',
        "scontrol": f'echo "scontrol $@" >> {said}',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{content}\n")
        (tools / name).chmod(0o755)

    def run(code_of_check: int, code: int, restarts: int = 0) -> tuple[int, list[str]]:
        said.write_text("")
        values = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CODE_OF_CHECK": str(code_of_check),
            "CODE": str(code),
            "SLURM_JOB_ID": "7",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        # Not as a login shell, which would set the path anew.
        done = subprocess.run(["bash", str(script)], cwd=script.parent, env=os.environ | values)
        return done.returncode, [line.split()[0] for line in said.read_text().splitlines()[1:]]

    assert run(2, 0) == (2, [])
    assert run(0, 0) == (0, ["srun"])
    assert run(0, 3) == (3, ["srun", "scontrol"])
    assert run(0, 3, restarts=20) == (3, ["srun"])
    assert run(0, 1) == (1, ["srun"])


def test_the_environment_says_where_fhi_aims_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    species = tmp_path / "species"
    species.mkdir()
    for number, symbol in ((1, "H"), (8, "O")):
        (species / f"{number:02d}_{symbol}_default").write_text(SPECIES.format(symbol, number))
    monkeypatch.setenv("AIMS_SPECIES_DIR", str(species))
    assert init(tmp_path / "run", molecule("H2O"), "--engine", "aims") == 0
    (adapt,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("adapt:")]
    assert "aims_lib_path" in adapt
    assert keys(tmp_path / "run")["species_dir"] == str(species)
    assert chosen_engine(None, {"ASI_LIB_PATH": "libaims.so"}) == "aims"
    assert chosen_engine("ase", {"ASI_LIB_PATH": "libaims.so"}) == "ase"


def test_an_element_that_the_engine_does_not_know_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "run", Atoms("PuO", [[0, 0, 0], [0, 0, 1.8]]), "--engine", "tblite") == 2
    assert "No support for elements with Z >86" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "geometry.in").write_text("mine")
    assert init(folder, molecule("H2O")) == 2
    assert "has geometry.in already" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["geometry.in"]
    assert (folder / "geometry.in").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "--geometry: missing"),
        (["--geometry", "x.xyz"], "FOLDER: missing"),
        (["run", "--geometry", "no.xyz"], "no.xyz: no such file"),
        (["run", "--geometry", "bad.xyz"], "cannot be read as a structure"),
        (["run", "--geometry", "slab.xyz"], "is periodic in some directions only"),
        (["run", "--geometry", "h2o.xyz", "--engine", "ase"], "Expected --calculator"),
        (["--example", "ethanol", "--engine", "ase"], "one or the other"),
        (["run", "--geometry", "h2o.xyz", "--supercell", "2"], "expected a crystal"),
        (["run", "--geometry", "cu.xyz", "--supercell", "2", "2"], "one number, or three"),
        (["h2o.xyz/run", "--geometry", "h2o.xyz", "--engine", "tblite"], "h2o.xyz: is a file"),
        (["used", "--geometry", "h2o.xyz", "--engine", "tblite"], "has restart already"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.xyz").write_text("no structure")
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    write("slab.xyz", slab)
    write("h2o.xyz", molecule("H2O"))
    write("cu.xyz", bulk("Cu", cubic=True))
    Path("used/restart").mkdir(parents=True)
    assert main_init(arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_an_example_is_copied_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main_init(["--example", "ethanol"]) == 0
    assert "mpirun -n 2 FHI_AL --workdir ethanol" in capsys.readouterr().out
    assert passes(tmp_path / "ethanol")
    assert main_init(["--example", "ethanol"]) == 2


def test_every_file_of_the_examples_is_shipped_and_nothing_else() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "examples"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode or not listed.stdout:
        pytest.skip("no git checkout")
    tracked = set(listed.stdout.split())
    copied = {
        f"examples/{name}/{file}" for name in examples.names() for file in examples.files_of(name)
    }
    assert copied == tracked
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["fhi_al"]
    assert [path for path in tracked if not any(fnmatch.fnmatch(path, p) for p in patterns)] == []


def test_texts_are_quoted_where_yaml_would_take_them_for_something_else() -> None:
    given = ["plain", "/a path/with: colon", "it's", "-dash", "GFN2-xTB", "/a" * 40, "a.b.C", "~x"]
    lines = [Key(f"key{number}", value, "comment") for number, value in enumerate(given)]
    text = commented_yaml(["head"], {"SECTION": ["a comment", *lines, Key("list", [1, 2.5, True])]})
    read = yaml.safe_load(text)["SECTION"]
    assert [read[f"key{number}"] for number in range(len(given))] == given
    assert read["list"] == [1, 2.5, True]


def test_where_there_are_no_k_points_a_crystal_gets_enough_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crystal = bulk("MgO", "rocksalt", a=4.21, cubic=True)
    assert init(tmp_path / "run", crystal, "--engine", "tblite") == 0
    out = capsys.readouterr().out
    assert "MgO, 64 atoms, a crystal (2 x 2 x 2 cells of run.xyz)" in out
    assert "64 atoms instead of 8, for tblite has the Gamma point only" in out
    assert init(tmp_path / "small", crystal, "--engine", "tblite", "--supercell", "1") == 0
    assert "note: tblite has the Gamma point only: in a cell of 4.2 A" in capsys.readouterr().out
    assert init(tmp_path / "aims", crystal, "--engine", "aims") == 0
    out = capsys.readouterr().out
    assert "MgO, 8 atoms, a crystal (aims.xyz)" in out and "Gamma" not in out
    assert "note: a cell of 4.2 A" in out
    # Faces of a skewed cell are closer than its vectors are long: 2 cells would be 6.3 A.
    assert enough_cells(bulk("Si").cell[:]) == (3, 3, 3)


def test_a_supercell_is_the_same_crystal_with_all_that_is_said_of_its_atoms(tmp_path: Path) -> None:
    text = """lattice_vector 4.0 0 0
lattice_vector 0 5.0 0
lattice_vector 1.0 0 6.0
atom 0.1 0.2 0.3 Fe
    initial_moment 2.0
atom 2.0 2.5 3.0 O
    constrain_relaxation .true.
    hessian_block_size 3
"""
    (tmp_path / "one.in").write_text(text)
    arguments = ["--geometry", str(tmp_path / "one.in"), "--engine", "aims"]
    assert main_init([str(tmp_path / "run"), *arguments, "--supercell", "1", "2", "3"]) == 0
    found = read_geometry(tmp_path / "run" / "geometry.in").structure
    expected = read(tmp_path / "one.in", format="aims").repeat((1, 2, 3))
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-12)
    np.testing.assert_allclose(found.cell, expected.cell[:], atol=1e-12)
    assert found.numbers.tolist() == 6 * [26, 8]
    assert found.initial_moments.tolist() == 6 * [2.0, 0.0]
    assert found.fixed.all(axis=1).tolist() == 6 * [False, True]


def test_crystals_are_asked_for_the_stress_where_the_engine_has_one(tmp_path: Path) -> None:
    def mace(folder: Path) -> dict[str, dict[str, object]]:
        return dict(yaml.safe_load((folder / "mace_settings.yaml").read_text()))

    crystal = bulk("Cu", cubic=True)
    calculators = {"emt": "ase.calculators.emt.EMT", "none": "ase.calculators.tip3p.TIP3P"}
    for name, path in calculators.items():
        options = ("--engine", "ase", "--calculator", path)
        assert init(tmp_path / name, crystal, *options) == 0
    found = mace(tmp_path / "emt")
    assert found["GENERAL"]["compute_stress"] and found["TRAINING"]["loss"] == "stress"
    assert "compute_stress" not in mace(tmp_path / "none")["GENERAL"]
