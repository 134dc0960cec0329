"""What a reference engine is, as plain data that can be pickled to every rank.

Imports no calculator and no asi4py: who only carries a spec stays small.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.engine import ReferenceEngine
from fhi_al.engines.fingerprint import (
    of_aims_inputs,
    of_aims_inputs_before,
    of_system,
    of_system_before,
)

if TYPE_CHECKING:
    from mpi4py import MPI

TBLITE = "tblite.ase:TBLite"
# In fingerprints from before there was a choice: a label with a stress is the same otherwise.
_NO_STRESS = {"stress": False}


class EngineSpec:
    """What it takes to build a reference engine for one system, as plain data; can be pickled.

    A subclass is a frozen dataclass (``eq=False``) with a field or property ``structure`` and
    either ``engine_class`` or a ``build`` of its own.

    Attributes
    ----------
    engine_class : str
        ``package.module:Class``; called with the spec and the communicator.  By name, so that who
        only carries a spec loads none of it.
    is_collective : bool
        Whether several ranks can share a calculation.
    needs_job : bool
        Whether it runs as a job of its own only.
    output_files : tuple of str
        Files that a job writes and that say why it failed, the most telling first.
    text : str
        What the engine reads instead of arguments, for ``--check``; may be empty.
    """

    engine_class: ClassVar[str] = ""
    is_collective: ClassVar[bool] = False
    needs_job: ClassVar[bool] = False
    output_files: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:

        @property
        def structure(self) -> Structure:
            """Elements, periodicity, moments and charges."""
            ...

    def build(self, comm: MPI.Intracomm | None) -> ReferenceEngine:
        """Collective over `comm`: start the engine.

        Parameters
        ----------
        comm : MPI.Intracomm or None
            Of the engine's ranks; None in a process without MPI, as a job on a cluster is.

        Raises
        ------
        EngineError
            On all ranks alike, if the engine cannot start.
        ValueError
            If it runs on one rank and is to run on several.
        """
        if comm is not None and comm.size > 1 and not self.is_collective:
            raise ValueError(f"{type(self).__name__} runs on one rank, `comm` has {comm.size}")
        module, _, name = self.engine_class.partition(":")
        made: ReferenceEngine = getattr(importlib.import_module(module), name)(self, comm)
        return made

    def identity(self) -> dict[str, Any]:
        """What decides the value of a label besides the geometry.

        All fields but the structure and ``stress``, if not overridden: a label with a stress is the
        same label otherwise.
        """
        own = {
            each.name: getattr(self, each.name)
            for each in fields(self)  # type: ignore[arg-type]
            if each.name not in ("structure", "stress")
        }
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"engine": kind, **own, **of_system(self.structure)}

    def older_identity(self) -> list[str] | None:
        """What programs without versions of fingerprints hashed; None: there was no such engine."""
        return None

    def identity_before_stress(self) -> dict[str, Any] | None:
        """What programs without stress gave as identity, where it was another; else None."""
        return None

    @property
    def older_note(self) -> str:
        """What is to be known of labels that older programs stored; empty if there is nothing."""
        return ""

    def in_group(self, number: int) -> Self:
        """For one of several groups of ranks, counted from 1: with folders of its own."""
        return self

    def in_folder(self, folder: Path) -> Self:
        """For another command beside a run: folders of its own are in this one."""
        return self

    def for_job(self) -> EngineSpec | None:
        """To be built by a job of its own on a cluster; None if that cannot be."""
        return None if self.is_collective else self

    @property
    def wants_stress(self) -> bool:
        """Whether its labels are to have a stress: its field ``stress``, if it has one."""
        return bool(getattr(self, "stress", False))

    @property
    def log(self) -> Path | None:
        """File in which the engine says what it does, if there is one."""
        return None

    @property
    def text(self) -> str:
        """What the engine reads instead of arguments."""
        return ""


@dataclass(frozen=True, eq=False)
class AsiSpec(EngineSpec):
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
    engine_class = "fhi_al.engines.asi:AsiEngine"
    is_collective = True

    @property
    def structure(self) -> Structure:
        """Elements, periodicity, moments and charges."""
        return self.geometry.structure

    @property
    def text(self) -> str:
        """The complete control.in."""
        return self.control

    def in_group(self, number: int) -> AsiSpec:
        """In a folder of its own."""
        return replace(self, work_dir=self.work_dir / f"group_{number}")

    def in_folder(self, folder: Path) -> AsiSpec:
        """In a folder of its own."""
        return replace(self, work_dir=folder / self.work_dir.name)

    @property
    def log(self) -> Path:
        """What the library says of itself; FHI-aims' main output."""
        return self.work_dir / "asi.log"

    def identity(self) -> dict[str, Any]:
        """What decides the value of a label besides the geometry."""
        inputs = of_aims_inputs(self.control, self.geometry)
        return {"engine": "FHI-aims, library", **_NO_STRESS, **inputs}

    def identity_before_stress(self) -> dict[str, Any] | None:
        """With the lines about stress in the user's control.in."""
        return _with_stress_lines(self.identity(), self.control, self.geometry)

    def older_identity(self) -> list[str]:
        """What older programs hashed."""
        return [
            *of_aims_inputs_before(self.control, self.geometry),
            *of_system_before(self.geometry.structure),
        ]


@dataclass(frozen=True, eq=False)
class AseSpec(EngineSpec):
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
    reuse : bool
        By the same calculator, which keeps nothing of a geometry; else each has a new one.
    """

    calculator: str
    structure: Structure
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stress: bool = False
    cold_start: bool = True
    reuse: bool = False
    engine_class = "fhi_al.engines.ase_calculator:AseEngine"

    def for_job(self) -> AseSpec:
        """A job has no predecessor whose density it could start from."""
        return replace(self, cold_start=True)

    def identity(self) -> dict[str, Any]:
        """What decides the value of a label besides the geometry."""
        return {
            "engine": self._dotted,
            "arguments": self.arguments,
            "cold start": self.cold_start,
            **_NO_STRESS,
            **of_system(self.structure),
        }

    def older_identity(self) -> list[str]:
        """What older programs hashed."""
        parts = [self._dotted, repr(sorted(self.arguments.items())), repr(self.cold_start)]
        return [*parts, *of_system_before(self.structure)]

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
class AimsCommandSpec(EngineSpec):
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
    engine_class = "fhi_al.engines.aims_executable:AimsExecutable"
    needs_job = True
    output_files = ("aims.out", "aims.err")

    @property
    def text(self) -> str:
        """The complete control.in."""
        return self.control

    @property
    def structure(self) -> Structure:
        """Elements, periodicity, moments and charges."""
        return self.geometry.structure

    def identity(self) -> dict[str, Any]:
        """What decides the value of a label besides the geometry."""
        # Not the library's: the energy is read from the output, which knows several, whereas the
        # library's is what the library says.
        inputs = of_aims_inputs(self.control, self.geometry)
        return {"engine": "FHI-aims, executable", **_NO_STRESS, **inputs}

    def identity_before_stress(self) -> dict[str, Any] | None:
        """With the lines about stress in the user's control.in."""
        return _with_stress_lines(self.identity(), self.control, self.geometry)

    def older_identity(self) -> list[str]:
        """What older programs hashed."""
        return [
            *of_aims_inputs_before(self.control, self.geometry),
            "executable",
            *of_system_before(self.geometry.structure),
        ]


def _with_stress_lines(
    identity: dict[str, Any], control: str, geometry: Geometry
) -> dict[str, Any] | None:
    before = identity | of_aims_inputs(control, geometry, stress_lines=True)
    return None if before["control"] == identity["control"] else before
