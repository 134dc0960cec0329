"""What of a calculator's arguments an isolated atom gets."""

from __future__ import annotations

from fhi_al.engines.isolated_atom import arguments_of_atom, left_out

NITROGEN = 3  # unpaired electrons


def test_what_is_of_the_whole_system_never_reaches_an_atom() -> None:
    given = {"method": "GFN2-xTB", "charge": -2, "electric_field": [0, 0, 1], "magmoms": [1, 1]}
    own = arguments_of_atom(given, NITROGEN)
    assert own == {"method": "GFN2-xTB"}
    assert left_out(given, own) == ["charge=-2", "electric_field=[0, 0, 1]", "magmoms=[1, 1]"]


def test_a_multiplicity_becomes_the_atoms() -> None:
    """ORCA (mult), PySCF-like codes (uhf) and VASP (nupdown) do not look at initial moments."""
    assert arguments_of_atom({"mult": 1, "uhf": 0, "nupdown": 0}, NITROGEN) == {
        "mult": 4,
        "uhf": 3,
        "nupdown": 3,
    }


def test_a_multiplicity_that_comes_from_the_moment_by_default_is_left_out() -> None:
    assert arguments_of_atom({"multiplicity": 2}, NITROGEN, {"multiplicity": None}) == {}


def test_a_multiplicity_that_is_one_by_default_is_given() -> None:
    assert arguments_of_atom({}, NITROGEN, {"mult": 1, "charge": 0}) == {"mult": 4}


def test_mappings_are_looked_into() -> None:
    given = {"input_data": {"system": {"tot_charge": 1, "ecutwfc": 40}}, "kpts": None}
    own = {"input_data": {"system": {"ecutwfc": 40}}, "kpts": None}
    assert arguments_of_atom(given, NITROGEN) == own
