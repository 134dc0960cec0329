"""Starting geometries of one system: what they have in common, and what makes another system."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
import yaml
from ase import Atoms
from ase.constraints import FixAtoms

from fhi_al.app.systems import read_systems
from fhi_al.core.errors import InputError
from fhi_al.engines.inputs import Inputs
from fhi_al.settings import read_settings

CONTROL = "xc pbe\nspecies Fe_up\n  nucleus 26\nspecies Fe_dn\n  nucleus 26\n"
VECTORS = ("lattice_vector 3 0 0", "lattice_vector 0 3 0", "lattice_vector 0 0 3")
# An antiferromagnet, one atom of which is fixed.
FIRST = (
    "homogeneous_field 0 0 0.1",
    *VECTORS,
    "atom 0.0 0.0 0.0 Fe_up",
    "initial_moment 4",
    "atom 1.5 1.5 1.5 Fe_dn",
    "initial_moment -4",
    "constrain_relaxation .true.",
)


def read(folder: Path, first: str, other: str) -> Inputs:
    """The systems of a folder with two starting geometries."""
    (folder / "a.in").write_text(first)
    (folder / "b.in").write_text(other)
    return inputs_of(folder, "aims", "[ab].in")


def inputs_of(folder: Path, engine: str, geometry: str) -> Inputs:
    keys = {"reference_engine": engine, "desired_acc": 0.1}
    if engine == "aims":
        keys |= {"aims_lib_path": "libaims.so"}
        (folder / "control.in").write_text(CONTROL)
    content = {
        "ACTIVE_LEARNING": keys,
        "SYSTEMS": [{"name": "iron", "geometry": geometry}],
    }
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(content))
    settings = read_settings(folder, needs_mace=False)
    return read_systems(settings, needs_control=engine == "aims")


def with_lines(**changes: str) -> str:
    """The first geometry with another text in place of some lines, by their place."""
    lines = [changes.get(f"line_{place}", line) for place, line in enumerate(FIRST)]
    return "\n".join(lines) + "\n"


OTHERS: dict[str, tuple[dict[str, str], str]] = {
    "species": ({"line_6": "atom 1.5 1.5 1.5 Fe_up"}, "atom 2 has the species Fe_up, not Fe_dn"),
    "moment": ({"line_7": "initial_moment 4"}, "atom 2 has initial_moment 4.0, not -4.0"),
    "charge": (
        {"line_7": "initial_moment -4\ninitial_charge 1"},
        "atom 2 has initial_charge 1.0, not 0.0",
    ),
    "no constraint": (
        {"line_8": ""},
        "atom 2 has fixed coordinates: none, not x y z",
    ),
    "one more constraint": (
        {"line_5": "initial_moment 4\nconstrain_relaxation z"},
        "atom 1 has fixed coordinates: z, not none",
    ),
    "line of an atom": (
        {"line_5": "initial_moment 4\nsome_tag  1 # as a number"},
        "atom 1 has other lines: `some_tag 1.0`, not none",
    ),
    "line of a vector": (
        {"line_3": f"{VECTORS[2]}\nsome_tag 1"},
        "lattice_vector 3 has other lines: `some_tag 1.0`, not none",
    ),
    "line of the file": (
        {"line_0": ""},
        "lines about the whole system: none, not `homogeneous_field 0.0 0.0 0.1`",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_a_further_start_says_otherwise_makes_it_another_system(
    what: str, tmp_path: Path
) -> None:
    changes, expected = OTHERS[what]
    with pytest.raises(InputError) as caught:
        read(tmp_path, with_lines(), with_lines(**changes))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path / 'b.in'}: is not of the same system as")
    assert str(tmp_path / "a.in") in problem
    assert expected in problem
    assert "iron" in problem and "a block of its own in SYSTEMS" in problem


def test_all_differences_are_said_at_once(tmp_path: Path) -> None:
    both = with_lines(line_4="atom 0 0 0 Fe_dn", line_5="initial_moment -4", line_7="")
    with pytest.raises(InputError) as caught:
        read(tmp_path, with_lines(), both)
    assert "atom 1 has the species Fe_dn, not Fe_up; atom 1 has initial_moment" in str(caught.value)
    assert "initial_moment -4.0, not 4.0 (2 such atoms)" in str(caught.value)


def test_positions_cell_blanks_and_comments_may_differ(tmp_path: Path) -> None:
    other = with_lines(
        line_0="homogeneous_field  0.0 0 1d-1  # along z",
        line_1="lattice_vector 3.1 0 0",
        line_4="atom_frac 0.1 0 0 Fe_up",
        line_5="    initial_moment 4.0",
    )
    (system,) = read(tmp_path, with_lines(), other).each
    assert [cell[0, 0] for _, cell in system.starts] == [3.0, 3.1]
    assert [positions[0, 0] for positions, _ in system.starts] == [0.0, pytest.approx(0.31)]


def test_frames_that_ase_reads_are_compared_too(tmp_path: Path) -> None:
    first = Atoms("OH", [[0, 0, 0], [0, 0, 1]], constraint=FixAtoms([0]))
    free = first.copy()
    free.set_constraint()
    heavy = first.copy()
    heavy.set_masses([15.999, 2.014])
    ase.io.write(tmp_path / "a.traj", [first, first, free, heavy])
    with pytest.raises(InputError) as caught:
        inputs_of(tmp_path, "tblite", "a.traj")
    third, fourth = caught.value.problems
    assert "a.traj, frame 2: is not of the same system as" in third
    assert "atom 1 has fixed coordinates: none, not x y z" in third
    assert "atom 2 has mass 2.014, not 1.008" in fourth
