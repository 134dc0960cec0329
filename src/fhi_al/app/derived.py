"""Systems that displaced structures need besides: dimers, crystals that lack an atom.

Owns what the engine is told of them.  They have no trajectories and come behind the systems that a
run begins with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols, covalent_radii, ground_state_magnetic_moments

from fhi_al.core.derived import dimer_positions, element_pairs, order_without, vacancy_sites
from fhi_al.core.displaced import Kind
from fhi_al.core.structure import structure
from fhi_al.engines.aims_input.atomic import control_apart
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.inputs import Inputs, SystemInput, elements
from fhi_al.settings import Settings

# Purpose of the random numbers besides those of core.displaced.
_SITES = 92


@dataclass(frozen=True, eq=False)
class DerivedSystem:
    """A system of other atoms than the run's own.

    Parameters
    ----------
    kind : Kind
        DIMER or VACANCY.
    given : SystemInput
    parent : int
        The system that it lacks an atom of; that of the first atom of a dimer.
    sites : tuple of int
        Of a crystal: the atoms that are out, one in each structure.
    """

    kind: Kind
    given: SystemInput
    parent: int
    sites: tuple[int, ...] = ()


def with_derived(settings: Settings, inputs: Inputs) -> Inputs:
    """The inputs with the systems that displaced structures need besides."""
    derived = derived_systems(settings, inputs)
    if not derived:
        return inputs
    return replace(inputs, each=(*inputs.moving, *(one.given for one in derived)))


def derived_systems(settings: Settings, inputs: Inputs) -> list[DerivedSystem]:
    """Dimers of all pairs of elements, then crystals without an atom; their order is always this.

    Parameters
    ----------
    settings : Settings
    inputs : Inputs
        Those that are derived already make no difference.
    """
    al = settings.al
    if "displaced" not in al.sources:
        return []
    own = replace(inputs, each=inputs.moving)
    found: list[DerivedSystem] = []
    if al.displaced.dimers > 0:
        found += [_dimer(own, *pair) for pair in element_pairs(elements(own))]
    for index, one in enumerate(own.each):
        if al.displaced.vacancies > 0 and one.structure.pbc:
            found += _vacancies(index, one, al.displaced.vacancies, al.displaced.seed)
    return found


def _dimer(own: Inputs, first: int, second: int) -> DerivedSystem:
    """Two atoms whose moments are Hund's and point against each other.

    The engine may keep them, which two atoms far apart have, or pair the electrons, as most bonds
    do.
    """
    numbers = np.array([first, second])
    moments = ground_state_magnetic_moments[numbers]
    numbers = numbers[::-1] if moments[1] > moments[0] else numbers
    shape = structure(
        numbers,
        dimer_positions(float(covalent_radii[numbers].sum())),
        initial_moments=ground_state_magnetic_moments[numbers] * np.array([1.0, -1.0]),
    )
    atoms = [_atom(own, int(number)) for number in numbers]
    symbols = [chemical_symbols[number] for number in numbers]
    name = f"{'-'.join(symbols)}_dimer"
    geometry = Geometry(
        Path(f"geometry.in of the {'-'.join(symbols)} dimer"),
        shape,
        tuple(species for _, species in atoms),
        ((), ()),
        (),
    )
    parent = own.each[atoms[0][0]]
    control = parent.control and control_apart(parent.control, geometry.species)
    given = SystemInput(geometry, control, name, moves=False, is_apart=True)
    return DerivedSystem(Kind.DIMER, given, atoms[0][0])


def _atom(own: Inputs, number: int) -> tuple[int, str]:
    """The first system that has an element, and what the species is called there."""
    return next(
        (index, species)
        for index, one in enumerate(own.each)
        for species, z in zip(one.geometry.species, one.structure.numbers, strict=True)
        if z == number
    )


def _vacancies(parent: int, one: SystemInput, n: int, seed: int) -> Iterator[DerivedSystem]:
    """One for each kind of crystal that is left, with the sites that leave it."""
    geometries: dict[tuple[object, ...], tuple[Geometry, list[int]]] = {}
    for site in vacancy_sites(one.structure, n, seed, parent, _SITES):
        geometry = _without(one.geometry, site)
        shape = geometry.structure
        name = (
            shape.numbers.tobytes(),
            shape.initial_moments.tobytes(),
            shape.initial_charges.tobytes(),
            geometry.species,
            geometry.atom_lines,
        )
        geometries.setdefault(name, (geometry, []))[1].append(site)
    for number, (geometry, sites) in enumerate(geometries.values(), start=1):
        symbol = chemical_symbols[int(one.structure.numbers[sites[0]])]
        named = "_".join(filter(None, [one.name, f"{symbol}_vacancy_{number}"]))
        given = replace(one, geometry=geometry, name=named, starts=(), moves=False, is_apart=False)
        yield DerivedSystem(Kind.VACANCY, given, parent, tuple(sites))


def _without(geometry: Geometry, site: int) -> Geometry:
    """A crystal without an atom, in the order of :func:`fhi_al.core.derived.order_without`."""
    order = order_without(geometry.structure, site)
    path = Path(f"{geometry.path} without atom {site + 1}")
    return replace(some_atoms(geometry, order), path=path)


def some_atoms(geometry: Geometry, order: Sequence[int]) -> Geometry:
    """Atoms of a geometry with all that is said of them, in some order."""
    shape, each = geometry.structure, np.asarray(order, dtype=np.int64)
    return replace(
        geometry,
        structure=replace(
            shape,
            numbers=shape.numbers[each],
            positions=shape.positions[each],
            fixed=shape.fixed[each],
            initial_moments=shape.initial_moments[each],
            initial_charges=shape.initial_charges[each],
            masses=None if shape.masses is None else shape.masses[each],
        ),
        species=tuple(geometry.species[k] for k in order),
        atom_lines=tuple(geometry.atom_lines[k] for k in order),
    )
