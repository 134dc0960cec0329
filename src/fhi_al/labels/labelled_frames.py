"""Labels of files that a user brings: extended xyz, or anything else that ASE reads.

Owns what a frame of a file must hold to be a label; says of each frame what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import Array, geometry_key, structure
from fhi_al.labels.atoms_file import AtomsFrame, cell_problems, read_atoms
from fhi_al.labels.xyz import ENERGY, FAILURE, FORCES, STRESS

# ASE's own, of a calculator's results.
PLAIN = ("energy", "forces", "stress")
# With a smearing, the energy that its forces are derivatives of, as labels of engines have it.
FREE = "free_energy"


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a file.

    Parameters
    ----------
    path : Path
    number : int
        Counted from 1.
    label : Label or None
        Of system 0, the only one unless it is matched with several; None if it holds none.
    problems : tuple of str
        Why not: what was found, what was expected, how to fix it.  Empty where it says itself that
        it could not be computed.
    system : str or None
        What the frame says that it is of (``system`` of extended xyz).
    """

    path: Path
    number: int
    label: Label | None
    problems: tuple[str, ...] = ()
    system: str | None = None


@dataclass(frozen=True)
class LabelNames:
    """Names under which frames hold their label.

    Parameters
    ----------
    energy, forces, stress : str or None
        None: ``REF_energy``, ``REF_forces`` and ``REF_stress`` in a file that has one of the first
        two, else ASE's own, ``energy`` (``free_energy``, where a frame has that), ``forces`` and
        ``stress``.
    given_in : str
        Where a user can give others.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    given_in: str = ""


@dataclass(frozen=True)
class _Names:
    """Names in one file; of a stress None if none is to be read."""

    energy: str
    forces: str
    stress: str | None
    given_in: str


def read_labels(path: Path) -> list[Label]:
    """Read labels that :func:`fhi_al.labels.xyz.write_records` wrote, or others.

    Raises
    ------
    ValueError
        With all that is wrong with the file.
    """
    frames = read_frames(path)
    problems = [f"{path}: frame {f.number}: {problem}" for f in frames for problem in f.problems]
    if problems:
        raise ValueError("\n".join(problems))
    return [frame.label for frame in frames if frame.label is not None]


def read_frames(path: Path, names: LabelNames | None = None, file: int = 0) -> list[Frame]:
    """Read the labels of any file: energy in eV, forces in eV/A, stress in eV/A^3.

    A stress may be 3x3 or have ASE's six components (xx, yy, zz, yz, xz, xy).

    Parameters
    ----------
    path : Path
    names : LabelNames, optional
    file : int
        Its number among several, which the labels' origins keep.

    Raises
    ------
    ValueError
        If nothing of it can be read.
    """
    frames = read_atoms(path)
    in_file = _names_in(frames, names or LabelNames())
    return [_frame(path, each, in_file, file) for each in frames]


def _names_in(frames: Sequence[AtomsFrame], names: LabelNames) -> _Names:
    found: set[str] = set().union(
        *(_found(each.atoms) for each in frames if each.atoms is not None)
    )
    is_plain = not found & {ENERGY, FORCES} and bool(found & set(PLAIN[:2]))
    energy, forces, stress = PLAIN if is_plain else (ENERGY, FORCES, STRESS)
    if is_plain and FREE in found:
        energy = FREE
    # Beside names of the user's own, a stress of another name is of something else.
    are_given = names.energy is not None and names.forces is not None
    return _Names(
        names.energy or energy,
        names.forces or forces,
        names.stress or (None if are_given else stress),
        names.given_in,
    )


def _found(atoms: Atoms) -> dict[str, Any]:
    """All that a frame says of its atoms, by name."""
    # ASE takes plain energy and forces away, and MACE would train on nothing.
    results = {} if atoms.calc is None else atoms.calc.results
    found: dict[str, Any] = {**results, **atoms.arrays, **atoms.info}
    return found


def _frame(path: Path, frame: AtomsFrame, names: _Names, file: int) -> Frame:
    atoms = frame.atoms
    if atoms is None:
        return Frame(path, frame.number, None, (frame.problem or "cannot be read",))
    if len(atoms) == 0:
        message = "has no atoms: expected at least one. Remove the frame"
        return Frame(path, frame.number, None, (message,))
    found = _found(atoms)
    if FAILURE in found and names.energy not in found:
        return Frame(path, frame.number, None)
    problems = [*_value_problems(atoms, found, names), *cell_problems(atoms)]
    if problems:
        return Frame(path, frame.number, None, tuple(problems))
    origin = Origin("imported", file, frame.number)
    system = atoms.info.get("system")
    label = _label(atoms, found, names, origin)
    return Frame(path, frame.number, label, system=None if system is None else str(system))


def _value_problems(atoms: Atoms, found: dict[str, Any], names: _Names) -> Iterator[str]:
    wanted = (("energy", names.energy, ()), ("forces", names.forces, (len(atoms), 3)))
    for what, name, shape in wanted:
        if found.get(name) is None:
            fix = _fix(what, name, found, names.given_in)
            yield f"has no {name}: expected the reference's values under that name. {fix}"
        else:
            yield from _array_problems(name, found[name], (shape,))
    if names.stress is not None and found.get(names.stress) is not None:
        yield from _array_problems(names.stress, found[names.stress], ((9,), (6,), (3, 3)))
    if not np.isfinite(atoms.positions).all():
        yield "a position is not finite: expected numbers in A. Remove the frame"


def _fix(what: str, name: str, found: dict[str, Any], given_in: str) -> str:
    word = what.removesuffix("s")
    others = sorted(other for other in found if word in other.lower() and other != name)
    if not others:
        return "Compute it, or remove the frame"
    or_say = f", or give {what}: {others[0]} in {given_in}" if given_in else ""
    return f"It has {', '.join(others)}: if that is the reference's, rename it to {name}{or_say}"


def _array_problems(name: str, value: Any, shapes: Sequence[tuple[int, ...]]) -> Iterator[str]:
    array = np.asarray(value)
    if array.dtype.kind not in "if":
        yield f"{name} = {str(value)[:40]} is no number. Correct it, or remove the frame"
    elif array.shape not in shapes:
        expected = " or ".join(str(shape) if shape else "one number" for shape in shapes)
        yield f"{name} has the shape {array.shape}, expected {expected}. Correct it"
    elif not np.isfinite(array).all():
        yield (
            f"{name} is not finite: expected numbers. Compute it again, or remove the frame: "
            "nothing can be learnt from it"
        )


def _label(atoms: Atoms, found: dict[str, Any], names: _Names, origin: Origin) -> Label:
    cell = np.asarray(atoms.cell[:]) if atoms.pbc.any() else None
    points = structure(atoms.numbers, atoms.positions, cell)
    stress = None if names.stress is None else found.get(names.stress)
    given = atoms.info.get("config_type")
    return Label(
        key=geometry_key(0, points.positions, points.cell),
        system=0,
        numbers=points.numbers,
        positions=points.positions,
        cell=points.cell,
        pbc=points.pbc,
        energy=float(found[names.energy]),
        forces=np.asarray(found[names.forces], dtype=np.float64),
        stress=None if stress is None else _full_stress(np.asarray(stress, dtype=np.float64)),
        origin=origin,
        given_config_type=None if given is None else str(given),
    )


def _full_stress(stress: Array) -> Array:
    full: Array = voigt_6_to_full_3x3_stress(stress) if stress.size == 6 else stress.reshape(3, 3)
    return full
