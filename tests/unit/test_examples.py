"""The examples' inputs are right, but for the two paths that the FHI-aims one asks to adapt."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fhi_al.app import checks
from fhi_al.core.errors import InputError
from fhi_al.engines.registry import added_to_control
from fhi_al.settings import Settings, read_settings

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/active_learning_settings.yaml"))
FORMULAS = {
    "ethanol": (9, False),
    "diamond": (8, True),
    "diamond_npt": (8, True),
    "aims_water": (3, False),
    "cluster": (3, False),
    "two_molecules": (9, False),
    "fine_tuning": (9, False),
}


def inputs_of(name: str) -> tuple[Settings, checks.Inputs]:
    folder = EXAMPLES / name
    settings = read_settings(folder)
    return settings, checks.read_inputs(settings)


def test_these_are_the_examples() -> None:
    assert set(NAMES) == set(FORMULAS)


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_inputs_are_read(name: str) -> None:
    settings, inputs = inputs_of(name)
    assert settings.mace is not None
    assert not [note for note in settings.notes if "no effect" in note or "superseded" in note]
    geometry = inputs.geometries[0]
    assert (len(inputs.geometries) > 1) == (name == "two_molecules")
    assert (len(geometry.structure), geometry.structure.pbc) == FORMULAS[name]
    assert (inputs.control is not None) == (name == "aims_water")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_to_expect(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text()
    assert "FHI_AL" in text
    assert re.search(r"^## (What to expect|What happens)$", text, re.MULTILINE)


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["ethanol", "diamond", "diamond_npt", "cluster", "two_molecules", "fine_tuning"]
)
def test_nothing_is_wrong_with_an_example_for_a_laptop(name: str) -> None:
    checks.check(EXAMPLES / name, *inputs_of(name))


def test_the_foundation_model_of_the_example_is_that_of_the_tests() -> None:
    # There is its script, and there is shown what it is worth.
    example, tests = EXAMPLES / "fine_tuning", Path(__file__).parents[1] / "foundation"
    name = "small_foundation.npz"
    assert (example / name).read_bytes() == (tests / name).read_bytes()


@pytest.mark.real
def test_the_aims_example_lacks_exactly_the_two_paths_to_adapt() -> None:
    settings, inputs = inputs_of("aims_water")
    with pytest.raises(InputError) as caught:
        checks.check(EXAMPLES / "aims_water", settings, inputs)
    assert len(caught.value.problems) == 2
    species, library = sorted(caught.value.problems, key=lambda text: "aims_lib_path" in text)
    assert str(settings.al.species_dir) in species and "ACTIVE_LEARNING.species_dir" in species
    assert str(settings.al.aims_lib_path) in library and "no such file" in library


def test_with_the_two_paths_the_aims_example_needs_only_what_we_add(tmp_path: Path) -> None:
    for number, symbol in ((1, "H"), (8, "O")):
        text = f"  species {symbol}\n    nucleus {number}\n"
        (tmp_path / f"{number:02d}_{symbol}_default").write_text(text)
    settings, inputs = inputs_of("aims_water")
    complete = settings.al.model_copy(update={"species_dir": tmp_path})
    changed = settings.active_learning.model_copy(update={"active_learning": complete})
    added = added_to_control(
        tmp_path, Settings(settings.mace, changed, settings.folder, _files=settings._files), inputs
    )
    assert added[:2] == ("compute_forces .true.", "postprocess_anyway .true.")
    assert [line.split("/")[-1] for line in added[2:]] == ["08_O_default", "01_H_default"]


def test_the_slurm_variant_of_the_cluster_lacks_exactly_what_is_to_adapt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("geometry.in", "control.in", "mace_settings.yaml"):
        shutil.copy(EXAMPLES / "cluster" / name, tmp_path)
    variant = (EXAMPLES / "cluster" / "slurm_settings.yaml").read_text()
    # What MACE-MP-0 needs is a file that not every machine has.
    variant = variant.replace("initial_sampling: mace-mp0", "initial_sampling: aimd")
    (tmp_path / "active_learning_settings.yaml").write_text(variant)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = read_settings(tmp_path)
    with pytest.raises(InputError) as caught:
        checks.check(tmp_path, settings, checks.read_inputs(settings))
    assert len(caught.value.problems) == 2
    slurm, species = sorted(caught.value.problems, key=lambda text: "species_dir" in text)
    assert "ACTIVE_LEARNING.cluster.provider" in slurm and "no sbatch" in slurm
    assert "ACTIVE_LEARNING.species_dir" in species


@pytest.mark.parametrize("path", ["aims_water/submit.sh", "cluster/driver.sh"])
def test_the_slurm_script_is_shell_and_runs_the_command(path: str) -> None:
    script = EXAMPLES / path
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)
    assert "\nsrun FHI_AL\n" in script.read_text()


def test_the_script_for_python_is_short() -> None:
    text = (EXAMPLES / "python" / "run_a_folder.py").read_text()
    compile(text, "run_a_folder.py", "exec")
    assert len(text.splitlines()) <= 20
