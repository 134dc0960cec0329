"""Runs from Python objects: the same as from files, and with parts of the user's own."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule
from pair_potential import PairPotential
from preloaded.launch import preloaded
from run_folder import (
    ACTIVE_LEARNING,
    CONTROL,
    MACE,
    SMALLEST,
    SPECIES,
    WATER,
    assert_same_end,
    datasets,
    kill_all,
    labels,
    launch,
    python_path,
    run,
    succeed,
    wait_for_a_training_round,
    wait_for_forked_ranks,
    write_inputs,
)

import fhi_al
from fhi_al import (
    ActiveLearning,
    Aims,
    Backend,
    Bussi,
    InitialDataset,
    Langevin,
    Ramp,
    Stop,
    System,
    TBLite,
    Threshold,
)
from fhi_al.app.definition import definition_of
from fhi_al.core.errors import InputError
from fhi_al.settings import SettingsError
from fhi_al.settings.model_backends import ModelDeclaration

pytestmark = [pytest.mark.mpi, pytest.mark.real]

DOCS = Path(__file__).parents[2] / "docs" / "how_to" / "python.md"
EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
SCRIPTS = Path(__file__).parent / "scripts"
TIMEOUT_S = 150


def begin(script: Path, folder: Path, *options: str, ranks: int = 1) -> subprocess.Popen[str]:
    """Start a script on forked ranks: see preloaded/launch.py."""
    program = preloaded(str(script), mace=script.stem == "objects")
    environment = {"PYTHONPATH": python_path(EXAMPLES)}
    command = [*program, str(folder), *options]
    return launch(command, ranks, env=environment, stderr=subprocess.PIPE)


def start(
    script: Path, folder: Path, *options: str, ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    job = begin(script, folder, *options, ranks=ranks)
    output, errors = job.communicate(timeout=TIMEOUT_S)
    wait_for_forked_ranks(job)
    return subprocess.CompletedProcess(job.args, job.returncode, output, errors)


@pytest.fixture
def water(tmp_path: Path) -> ActiveLearning:
    """The objects of ``write_inputs`` with SMALLEST."""
    (tmp_path / "geometry.in").write_text(WATER)
    rest: dict[str, Any] = {**ACTIVE_LEARNING["ACTIVE_LEARNING"], **SMALLEST}
    rest = {
        key: value
        for key, value in rest.items()
        if key
        not in {"desired_acc", "lambda", "ensemble_size", "initial_sampling", "n_samples"}
        | {"skip_step_initial", "max_initial_epochs", "max_MD_steps", "threshold_warmup"}
        | {"max_threshold"}
    }
    keys = {key: value for section in MACE.values() for key, value in section.items()}
    return ActiveLearning(
        structures=[ase.io.read(tmp_path / "geometry.in", format="aims")],
        engine=TBLite("GFN2-xTB"),
        model=fhi_al.MACE(members=2, **keys),
        md=Langevin(temperature_K=300, timestep_fs=0.5, friction_per_fs=0.02, seed=3),
        criterion=Threshold(warmup=3, max_threshold=None),
        stop=Stop(force_mae=0.02, max_md_steps=10),
        initial=InitialDataset("aimd", points=2, skip_steps=4, factor=1.0, max_epochs=2),
        options=rest,
        misc={"snapshot_interval": 0, "report": False},
    )


def test_objects_make_the_settings_that_files_make(water: ActiveLearning, tmp_path: Path) -> None:
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": SMALLEST}, models="mace"
    )
    of_files, of_objects = definition_of(folder), water.definition(folder)
    assert of_objects.settings.values() == of_files.settings.values()
    (theirs,), (ours,) = of_files.inputs.systems, of_objects.inputs.systems
    np.testing.assert_array_equal(ours.positions, theirs.positions)
    assert list(ours.numbers) == list(theirs.numbers) and ours.pbc == theirs.pbc


def test_several_systems_are_those_that_files_have(water: ActiveLearning, tmp_path: Path) -> None:
    near, far = (Atoms("OH", [[0, 0, 0], [0, 0, length]]) for length in (0.95, 1.05))
    folder = write_inputs(
        tmp_path / "run",
        active_learning={"ACTIVE_LEARNING": SMALLEST | {"num_trajectories": 2, "n_samples": 4}},
        models="mace",
    )
    ase.io.write(folder / "hydroxide.xyz", [near, far])
    systems = [
        {"name": "water"},
        {"name": "hydroxide", "geometry": "hydroxide.xyz", "arguments": {"charge": -1}},
    ]
    path = folder / "active_learning_settings.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"SYSTEMS": systems}))
    of_files = definition_of(folder)
    (start,) = water.structures
    hydroxide = System([near, far], arguments={"charge": -1})
    several = replace(
        water,
        structures={"water": start, "hydroxide": hydroxide},
        initial=replace(water.initial, points=4),
        options={**water.options, "num_trajectories": 2},
    )
    of_objects = several.definition(folder)
    theirs, ours = of_files.settings.values(), of_objects.settings.values()
    differ = {key for key in theirs if theirs[key] != ours[key]}
    # What files say of where structures are; without the key the share is 1.
    assert differ == {"SYSTEMS[1].geometry", "SYSTEMS[0].share", "SYSTEMS[1].share"}
    for one, other in zip(of_files.inputs.each, of_objects.inputs.each, strict=True):
        assert (one.name, one.arguments) == (other.name, other.arguments)
        assert np.allclose(one.structure.positions, other.structure.positions)
        assert len(one.starts) == len(other.starts)
    mixed = {"water": [start, near], "hydroxide": hydroxide}
    with pytest.raises(
        InputError, match=r"structures\['water'\]\[1\]: is not .* it is HO \(molecule\), not H2O"
    ):
        replace(several, structures=mixed).definition(folder)
    with pytest.raises(InputError, match="structures: is empty"):
        replace(water, structures=[]).definition(folder)


def test_several_conditions_are_the_blocks_that_files_have(
    water: ActiveLearning, tmp_path: Path
) -> None:
    ramp = {"from": 200, "to": 500, "over": 30}
    blocks = [
        {"name": "a", "temperature": ramp},
        {"temperature": [300, 400], "thermostat": "Bussi"},
    ]
    keys = {"ACTIVE_LEARNING": {**SMALLEST, "num_trajectories": 3}, "MD": blocks}
    folder = write_inputs(tmp_path / "run", active_learning=keys, models="mace")
    common = {"timestep_fs": 0.5, "seed": 3}
    md = [
        Langevin(Ramp(200, 500, over=30), friction_per_fs=0.02, name="a", **common),
        Bussi([300, 400], **common),
    ]
    several = replace(water, md=md, options={**water.options, "num_trajectories": 3})
    of_files = definition_of(folder).settings.values()
    of_objects = several.definition(folder).settings.values()
    differing = {key for key in of_files if of_files[key] != of_objects[key]}
    # The files give it to all blocks; Bussi has no use for it.
    assert differing == {"MD[1].friction"}
    with pytest.raises(InputError, match="md: is empty"):
        replace(water, md=[]).definition(folder)


def test_a_command_goes_on_with_what_objects_began(tmp_path: Path) -> None:
    """The example to its end on two ranks; its settings, as written, are those of a folder."""
    folder = tmp_path / "run"
    job = start(EXAMPLES / "objects.py", folder, ranks=2)
    assert job.returncode == 0, job.stdout + job.stderr
    n_labels = int(re.findall(r"^(\d+) labels", job.stdout, flags=re.M)[0])
    assert n_labels == len((folder / "restart" / "labels.jsonl").read_text().splitlines())
    for name in ("mace_settings.yaml", "active_learning_settings.yaml", "geometry.in"):
        (folder / name).write_text((folder / "inputs" / f"resolved_{name}").read_text())
    before = datasets(folder)
    assert "complete already" in succeed(folder, 1)
    assert datasets(folder) == before


def test_calculators_are_named_by_their_import_paths(tmp_path: Path) -> None:
    """As the reference and for sampling; another spelling of the path is the same run."""
    script, folder = SCRIPTS / "named_calculators.py", tmp_path / "run"
    job = start(script, folder, "tblite.ase:TBLite")
    assert job.returncode == 0, job.stdout + job.stderr
    first = labels(folder)
    # Four points of each member; MD on the reference would have a label at each of its steps.
    assert [each["origin"]["phase"] for each in first].count("initial") == 8
    resolved = (folder / "inputs" / "resolved_active_learning_settings.yaml").read_text()
    for key in ("reference_calculator", "foundation_calculator"):
        assert f"  {key}: tblite.ase.TBLite\n" in resolved
    again = start(script, folder, "tblite.ase.TBLite")
    assert again.returncode == 0 and "complete already" in again.stdout, again.stdout
    assert labels(folder) == first


def test_a_file_that_samples_is_told_from_a_calculator(water: ActiveLearning) -> None:
    here = Path.cwd()
    for source, file in {
        "my.model": here / "my.model",
        "runs:old/my.model": here / "runs:old" / "my.model",
        Path("odd:name"): here / "odd:name",
        "~/my.model": Path.home() / "my.model",
    }.items():
        keys = InitialDataset(source).keys()
        assert keys["initial_sampling"] == ["foundation"]
        assert keys["foundation_model"] == str(file) and "foundation_calculator" not in keys


def test_a_calculator_without_a_colon_is_told_how_to_write_it(
    water: ActiveLearning, tmp_path: Path
) -> None:
    initial = replace(water.initial, sampling="tblite.ase.TBLite")
    with pytest.raises(InputError, match=r"no such file.*InitialDataset\('tblite.ase:TBLite'\)"):
        replace(water, initial=initial).check(tmp_path / "run")


def test_parts_of_ones_own(tmp_path: Path) -> None:
    """Engine, model, uncertainty measure, integrator: all are used, a second start goes on."""
    folder = tmp_path / "run"
    job = start(EXAMPLES / "own_parts.py", folder, ranks=2)
    assert job.returncode == 0, job.stdout + job.stderr
    points = ase.io.read(folder / "data" / "final" / "training" / "combined.xyz", ":")
    for atoms in points[:3]:
        # By hand: springs of 30 eV/A^2 at the distances of the starting geometry.
        stretch = atoms.get_all_distances() - springs_at_rest()
        assert atoms.info["REF_energy"] == pytest.approx(7.5 * (stretch**2).sum(), abs=1e-6)
    again = start(EXAMPLES / "own_parts.py", folder)
    assert again.returncode == 0 and "complete already" in again.stdout
    # The springs and the measure are part of what the run is.
    other = start(EXAMPLES / "objects.py", folder)
    assert other.returncode != 0 and "reference_engine" in other.stderr


def test_a_model_class_handed_over_trains_and_a_killed_run_ends_the_same(tmp_path: Path) -> None:
    """With an engine object: both are there again when the run goes on."""
    script, whole, folder = SCRIPTS / "own_models.py", tmp_path / "whole", tmp_path / "run"
    job = start(script, whole)
    assert job.returncode == 0, job.stdout + job.stderr
    killed = begin(script, folder)
    wait_for_a_training_round(folder, killed)
    kill_all(killed)
    job = start(script, folder)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "continuing from the snapshot" in job.stdout
    assert_same_end(folder, whole)
    for path in (folder / "model").glob("*.model"):
        identity = torch.load(path, weights_only=True)["identity"]
        assert identity["backend"] == "pair_potential:PairPotential"
        assert identity["num_functions"] == 8


PAIR = ModelDeclaration(
    "pairs", "pair_potential:PairPotential", PairPotential.architecture, PairPotential.without
)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("pair", "pair"), (PairPotential, "pair_potential:PairPotential"), (PAIR, "pairs")],
    ids=["name", "class", "declaration"],
)
def test_a_kind_of_models_is_named_or_handed_over(
    water: ActiveLearning, tmp_path: Path, kind: object, name: str
) -> None:
    job = replace(water, model=Backend(kind, members=2, num_functions=7, lr=0.1))
    settings = job.definition(tmp_path).settings
    assert settings.mace is not None
    assert isinstance(settings.mace.architecture, PairPotential.architecture)
    assert settings.mace.architecture.num_functions == 7
    assert settings.mace.training.lr == 0.1
    assert settings.mace.backend_class == "pair_potential:PairPotential"
    assert settings.al.model_backend == settings.mace.backend == name
    assert settings.al.ensemble_size == 2


def springs_at_rest() -> np.ndarray:
    return molecule("H2O").get_all_distances()


def local_class() -> type:
    class Here(PairPotential):
        pass

    return Here


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"model": fhi_al.MACE(2, num_chanels=8)}, "num_chanels. Did you mean num_channels?"),
        ({"model": object()}, "expected MACE(...), or Backend(kind, ...)"),
        ({"model": Backend("mave")}, "model: 'mave': unknown. Did you mean mace"),
        ({"model": Backend(dict)}, "is no model backend: expected a class whose attribute"),
        ({"model": Backend(local_class())}, "defined at the top of a module"),
        ({"model": Backend(PairPotential, num_channels=8)}, "unknown key num_channels"),
        ({"model": Backend("pair", compile_final=True)}, "a pair potential cannot be compiled"),
        ({"options": {"model_backend": "pair"}}, "expected model=Backend('pair', ...)"),
        ({"options": {"cx": 0.1}}, "unknown key ACTIVE_LEARNING.cx. Did you mean c_x?"),
        ({"md": Langevin(temperature_K=-3)}, "MD.temperature = -3: must be above 0 K"),
        ({"engine": object()}, "engine: object: expected TBLite"),
        ({"structures": []}, "structures: is empty"),
        ({"engine": TBLite("GFN3-xTB")}, "reference_method"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_objects_are_named(
    water: ActiveLearning, tmp_path: Path, part: dict[str, Any], message: str
) -> None:
    with pytest.raises((SettingsError, InputError), match=re.escape(message)):
        replace(water, **part).definition(tmp_path)


def test_masses_of_species_blocks_hold_as_in_a_folder(
    water: ActiveLearning, tmp_path: Path
) -> None:
    for name, text in SPECIES.items():
        (tmp_path / f"{name}_default").write_text(text)
    (tmp_path / "control.in").write_text(CONTROL + SPECIES["01_H"] + "  mass 2.014\n")
    job = replace(water, engine=Aims(tmp_path / "libaims.so", species_dir=tmp_path))
    (system,) = job.definition(tmp_path).inputs.systems
    assert system.masses is not None
    np.testing.assert_allclose(system.masses, [15.999, 2.014, 2.014], atol=1e-3)  # u


def test_a_surface_is_refused_by_the_name_of_its_structure(water: ActiveLearning) -> None:
    slab = water.structures[0].copy()
    slab.pbc = (True, True, False)
    with pytest.raises(InputError, match=r"structures\[0\]: pbc"):
        replace(water, structures=[slab]).definition(Path())


def test_a_file_cannot_name_an_object(tmp_path: Path) -> None:
    options = {"ACTIVE_LEARNING": SMALLEST | {"reference_engine": "object"}}
    folder = write_inputs(tmp_path / "run", active_learning=options, models="mace")
    code, output = run(folder, 1, "--check")
    assert code == 2 and "only Python can hand an object over" in output


def test_the_page_shows_the_examples_as_they_are() -> None:
    text = DOCS.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    sources = "\n".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    assert len(blocks) >= 4
    for block in blocks:
        assert block.strip() in sources
