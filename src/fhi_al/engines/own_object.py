"""A Python object of the user's own as reference engine; only Python can hand one over."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.engine import ReferenceEngine
from fhi_al.engines.fingerprint import of_system
from fhi_al.engines.kind import EngineContext, EngineKind
from fhi_al.engines.spec import EngineSpec

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass(frozen=True, eq=False)
class OwnObjectSpec(EngineSpec):
    """The object itself.

    Parameters
    ----------
    engine : ReferenceEngine
    name : str
        Stands for it where labels are compared with those of another launch.
    structure : Structure
    """

    engine: ReferenceEngine
    name: str
    structure: Structure

    def build(self, comm: MPI.Intracomm | None) -> ReferenceEngine:
        """The object; a copy of its own on every rank that labels."""
        if comm is not None and comm.size > 1:
            raise ValueError(f"an engine object runs on one rank, `comm` has {comm.size}")
        return self.engine

    def identity(self) -> dict[str, Any]:
        """The name of its class, or what it says of itself as ``identity``."""
        own = getattr(self.engine, "identity", None)
        said = own() if callable(own) else None
        return {"engine": self.name, "identity": said, **of_system(self.structure)}


class OwnObject(EngineKind):
    """No keys: the object is among the inputs."""

    own_keys = ()

    def spec(self, run: EngineContext, geometry: Geometry) -> OwnObjectSpec:
        """The object for a system."""
        assert run.inputs.engine is not None
        kind = type(run.inputs.engine)
        name = f"{kind.__module__}.{kind.__qualname__}"
        return OwnObjectSpec(run.inputs.engine, name, geometry.structure)

    def stress_problem(self, run: EngineContext, geometry: Geometry) -> str | None:
        """An object says by ``has_stress = True`` that its results have one."""
        if run.inputs.engine is None or getattr(run.inputs.engine, "has_stress", False):
            return None
        return (
            f"{type(run.inputs.engine).__name__} does not say that it gives a stress: expected its"
            " attribute has_stress to be True. Set it, or set compute_stress to false"
        )

    def problems(self, run: EngineContext) -> Iterator[str]:
        """Whether there is an object, and whether it can be sent where it has to go."""
        if run.inputs.engine is None:
            yield run.problem(
                "reference_engine", "only Python can hand an object over: name an engine"
            )
        elif run.al.parallel:
            try:
                pickle.dumps(run.inputs.engine)
            except Exception as error:  # of a class that is not ours
                yield run.problem(
                    "parallel",
                    f"other ranks label, and {type(run.inputs.engine).__name__} cannot be sent to"
                    f" them ({type(error).__name__}: {error}): expected an object that can be"
                    " pickled. Define its class in a module, or set parallel to false",
                )
