"""Arguments of a calculator for an isolated atom, from those for the whole system.  Pure.

Charge, spin and fields are of the whole system: an atom of a dianion is not a dianion.  What is
left (method, accuracy, smearing, solvation) is how every energy of the run is computed, so that
the energy of the atoms far apart is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Names that ASE's calculators and the codes behind them use, in lower case.
MULTIPLICITY = frozenset({"multiplicity", "mult"})
UNPAIRED = frozenset({"uhf", "nupdown", "tot_magnetization", "fixed_spin_moment"})
OF_THE_SYSTEM = frozenset(
    {
        *("charge", "total_charge", "net_charge", "tot_charge", "nelect", "nelec"),
        *("charges", "initial_charges", "starting_charge"),
        *("magmom", "magmoms", "initial_magmoms", "starting_magnetization", "initial_moments"),
        *("field", "electric_field", "efield", "magnetic_field", "external_field"),
        *("homogeneous_field", "external", "external_potential", "point_charges"),
    }
)


def arguments_of_atom(
    arguments: Mapping[str, Any], unpaired: int, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Keyword arguments of a calculator for one isolated, neutral atom.

    Charges, moments, numbers of electrons and fields are left out; a multiplicity or number of
    unpaired electrons becomes the atom's.  The same inside mappings.

    Parameters
    ----------
    arguments : mapping
        For the whole system.
    unpaired : int
        Unpaired electrons of the atom.
    defaults : mapping, optional
        What the calculator does without an argument.  A multiplicity that is None there comes from
        the atom's initial magnetic moment, so that none is given.
    """
    defaults = defaults or {}
    own: dict[str, Any] = {}
    for name, value in arguments.items():
        word = name.lower() if isinstance(name, str) else name
        if word in MULTIPLICITY | UNPAIRED:
            if name not in defaults or defaults[name] is not None:
                own[name] = unpaired + 1 if word in MULTIPLICITY else unpaired
        elif word not in OF_THE_SYSTEM:
            own[name] = arguments_of_atom(value, unpaired) if isinstance(value, Mapping) else value
    for name, value in defaults.items():
        if name.lower() in MULTIPLICITY and value is not None:
            own[name] = unpaired + 1
    return own


def left_out(arguments: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """The arguments (``name=value``) that an atom does not have as the whole system has them."""
    return [f"{name}={value!r}" for name, value in arguments.items() if own.get(name) != value]
