"""Which molecules have an unpaired electron that the engine is not told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule

from fhi_al.core.structure import Structure, structure
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.open_shell import aims_note, tblite_note


def of(name: str, **changes: Any) -> Structure:
    atoms = molecule(name)
    return structure(atoms.numbers, atoms.positions, **changes)


MOMENT, CHARGE = np.array([1.0, 0, 0, 0]), np.array([1.0, 0, 0, 0])
CERIUM_HYDRIDE = structure([58, 1], [[0, 0, 0], [0, 0, 2.0]])  # four electrons to xTB
COPPER = structure([29], [[0, 0, 0]], np.array(bulk("Cu").cell))


@pytest.mark.parametrize(
    ("system", "arguments", "told"),
    [
        (of("CH3"), {}, True),
        (of("CH3", initial_moments=MOMENT), {}, False),
        (of("CH3"), {"multiplicity": 2}, False),
        (of("CH3"), {"charge": 1}, False),
        (of("CH3", initial_charges=CHARGE), {}, False),
        (of("CH3", initial_charges=CHARGE), {"charge": 0}, True),
        (of("CH4"), {}, False),
        (of("CH4"), {"charge": -1}, True),
        (of("O2"), {}, False),  # a triplet, which cannot be known
        (CERIUM_HYDRIDE, {}, False),
        (COPPER, {}, False),
    ],
)
def test_a_radical_that_tblite_is_not_told_of_is_named(
    system: Structure, arguments: dict[str, Any], told: bool
) -> None:
    note = tblite_note(system, arguments)
    assert (note is not None) is told
    assert note is None or "initial_moment 1.0" in note


@pytest.mark.parametrize(
    ("control", "name", "told"),
    [
        ("xc pbe", "CH3", True),
        ("xc pbe\nspin none", "CH3", True),
        ("xc pbe\nspin collinear", "CH3", False),
        ("xc pbe\ncharge 1.", "CH3", False),
        ("xc pbe\ncharge -1.d0", "CH4", True),
        ("xc pbe\ncharge 0.5", "CH3", False),  # neither odd nor even
        ("xc pbe", "O2", False),
    ],
)
def test_a_radical_without_spin_in_control_in_is_named(control: str, name: str, told: bool) -> None:
    note = aims_note(parse_control(control + "\n", Path("run/control.in")), of(name))
    assert (note is not None) is told
    assert note is None or note.startswith("control.in: an odd number of electrons")
