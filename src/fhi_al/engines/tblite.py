"""tblite (GFN1-xTB, GFN2-xTB): how it is asked, and what it cannot compute.

tblite itself is imported where it is needed: who only carries a spec stays small.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from fhi_al.core.structure import Structure, structure
from fhi_al.engines.spec import TBLITE as TBLITE
from fhi_al.engines.spec import AseSpec

METHODS = ("GFN1-xTB", "GFN2-xTB", "IPEA1-xTB")
# Its names for solvation models as keyword arguments: alpb_solvation="water".
SOLVATION = ("alpb", "gbsa", "cosmo", "cpcm", "pcm", "gbe", "gb")
# Up to so many atoms an SCF of no cycles is next to nothing: 1.2 s for 243 atoms, 7 s for 576.
MOST_TRIED_ATOMS = 250
APART = 20.0  # A


def is_tblite(calculator: str) -> bool:
    """Whether an import path, in either spelling, is that of tblite's calculator."""
    return calculator.replace(":", ".") == TBLITE.replace(":", ".")


def tblite_spec(
    method: str,
    structure: Structure,
    arguments: Mapping[str, Any] | None = None,
    stress: bool = False,
    scf_warm_start: bool = False,
) -> AseSpec:
    """GFN1-xTB or GFN2-xTB by tblite.

    Charge and spin come from the structure's initial charges and moments unless ``arguments``
    give ``charge`` or ``multiplicity``.  Open shells get tblite's spin polarisation, without which
    unpaired electrons only move occupations (an H atom is then 1 eV too high).

    Raises
    ------
    ValueError
        If tblite has no such method.
    """
    if method not in METHODS:
        raise ValueError(f"tblite method {method}: expected one of {', '.join(METHODS)}")
    given = dict(arguments or {})
    open_shell = bool(structure.initial_moments.any()) or given.get("multiplicity", 1) not in (
        None,
        1,
    )
    defaults: dict[str, Any] = {"method": method, "verbosity": 0}
    if open_shell:
        defaults["spin_polarization"] = 1.0
    return AseSpec(TBLITE, structure, {**defaults, **given}, stress, not scf_warm_start)


def argument_problem(arguments: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    """A misspelt argument, and its nearest name; None if there is none.

    Parameters
    ----------
    arguments : mapping
    known : mapping
        The calculator's ``default_parameters``.
    """
    # ASE's base class takes any argument: a misspelt one would silently have no effect.
    names = [*known, *(f"{name}_solvation" for name in SOLVATION)]
    for name in arguments:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
            return f"unknown argument {name}: {hint}"
    return None


def system_problem(spec: AseSpec) -> str | None:
    """tblite's message if it can compute no geometry of a system, else None.

    Asks for an SCF without cycles, which ends before there is anything to compute: an element, an
    argument or a number of unpaired electrons that tblite does not take is refused by then.  A
    crystal is tried as a molecule of its atoms: what is refused is the same, and 64 atoms take
    0.1 s instead of 6.  Of a large system only its elements and arguments are tried.

    Parameters
    ----------
    spec : AseSpec
        Of tblite's calculator; its arguments are known ones.
    """
    from ase.calculators.calculator import CalculationFailed
    from tblite.ase import TBLite

    system, arguments = spec.structure, dict(spec.arguments)
    if len(system) > MOST_TRIED_ATOMS:
        system = _one_of_each_element(system)
        for name in ("charge", "multiplicity"):
            arguments.pop(name, None)
    atoms = Atoms(system.numbers, system.positions)
    atoms.set_initial_magnetic_moments(system.initial_moments)
    atoms.set_initial_charges(system.initial_charges)
    try:
        calculator = TBLite(**{**arguments, "max_iterations": 0})
        calculator.calculate(atoms, ["energy"])
    except CalculationFailed as error:
        if "not converged" in str(error):
            return None
        message = str(error)
    except Exception as error:  # of its Python layer: a value it cannot use
        message = f"{type(error).__name__}: {error}"
    else:
        return None
    return (
        f"tblite cannot compute this system ({message.strip()}): expected elements, a charge,"
        " unpaired electrons and arguments that it takes"
    )


def _one_of_each_element(system: Structure) -> Structure:
    numbers = np.unique(system.numbers)
    return structure(numbers, [[APART * k, 0.0, 0.0] for k in range(len(numbers))])
