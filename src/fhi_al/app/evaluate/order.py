"""What ``FHI_AL-evaluate`` is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FOLDER = "evaluation"
MD = "md"
CHECKS = ("stability", "vibrations", "rdf", "eos", "dimers", "smoothness")
ALL = "all"
# Calculations of the engine for checks, where it is asked anyway.
USUAL_REFERENCE = 300


@dataclass(frozen=True)
class MDOrder:
    """An independent MD of the engine.

    Parameters
    ----------
    temperatures : tuple of float
        In K, a trajectory each; empty: those of the run's MD.
    n_structures : int
        That are taken, of all trajectories together.
    spacing_fs, equilibration_fs : float
        Between two that are taken, and before the first.
    seed : int
    most_calculations : int
        More are not begun.
    """

    temperatures: tuple[float, ...] = ()
    n_structures: int = 100
    spacing_fs: float = 20.0
    equilibration_fs: float = 500.0
    seed: int = 2718
    most_calculations: int = 20_000


@dataclass(frozen=True)
class ChecksOrder:
    """Physical checks.

    Parameters
    ----------
    names : tuple of str
        Of :data:`CHECKS`, or ``all``.
    time_ps : float
        Of each trajectory of the MD on models.
    reference : int or None
        Calculations of the engine that they may take, at most; None: as many as is usual if the
        engine is asked anyway, none if it is not.
    """

    names: tuple[str, ...] = ()
    time_ps: float = 2.0
    reference: int | None = None


@dataclass(frozen=True)
class EvaluateOrder:
    """What the command is asked for.

    Parameters
    ----------
    models : tuple of Path
        Files; empty: those of the run in the folder.
    on : str or None
        A file with labels, or ``md``; None for checks alone.
    output : Path or None
        Folder of what is written; None: ``evaluation`` in the run's folder.
    energy, forces, stress : str or None
        Names of the labels in the file.
    head : str or None
        Of models that have several.
    device, dtype : str
    n_worst : int
        Structures that are written out.
    md : MDOrder
    checks : ChecksOrder
    given : tuple of str
        Keys over what the settings files say.
    """

    models: tuple[Path, ...]
    on: str | None = None
    output: Path | None = None
    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    head: str | None = None
    device: str = "cpu"
    dtype: str = "float64"
    n_worst: int = 10
    md: MDOrder = field(default_factory=MDOrder)
    checks: ChecksOrder = field(default_factory=ChecksOrder)
    given: tuple[str, ...] = ()
