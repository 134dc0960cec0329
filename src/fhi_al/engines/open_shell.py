"""Radicals that would be computed as closed shells: what can be known of it before.  Pure.

An odd number of electrons leaves one unpaired.  An even number says nothing: O2 is a triplet, and
only who runs it knows.  Nor does an odd number per cell of a crystal, where bands are half full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.control import Control
from fhi_al.engines.aims_input.text import real


def tblite_note(
    system: Structure, arguments: Mapping[str, Any], name: str = "geometry.in"
) -> str | None:
    """The warning about an unpaired electron of which no argument of tblite speaks.

    Parameters
    ----------
    system : Structure
    arguments : mapping
        Keyword arguments of tblite's calculator.
    name : str
        Of the file that the system is from.
    """
    charge = arguments.get("charge")
    if not isinstance(charge, int | float):
        charge = float(system.initial_charges.sum())
    numbers = as_xtb_counts(system.numbers)
    if (
        system.initial_moments.any()
        or arguments.get("multiplicity") is not None
        or not has_unpaired_electron(numbers, system.pbc, charge)
    ):
        return None
    return (
        f"{name}: an odd number of electrons, and no initial_moment: tblite takes the molecule "
        "for one without unpaired electrons as far as it can, and the energy of a radical is then "
        "too high (that of CH3 by 0.4 eV). Put `initial_moment 1.0` below the atom in geometry.in "
        "that has the unpaired electron, or give it an initial magnetic moment where ASE reads it"
    )


def aims_note(control: Control, system: Structure) -> str | None:
    """What is to be said of a molecule with an unpaired electron that is computed without spin.

    Parameters
    ----------
    control : Control
    system : Structure
    """
    spin, charge = "none", 0.0
    for _, keyword, values in control.keywords():
        if keyword == "spin" and values:
            spin = values[0].lower()
        elif keyword == "charge" and values:
            charge = real(values[0]) or 0.0
    if spin != "none" or not has_unpaired_electron(system.numbers, system.pbc, charge):
        return None
    return (
        f"{control.path.name}: an odd number of electrons, and no `spin collinear`: in FHI-aims "
        "both spins then share every orbital, and the energy of a radical is too high. Put `spin "
        "collinear` into it, and `initial_moment 1.0` below the atom in geometry.in that has the "
        "unpaired electron"
    )


def as_xtb_counts(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Atomic numbers by which xTB counts electrons.

    It has the f electrons of lanthanides in their cores: each counts as lanthanum.
    """
    return np.where((numbers > 57) & (numbers <= 71), 57, numbers)


def has_unpaired_electron(numbers: NDArray[np.int64], pbc: bool, charge: float) -> bool:
    """Whether a molecule has an odd number of electrons."""
    electrons = float(numbers.sum()) - charge
    return not pbc and electrons % 2 == 1
