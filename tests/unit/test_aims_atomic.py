"""Inputs of an isolated atom: spin-polarised, no k grid, charge or dispersion."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhi_al.engines.aims_input.atomic import atomic_geometry, atomic_input
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.geometry import write_geometry

CONTROL = """\
xc pbe
relativistic atomic_zora scalar
spin none
charge 1
fixed_spin_moment 1
full_embedding .false.
qmmm .true.
k_grid 4 4 4
k_offset 0.5 0.5 0.5
KS_method parallel
use_local_index .true.
many_body_dispersion
vdw_correction_hirshfeld
output dos -20 5 300 0.1
output band 0 0 0 0.5 0 0 10
default_initial_moment 1
compute_analytical_stress .true.
sc_accuracy_rho 1e-6
species H
  nucleus 1
  basis_acc 1e-4
species O
  nucleus 8
  valence 2 s 2.
hse_unit A
"""


def test_the_atom_has_the_users_accuracy_and_nothing_of_the_cell() -> None:
    control = parse_control(CONTROL, Path("control.in"))
    made = atomic_input(control, atomic_geometry(1), None)
    assert made.text.splitlines() == [
        "spin collinear",
        "KS_method serial",
        "occupation_type gaussian 0.01",
        "xc pbe",
        "relativistic atomic_zora scalar",
        "sc_accuracy_rho 1e-6",
        "# Added by FHI_AL",
        "compute_forces .true.",
        "postprocess_anyway .true.",
        "species H",
        "  nucleus 1",
        "  basis_acc 1e-4",
        "hse_unit A",  # a general keyword behind the last block: not a part of that block
    ]
    assert "charge 1" in made.dropped
    assert "species block of O" in made.dropped
    assert "spin collinear" in made.added


def test_the_users_smearing_stays() -> None:
    text = "xc pbe\noccupation_type fermi 0.001\nspecies H\nnucleus 1\n"
    made = atomic_input(parse_control(text, Path("control.in")), atomic_geometry(1), None)
    assert made.text.count("occupation_type") == 1
    assert "occupation_type fermi 0.001" in made.text


# Unpaired electrons of the ground state by Hund's rules.
@pytest.mark.parametrize(("number", "unpaired"), [(1, 1), (6, 2), (7, 3), (8, 2), (14, 2), (17, 1)])
def test_the_atom_starts_with_hunds_moment(number: int, unpaired: int) -> None:
    geometry = atomic_geometry(number)
    assert geometry.structure.initial_moments.tolist() == [unpaired]
    assert f"initial_moment {float(unpaired)!r}" in write_geometry(geometry)
    assert "lattice_vector" not in write_geometry(geometry)


def test_a_closed_shell_atom_has_no_moment() -> None:
    assert atomic_geometry(10).structure.initial_moments.tolist() == [0.0]
