"""What of ASE's Atoms becomes part of a run."""

from __future__ import annotations

from pathlib import Path

from ase.build import molecule
from ase.constraints import FixAtoms

from fhi_al.app.exports import geometry_files
from fhi_al.app.structures import geometry_of
from fhi_al.engines.aims_input.geometry import read_geometry
from fhi_al.engines.inputs import Inputs


def test_masses_that_were_set_are_those_of_md() -> None:
    atoms = molecule("H2O")
    assert geometry_of(atoms, "water").structure.masses is None
    atoms.set_masses([15.999, 2.014, 1.008])
    found = geometry_of(atoms, "water").structure.masses
    assert found is not None
    assert found.tolist() == [15.999, 2.014, 1.008]


def test_what_is_fixed_is_fixed_in_the_file_with_which_the_run_goes_on(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.set_constraint(FixAtoms([0]))
    inputs = Inputs.of([geometry_of(atoms, "water")], None)
    ((name, text),) = geometry_files(inputs).items()
    (tmp_path / name).write_text(text)
    fixed = read_geometry(tmp_path / name).structure.fixed
    assert fixed.tolist() == [[True] * 3, [False] * 3, [False] * 3]
