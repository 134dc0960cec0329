"""control.in: the user's lines reach the engine; what we need is added, what moves is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fhi_al.app.systems import read_systems
from fhi_al.engines.aims_input.control import Control, parse_control
from fhi_al.engines.aims_input.engine_input import (
    control_problems,
    engine_input,
    species_masses,
)
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry, parse_geometry, with_masses
from fhi_al.engines.aims_input.stress import stress_note
from fhi_al.engines.registry import engine_problems
from fhi_al.settings import read_settings

PATH = Path("control.in")
H_BLOCK = "  species H   # light\n    nucleus 1\n    basis_dep_cutoff 1e-4\n"
O_FILE = "# default\n  species        O\n    nucleus             8\n"


def parse(text: str) -> Control:
    return parse_control(text, PATH)


def molecule(species: str = "H") -> Geometry:
    return parse_geometry(f"atom 0 0 0 {species}\n", Path("geometry.in"), {"H1": 1})


def crystal(species: str = "H") -> Geometry:
    vectors = "lattice_vector 9 0 0\nlattice_vector 0 9 0\nlattice_vector 0 0 9\n"
    return parse_geometry(f"{vectors}atom 0 0 0 {species}\n", Path("geometry.in"))


@pytest.fixture
def species_dir(tmp_path: Path) -> Path:
    (tmp_path / "08_O_default").write_text(O_FILE)
    return tmp_path


def test_every_line_of_the_user_is_kept_verbatim_and_in_order() -> None:
    general = "xc   pbe0  # hybrid\n\n many_body_dispersion\n no_such_keyword 1 2 3\n"
    text = general + H_BLOCK + "sc_iter_limit 50\n"
    made = engine_input(parse(text), molecule(), None, stress=False)
    assert made.text == (
        general
        + "# Added by FHI_AL\ncompute_forces .true.\npostprocess_anyway .true.\n"
        + H_BLOCK
        + "sc_iter_limit 50\n"
    )
    assert made.added == ("compute_forces .true.", "postprocess_anyway .true.")


def test_what_the_user_has_is_not_added_again() -> None:
    text = "xc pbe\nk_grid 1 1 1\ncompute_forces true\npostprocess_anyway .TRUE.\n" + H_BLOCK
    made = engine_input(parse(text), crystal(), None, stress=True)
    assert made.added == ("compute_analytical_stress .true.",)
    assert made.text.count("compute_forces") == 1


def test_species_come_from_species_dir_where_the_file_has_no_block(species_dir: Path) -> None:
    control = parse("xc pbe\n" + H_BLOCK)
    geometry = parse_geometry("atom 0 0 0 O\natom 0 0 1 H\natom 0 1 0 H\n", Path("geometry.in"))
    made = engine_input(control, geometry, species_dir, stress=False)
    assert made.text.endswith(H_BLOCK + O_FILE)
    assert made.added[-1] == f"species block from {species_dir / '08_O_default'}"
    assert parse(made.text).nuclei == {"H": 1, "O": 8}


def test_species_block_of_the_user_defines_a_name(species_dir: Path) -> None:
    control = parse("xc pbe\nspecies H1\nnucleus 1.\n")
    assert control.nuclei == {"H1": 1}
    made = engine_input(control, molecule("H1"), species_dir, stress=False)
    assert made.text.count("nucleus") == 1


def test_masses_come_from_the_blocks_in_control_in_and_in_species_dir(species_dir: Path) -> None:
    control = parse("xc pbe\nspecies D\n  mass 2.014d0\n  nucleus 1\n" + H_BLOCK)
    (species_dir / "08_O_default").write_text(O_FILE + "    mass 17.999\n")
    geometry = parse_geometry(
        "atom 0 0 0 O\natom 0 0 1 D\natom 0 1 0 H\n", Path("geometry.in"), control.nuclei
    )
    assert geometry.structure.masses is None
    masses = species_masses(control, geometry.species, species_dir)
    assert masses == {"D": 2.014, "O": 17.999}
    found = with_masses(geometry, masses).structure.masses
    assert found is not None
    assert found.tolist() == [17.999, 2.014, 1.008]  # hydrogen's is the element's
    assert with_masses(geometry, {"C": 13.0}).structure.masses is None
    # Of a Python object, say.
    given = replace(geometry, structure=replace(geometry.structure, masses=np.ones(3)))
    assert with_masses(given, masses) is given
    (species_dir / "08_O_default").write_text(O_FILE + "    mass -1\n")
    (problem,) = control_problems(control, geometry, species_dir, False)
    assert "08_O_default:4: mass -1: expected a mass in u" in str(problem)


@pytest.mark.parametrize(
    "line",
    [
        "MD_run 10 NVE",
        "MD_time_step 0.001",
        "relax_geometry bfgs 1e-2",
        "relax_unit_cell full",
        "use_pimd_wrapper localhost 31415",
        "plumed .true.",
        "RT_TDDFT_ehrenfest default 0.05 0.5",
    ],
)
def test_md_and_relaxation_are_refused(line: str) -> None:
    # Behind a species block too: FHI-aims reads general keywords there.
    (problem,) = control_problems(parse(f"xc pbe\n{H_BLOCK}{line}\n"), molecule(), None, False)
    assert problem.line == 5
    assert str(problem).startswith(f"control.in:5: {line}")


def test_relaxation_that_is_switched_off_is_let_through() -> None:
    text = f"xc pbe\nrelax_geometry none\nrelax_unit_cell none\n# MD_run 1\n{H_BLOCK}"
    assert control_problems(parse(text), molecule(), None, False) == []


@pytest.mark.parametrize(
    ("text", "periodic", "stress", "words"),
    [
        ("compute_forces .false.", False, False, "compute_forces .true."),
        ("postprocess_anyway F", False, False, "postprocess_anyway .true."),
        ("k_grid 1 1 1\ncompute_analytical_stress .false.", True, True, "stress .true."),
        ("xc pbe", True, False, "no k_grid"),
        ("k_grid 2 2 2", False, False, "no lattice vectors"),
        ("xc pbe", False, True, "molecule has no stress"),
        ("k_grid 1 1 1\ncompute_numerical_stress .true.", True, True, "SCFs of strained cells"),
        ("k_grid 1 1 1\ncompute_numerical_stress T", True, False, "SCFs of strained cells"),
        ("k_grid 1 1 1\ntotal_energy_method rpa", True, True, "which correlation after the SCF"),
        ("k_grid 1 1 1\nxc xyg3", True, True, "an analytical stress"),
        ("k_grid 1 1 1\nexternal_pressure 0.01", True, True, "the stress of the structure alone"),
    ],
)
def test_contradictions_are_named(text: str, periodic: bool, stress: bool, words: str) -> None:
    geometry = crystal() if periodic else molecule()
    control = parse(f"{text}\n{H_BLOCK}")
    (problem,) = control_problems(control, geometry, None, stress)
    assert words in str(problem)
    with pytest.raises(AimsInputError, match=r"\."):
        engine_input(control, geometry, None, stress)


def test_what_is_without_a_stress_does_well_where_none_is_asked_for() -> None:
    for line in ("total_energy_method rpa", "external_pressure 0.1", "xc xyg3"):
        control = parse(f"k_grid 1 1 1\n{line}\ncompute_numerical_stress .false.\n{H_BLOCK}")
        assert control_problems(control, crystal(), None, False) == []


def test_functionals_whose_stress_depends_on_the_version_are_noted() -> None:
    for line in ("xc scan", "xc libxc MGGA_X_R2SCAN+MGGA_C_R2SCAN", "xc M06-L 0.5"):
        note = stress_note(parse(f"k_grid 1 1 1\n{line}\n{H_BLOCK}"))
        assert note is not None and note.startswith(f"control.in:2: {line}: ")
    for line in ("xc pbe", "xc hse06 0.11", "spin none"):
        assert stress_note(parse(f"{line}\n{H_BLOCK}")) is None


def test_all_problems_are_told_at_once() -> None:
    control = parse("MD_run 1 NVE\nrelax_geometry bfgs 1e-2\ncompute_forces .false.\n")
    assert len(control_problems(control, crystal(), None, False)) == 5


def test_only_species_without_a_block_need_a_species_dir(tmp_path: Path) -> None:
    (tmp_path / "active_learning_settings.yaml").write_text(
        "ACTIVE_LEARNING: {aims_lib_path: gone.so, desired_acc: 0.1}\n"
    )
    (tmp_path / "geometry.in").write_text("atom 0 0 0 O\natom 0 0 1 H\natom 0 1 0 H\n")
    for blocks, lacking in ((O_FILE + H_BLOCK, None), ("", "O, H"), (O_FILE, "H")):
        (tmp_path / "control.in").write_text("xc pbe\n" + blocks)
        settings = read_settings(tmp_path, needs_mace=False)
        inputs = read_systems(settings, needs_control=True)
        *species, library = engine_problems(tmp_path, settings, inputs)
        assert "gone.so: no such file" in library
        expected = f"{tmp_path / 'control.in'}: no species block for {lacking}: expected one for"
        assert [text.startswith(expected) for text in species] == [True] * bool(lacking)


def test_species_that_cannot_be_had_are_named(species_dir: Path) -> None:
    control = parse("xc pbe\n")
    for folder, words in (
        (None, "no species block for H"),
        (species_dir, "01_H_default"),
        (species_dir / "none", "no such folder"),
    ):
        (problem,) = control_problems(control, molecule(), folder, False)
        assert words in str(problem)
    (species_dir / "01_H_default").write_text(O_FILE)
    (problem,) = control_problems(control, molecule(), species_dir, False)
    assert "it defines O" in str(problem)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "is empty"),
        ("# only this\n", None, "is empty"),
        ("xc pbe\nspecies\n", 2, "without a name"),
        ("xc pbe\nspecies H\n  mass 1\n", 2, "no nucleus"),
        ("xc pbe\nspecies H\n  nucleus one\n", 3, "nucleus one"),
        ("xc pbe\nspecies H\n  nucleus 1.5\n", 3, "nucleus 1.5"),
        ("xc pbe\nspecies H\n  mass 0\n  nucleus 1\n", 3, "mass 0"),
        ("xc pbe\nspecies H\n  nucleus 1\n  mass two\n", 4, "mass two"),
        ("xc pbe\nspecies H\n  nucleus 1\n  mass\n", 4, "mass"),
    ],
)
def test_a_broken_file_is_named_with_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(AimsInputError) as caught:
        parse(text)
    assert caught.value.line == line
    assert words in str(caught.value)
