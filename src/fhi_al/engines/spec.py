"""What a reference engine is, as plain data that can be pickled to every rank.

Imports no calculator and no asi4py: who only carries a spec stays small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.geometry import Geometry


@dataclass(frozen=True, eq=False)
class AsiSpec:
    """What it takes to start an ASI library; can be pickled.

    Parameters
    ----------
    library : Path
        The shared library.
    work_dir : Path
        Folder of the engine's own; made if it is not there, inputs in it are overwritten.
    control : str
        The complete control.in.
    geometry : Geometry
    stress : bool
        Ask for the stress too.
    """

    library: Path
    work_dir: Path
    control: str
    geometry: Geometry
    stress: bool = False

    @property
    def log(self) -> Path:
        """What the library says of itself; FHI-aims' main output."""
        return self.work_dir / "asi.log"


@dataclass(frozen=True, eq=False)
class AseSpec:
    """What it takes to make an ASE calculator; can be pickled if ``arguments`` can.

    Parameters
    ----------
    calculator : str
        Import path, ``package.module:Class`` or ``package.module.Class``.
    structure : Structure
        Elements, periodicity, moments and charges; its positions are not used.
    arguments : mapping
        Keyword arguments of the class.
    stress : bool
        Ask for the stress too.
    cold_start : bool
        Every label is computed as if it were the first.
    """

    calculator: str
    structure: Structure
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stress: bool = False
    cold_start: bool = True


@dataclass(frozen=True, eq=False)
class AimsCommandSpec:
    """What it takes to run FHI-aims by its executable; can be pickled.

    Parameters
    ----------
    command : tuple of str
        Program and arguments; run in a folder that holds control.in and geometry.in.
    control : str
        The complete control.in.
    geometry : Geometry
    stress : bool
        Ask for the stress too.
    """

    command: tuple[str, ...]
    control: str
    geometry: Geometry
    stress: bool = False

    @property
    def structure(self) -> Structure:
        """Elements, periodicity, moments and charges."""
        return self.geometry.structure


EngineSpec = AsiSpec | AseSpec
# What can be computed as a job on a cluster.
ClusterSpec = AimsCommandSpec | AseSpec


def fingerprint(specs: Iterable[EngineSpec | ClusterSpec]) -> str:
    """What decides the value of a label besides the geometry; where files lie does not.

    Parameters
    ----------
    specs : iterable of EngineSpec or ClusterSpec
        One per system.
    """
    digest = hashlib.sha256()
    for spec in specs:
        if isinstance(spec, AsiSpec | AimsCommandSpec):
            points, parts = spec.geometry.structure, [spec.control, repr(spec.geometry.species)]
            parts += [repr(spec.geometry.atom_lines), repr(spec.geometry.other_lines)]
            # Most have none; their fingerprints are those of before there were any.
            if any(spec.geometry.vector_lines):
                parts += [repr(spec.geometry.vector_lines)]
            # The executable's energy is read from its output, which knows several; the library's
            # is what the library says.
            parts += ["executable"] if isinstance(spec, AimsCommandSpec) else []
        else:
            points = spec.structure
            parts = [spec.calculator.replace(":", "."), repr(sorted(spec.arguments.items()))]
            parts += [repr(spec.cold_start)]
        parts += [repr(points.numbers.tolist()), repr(points.pbc), repr(spec.stress)]
        parts += [repr(points.initial_moments.tolist()), repr(points.initial_charges.tolist())]
        digest.update("\0".join(parts).encode())
    return digest.hexdigest()[:16]
