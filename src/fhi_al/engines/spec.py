"""What a reference engine is, as plain data that can be pickled to every rank.

Imports no calculator and no asi4py: who only carries a spec stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.fingerprint import (
    of_aims_inputs,
    of_aims_inputs_before,
    of_system,
    of_system_before,
)

TBLITE = "tblite.ase:TBLite"


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

    def identity(self) -> dict[str, Any]:
        """What decides the value of a label besides the geometry."""
        inputs = of_aims_inputs(self.control, self.geometry)
        return {"engine": "FHI-aims, library", "stress": self.stress, **inputs}

    older_note = ""

    def older_identity(self) -> list[str]:
        """What older programs hashed."""
        return [
            *of_aims_inputs_before(self.control, self.geometry),
            *of_system_before(self.geometry.structure, self.stress),
        ]


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

    def identity(self) -> dict[str, Any]:
        """What decides the value of a label besides the geometry."""
        return {
            "engine": self._dotted,
            "arguments": self.arguments,
            "cold start": self.cold_start,
            "stress": self.stress,
            **of_system(self.structure),
        }

    def older_identity(self) -> list[str]:
        """What older programs hashed."""
        parts = [self._dotted, repr(sorted(self.arguments.items())), repr(self.cold_start)]
        return [*parts, *of_system_before(self.structure, self.stress)]

    @property
    def older_note(self) -> str:
        """What is to be known of labels that older programs stored."""
        if self.calculator == TBLITE:
            return ""
        return (
            "labels hold the calculator's free_energy now, where it has one; those stored by an"
            " older program hold its energy. With smearing the two differ: then start in a new"
            " folder"
        )

    @property
    def _dotted(self) -> str:
        return self.calculator.replace(":", ".")


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

    def identity(self) -> dict[str, Any]:
        """What decides the value of a label besides the geometry."""
        # Not the library's: the energy is read from the output, which knows several, whereas the
        # library's is what the library says.
        inputs = of_aims_inputs(self.control, self.geometry)
        return {"engine": "FHI-aims, executable", "stress": self.stress, **inputs}

    older_note = ""

    def older_identity(self) -> list[str]:
        """What older programs hashed."""
        return [
            *of_aims_inputs_before(self.control, self.geometry),
            "executable",
            *of_system_before(self.geometry.structure, self.stress),
        ]


EngineSpec = AsiSpec | AseSpec
# What can be computed as a job on a cluster.
ClusterSpec = AimsCommandSpec | AseSpec
