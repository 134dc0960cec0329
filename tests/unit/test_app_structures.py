"""What of ASE's Atoms becomes part of a run."""

from __future__ import annotations

from ase.build import molecule

from fhi_al.app.structures import geometry_of


def test_masses_that_were_set_are_those_of_md() -> None:
    atoms = molecule("H2O")
    assert geometry_of(atoms, "water").structure.masses is None
    atoms.set_masses([15.999, 2.014, 1.008])
    found = geometry_of(atoms, "water").structure.masses
    assert found is not None
    assert found.tolist() == [15.999, 2.014, 1.008]
