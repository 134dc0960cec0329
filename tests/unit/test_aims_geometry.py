"""geometry.in: what is read, what the engine is given, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import (
    Geometry,
    parse_geometry,
    read_geometry,
    write_geometry,
)

PATH = Path("geometry.in")


def parse(text: str, **nuclei: int) -> Geometry:
    return parse_geometry(text, PATH, nuclei)


def test_positions_moments_charges_and_constraints_are_read() -> None:
    geometry = parse(
        "# a comment\n"
        "\n"
        "atom 0.1 -2.5D-1 3d0 Fe  # iron\n"
        "    initial_moment 2.0\n"
        "    constrain_relaxation .true.\n"
        "atom 1 2 3. O\n"
        "    initial_charge -1\n"
        "    constrain_relaxation x\n"
        "    constrain_relaxation z\n"
        "atom .5 0 0 H\n"
        "    constrain_relaxation .false.\n"
    )
    found = geometry.structure
    assert found.numbers.tolist() == [26, 8, 1]
    assert found.positions.tolist() == [[0.1, -0.25, 3.0], [1.0, 2.0, 3.0], [0.5, 0.0, 0.0]]
    assert found.initial_moments.tolist() == [2.0, 0.0, 0.0]
    assert found.initial_charges.tolist() == [0.0, -1.0, 0.0]
    assert found.fixed.tolist() == [[True] * 3, [True, False, True], [False] * 3]
    assert not found.pbc
    assert geometry.species == ("Fe", "O", "H")


def test_fractional_positions_are_multiples_of_the_lattice_vectors() -> None:
    found = parse(
        "atom_frac 0.5 0.25 0 C\n"  # before the vectors: the order is free
        "lattice_vector 2 0 0\n"
        "    constrain_relaxation .true.\n"
        "lattice_vector 1 4 0\n"
        "lattice_vector 0 0 3\n"
    ).structure
    assert found.pbc
    assert found.cell.tolist() == [[2, 0, 0], [1, 4, 0], [0, 0, 3]]
    # 0.5 (2, 0, 0) + 0.25 (1, 4, 0)
    assert found.positions.tolist() == [[1.25, 1.0, 0.0]]
    assert not found.fixed.any()


def test_species_names_of_the_user_get_their_nucleus_from_control_in() -> None:
    geometry = parse("atom 0 0 0 Fe_up\natom 0 0 2 Fe\natom 0 0 4 H1\n", Fe_up=26, H1=1)
    assert geometry.structure.numbers.tolist() == [26, 26, 1]
    assert geometry.species == ("Fe_up", "Fe", "H1")


def test_what_is_written_reads_back_bit_by_bit() -> None:
    generator = np.random.default_rng(3)
    numbers = " ".join(repr(float(x)) for x in generator.standard_normal(3))
    geometry = parse(
        f"lattice_vector 3.1 0 1e-17\nlattice_vector 0 {1 / 3!r} 0\nlattice_vector 0 0 2\n"
        f"atom_frac {numbers} O\n    initial_moment {2 / 3!r}\n    initial_charge -0.1\n"
    )
    again = parse(write_geometry(geometry))
    for name in ("numbers", "positions", "cell", "initial_moments", "initial_charges"):
        expected, found = getattr(geometry.structure, name), getattr(again.structure, name)
        assert expected.tobytes() == found.tobytes(), name
    assert again.structure.pbc


def test_only_what_rules_electrons_is_written() -> None:
    text = write_geometry(
        parse(
            "homogeneous_field 0 0 0.01\n"
            "hessian_block 1 1 1 0 0 0 1 0 0 0 1\n"
            "symmetry_n_params 0 0 0\n"
            "some_keyword_of_next_year 1\n"
            "atom 0 0 0 O\n"
            "  velocity 1 2 3\n"
            "  constrain_relaxation .true.\n"
            "  constraint_region 1\n"
            "  initial_moment 0.0\n"
        )
    )
    kept = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    assert kept == [
        "homogeneous_field 0 0 0.01",
        "some_keyword_of_next_year 1",
        "atom 0.0 0.0 0.0 O",
        "constraint_region 1",
        "initial_moment 0.0",  # not the same as none: default_initial_moment may be set
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "no atoms"),
        ("atom 0 0 O\n", 1, "3 values"),
        ("atom 0 0 zero O\n", 1, "zero"),
        ("atom 0 0 nan O\n", 1, "nan"),
        ("atom 0 0 1e999 O\n", 1, "finite"),
        ("atom 0 0 1_0 O\n", 1, "1_0"),
        ("\natom 0 0 0 Xx\n", 2, "Xx"),
        ("initial_moment 1\natom 0 0 0 O\n", 1, "follows no atom"),
        ("atom 0 0 0 O\ninitial_moment\n", 2, "initial_moment"),
        ("atom 0 0 0 O\nconstrain_relaxation maybe\n", 2, "maybe"),
        ("atom_frac 0 0 0 O\n", 1, "without lattice vectors"),
        ("atom 0 0 0 O\nlattice_vector 1 0 0\n", None, "1 lattice_vector"),
        ("lattice_vector 1 0 0\n" * 4, 4, "fourth"),
        ("atom 0 0 0 O\n" + "lattice_vector 1 0 0\n" * 3, None, "plane"),
        ("atom 0 0 0 O\nlatice_vector 1 0 0\n", 2, "did you mean lattice_vector"),
        ("Atom 0 0 0 O\n", 1, "did you mean atom"),
        ("atom 0 0 0 O\nempty 0 0 1 H\n", 2, "empty"),
        ("atom 0 0 0 O\nRT_TDDFT_initial_velocity 0 0 9\n", 2, "moves atoms"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(AimsInputError) as caught:
        parse(text)
    assert caught.value.line == line
    assert words in str(caught.value)
    assert str(caught.value).startswith("geometry.in" + (f":{line}: " if line else ": "))


def test_a_file_that_is_not_text_or_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(AimsInputError, match="No such file"):
        read_geometry(tmp_path / "geometry.in")
    for content in (b"\xff\xfe\x00", b"atom 0 0 0 O\n\x00"):
        (tmp_path / "geometry.in").write_bytes(content)
        with pytest.raises(AimsInputError, match="not a text file"):
            read_geometry(tmp_path / "geometry.in")


def below(geometry: Geometry) -> dict[str, list[str]]:
    """What is written below each atom and lattice vector, and ("") above them all."""
    found: dict[str, list[str]] = {"": []}
    for line in write_geometry(geometry).splitlines()[1:]:
        keyword, *values = line.split()
        if keyword in ("atom", "lattice_vector"):
            found[values[-1]] = []
        else:
            found[list(found)[-1]].append(line.strip())
    return found


def test_lines_that_are_not_known_stay_below_what_they_stood_below() -> None:
    geometry = parse(
        "of_next_year 1\n"
        "lattice_vector 9 0 1.0\n"
        "lattice_vector 0 9 2.0\n"
        "  vector_tag a b\n"
        "  constrain_relaxation .true.\n"
        "  vector_tag c\n"
        "lattice_vector 0 0 9.0\n"
        "atom 0 0 0 H\n"
        "  calculate_friction .true.\n"
        "  initial_moment 1\n"
        "  esp_constraint 1 2  # as it was\n"
        "atom 0 0 1 O\n"
        "atom 0 0 2 C\n"
        "  second 2\n"
        "  isotope 13\n"
        "  first 1\n"
    )
    assert below(geometry) == {
        "": ["of_next_year 1"],
        "1.0": [],
        "2.0": ["vector_tag a b", "vector_tag c"],
        "9.0": [],
        "H": [
            "initial_moment 1.0",
            "calculate_friction .true.",
            "esp_constraint 1 2  # as it was",
        ],
        "O": [],
        "C": ["second 2", "isotope 13", "first 1"],
    }


def test_a_vector_below_the_atoms_ends_what_the_last_atom_is_told() -> None:
    geometry = parse(
        "atom 0 0 0 H\nlattice_vector 9 0 1.0\nlattice_vector 0 9 2.0\nlattice_vector 0 0 9.0\n"
        "some_tag\n"
    )
    assert below(geometry) == {"": [], "1.0": [], "2.0": [], "9.0": ["some_tag"], "H": []}


def test_lines_about_the_whole_system_are_so_wherever_they_stand() -> None:
    geometry = parse(
        "atom 0 0 0 H\n"
        "  homogeneous_field 0 0 0.01\n"
        "  multipole 0 0 9 1 0.5\n"
        "  data 0 0 1\n"
        "  calculate_friction .true.\n"
        "  set_vacuum_level 5\n"
        "  verbatim_writeout .false.\n"
    )
    assert below(geometry) == {
        "": [
            "homogeneous_field 0 0 0.01",
            "multipole 0 0 9 1 0.5",
            "data 0 0 1",
            "set_vacuum_level 5",
            "verbatim_writeout .false.",
        ],
        "H": ["calculate_friction .true."],
    }
