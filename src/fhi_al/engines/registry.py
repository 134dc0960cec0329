"""From a spec to a running engine.  The only place that tells the kinds of engine apart."""

from __future__ import annotations

from mpi4py import MPI

from fhi_al.engines.engine import ReferenceEngine
from fhi_al.engines.spec import AsiSpec, EngineSpec


def runs_in_parallel(spec: EngineSpec) -> bool:
    """Whether several ranks can share a calculation: an ASI library yes, an ASE calculator no."""
    return isinstance(spec, AsiSpec)


def build_engine(spec: EngineSpec, comm: MPI.Intracomm) -> ReferenceEngine:
    """Collective over `comm`: start the engine.

    Parameters
    ----------
    spec : EngineSpec
        The same on all ranks.
    comm : MPI.Intracomm
        Of the engine's ranks: one for an ASE calculator.

    Raises
    ------
    EngineError
        On all ranks alike, if the engine cannot start.
    ValueError
        If an ASE calculator is to run on several ranks.
    """
    # Imported here: a rank loads only what its engine needs.
    if isinstance(spec, AsiSpec):
        from fhi_al.engines.asi import AsiEngine

        return AsiEngine(spec, comm)
    if comm.size != 1:
        raise ValueError(f"{spec.calculator} runs on one rank, the communicator has {comm.size}")
    from fhi_al.engines.ase_calculator import AseEngine

    return AseEngine(spec)
