"""What a run can be made of in Python: engines, models, criterion, stop rules.

Small frozen objects that say their keys and values of the settings files, by which they are
checked; files and objects make the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ase import Atoms

from fhi_al.core.structure import Array

Keys = Mapping[str, Any]


class Engine(Protocol):
    """A reference engine that is named in the settings."""

    def keys(self) -> Keys:
        """Its keys of ACTIVE_LEARNING."""
        ...


@dataclass(frozen=True)
class TBLite:
    """GFN1-xTB or GFN2-xTB by tblite.

    Parameters
    ----------
    method : str
    arguments : mapping
        Further keyword arguments of ``tblite.ase.TBLite``, such as ``charge``.
    """

    method: str = "GFN2-xTB"
    arguments: Keys = field(default_factory=dict)

    def keys(self) -> Keys:
        """Its keys of ACTIVE_LEARNING."""
        return {
            "reference_engine": "tblite",
            "reference_method": self.method,
            "reference_arguments": dict(self.arguments),
        }


@dataclass(frozen=True)
class AseCalculator:
    """An ASE calculator by its import path, made anew on every rank that needs one.

    Parameters
    ----------
    path : str
        ``package.module:Class`` or ``package.module.Class``.
    arguments : mapping
        Keyword arguments of the class.
    """

    path: str
    arguments: Keys = field(default_factory=dict)

    def keys(self) -> Keys:
        """Its keys of ACTIVE_LEARNING."""
        return {
            "reference_engine": "ase",
            "reference_calculator": self.path,
            "reference_arguments": dict(self.arguments),
        }


@dataclass(frozen=True)
class Aims:
    """FHI-aims as a shared library, through ASI; ``control.in`` is in the run's folder.

    Parameters
    ----------
    library : path
        FHI-aims built with BUILD_SHARED_LIBS=ON.
    species_dir : path or None
        Species defaults; None if control.in has a block for each species.
    """

    library: Path | str
    species_dir: Path | str | None = None

    def keys(self) -> Keys:
        """Its keys of ACTIVE_LEARNING."""
        given = {"reference_engine": "aims", "aims_lib_path": str(Path(self.library).absolute())}
        if self.species_dir is not None:
            given["species_dir"] = str(Path(self.species_dir).absolute())
        return given


class Backend:
    """An ensemble of models of any kind.

    Parameters
    ----------
    kind : str, type or ModelDeclaration
        A name, as ``model_backend`` has it; or a class or declaration of your own, see
        :mod:`fhi_al.models.interface`.
    members : int
        Size of the ensemble.
    **keys
        Keys of any section of ``mace_settings.yaml``, named as there; those of ARCHITECTURE are the
        kind's.
    """

    def __init__(self, kind: object, members: int = 4, **keys: Any) -> None:
        self.kind = kind
        self.members = members
        self.keys = keys

    def __repr__(self) -> str:
        given = "".join(f", {key}={value!r}" for key, value in self.keys.items())
        return f"{type(self).__name__}({self.kind!r}, {self.members}{given})"


class MACE(Backend):
    """An ensemble of MACE models.

    Parameters
    ----------
    members : int
        Size of the ensemble.
    **keys
        Keys of any section of ``mace_settings.yaml``, named as there: ``num_channels``, ``r_max``,
        ``lr``, ``batch_size``, ``default_dtype``, ``device``, ``seed``.
    """

    def __init__(self, members: int = 4, **keys: Any) -> None:
        super().__init__("mace", members, **keys)


@dataclass(frozen=True)
class Threshold:
    """A structure needs a label if its uncertainty is over a threshold.

    Parameters
    ----------
    uncertainty : str or callable
        A name (``max_atomic_sd``, ``mean_atomic_sd``, ``ensemble_sd``), or a function of the
        members' forces, (n_members, n_atoms, 3) in eV/A, that gives a number.
    c_x : float
        The threshold is (1 - c_x) times the moving average of the uncertainties, or their quantile.
    warmup, window : int
        Uncertainties seen before it first triggers, and that it goes over.
    quantile : float or None
        Use this quantile instead of the moving average.
    stress : float or None
        A structure needs a label also if the spread of the members' stress is over this, in
        eV/A^3; with ``MACE(compute_stress=True)``.
    max_threshold : float or None
        Either counts as at most this share of the rms of the initial dataset's forces; not with a
        function, whose numbers may be of any kind.
    """

    uncertainty: str | Callable[[Array], float] = "max_atomic_sd"
    c_x: float = 0.0
    warmup: int = 10
    window: int = 400
    quantile: float | None = None
    stress: float | None = None
    max_threshold: float | None = 0.5

    def keys(self) -> Keys:
        """Its keys of ACTIVE_LEARNING."""
        given: dict[str, Any] = {
            "c_x": self.c_x,
            "threshold_warmup": self.warmup,
            "threshold_window": self.window,
            "max_threshold": self.max_threshold,
        }
        if isinstance(self.uncertainty, str):
            given["uncertainty_type"] = self.uncertainty
        if self.quantile is not None:
            given |= {"threshold_type": "quantile", "threshold_quantile": self.quantile}
        if self.stress is not None:
            given["stress_threshold"] = self.stress
        return given


@dataclass(frozen=True)
class Stop:
    """When active learning is over: at the first of these.

    Parameters
    ----------
    force_mae : float
        Mean validation force MAE in eV/A; 0: no such stop.
    max_set_size : int or None
        Training points of one member.
    max_md_steps : int or None
        MD steps after which a trajectory is done; active learning is when all are.
    label_budget : int or None
        Reference calculations in all.
    """

    force_mae: float = 0.0
    max_set_size: int | None = None
    max_md_steps: int | None = None
    label_budget: int | None = None

    def keys(self) -> Keys:
        """Its keys of ACTIVE_LEARNING."""
        given = {
            "desired_acc": self.force_mae,
            "max_set_size": self.max_set_size,
            "max_MD_steps": self.max_md_steps,
            "label_budget": self.label_budget,
        }
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True, eq=False)
class System:
    """One of several systems.

    Parameters
    ----------
    structures : ase.Atoms or sequence of ase.Atoms
        Where its trajectories begin, in turn; only positions and cell differ.
    arguments : mapping
        Arguments of the engine for this system, which overrule the engine's own.
    trajectories : int or None
        Of active learning; None: an equal part of ``num_trajectories``.
    md : sequence of str or None
        Names of the MD blocks that they run; None: all.
    share : float
        Of the initial dataset, compared with the other systems'.
    """

    structures: Atoms | Sequence[Atoms]
    arguments: Keys = field(default_factory=dict)
    trajectories: int | None = None
    md: Sequence[str] | None = None
    share: float = 1.0

    def keys(self) -> Keys:
        """Its keys of SYSTEMS."""
        return {
            "arguments": dict(self.arguments),
            "trajectories": self.trajectories,
            "md": None if self.md is None else list(self.md),
            "share": self.share,
        }

    @property
    def starts(self) -> list[Atoms]:
        """Its structures."""
        return [self.structures] if isinstance(self.structures, Atoms) else list(self.structures)


@dataclass(frozen=True)
class InitialDataset:
    """How the first dataset is sampled, and when it is good enough.

    Parameters
    ----------
    sampling : str, Path or sequence of these
        ``aimd`` (MD on the reference engine), ``mace-mp0``, the import path
        ``package.module:Class`` of an ASE calculator (with a colon and no slash), or the path of a
        MACE model file (any other text, and every ``Path``); ``displaced``, without MD; or several,
        in equal shares.
    points : int
        Per member and round.
    skip_steps : int
        MD steps between two points.
    factor : float
        It is good enough at this times the force MAE of :class:`Stop`.
    max_epochs : int
    sets : {"shared", "own"}
        Whether members share its points, or each has its own.
    gain : float or None
        New points are paid for when a training round lowers the error by less than this share;
        None: after every round.
    converge : bool
    arguments : mapping
        Keyword arguments of the calculator.
    displaced : mapping
        Keys of ACTIVE_LEARNING.displaced.
    data : path, mapping or a list of these
        Files with labels that it begins with, as the key ``initial_data`` has them, but that paths
        count from the current folder.
    """

    sampling: str | Path | Sequence[str | Path] = "aimd"
    points: int = 10
    skip_steps: int = 25
    factor: float = 10.0
    max_epochs: int = 1000
    sets: str = "shared"
    gain: float | None = 0.1
    converge: bool = False
    arguments: Keys = field(default_factory=dict)
    displaced: Keys = field(default_factory=dict)
    data: Any = None

    def keys(self) -> Keys:
        """Its keys of ACTIVE_LEARNING."""
        given: dict[str, Any] = {
            "initial_data": _absolute(self.data),
            "n_samples": self.points,
            "skip_step_initial": self.skip_steps,
            "lambda": self.factor,
            "max_initial_epochs": self.max_epochs,
            "initial_sets": self.sets,
            "intermediate_gain": self.gain,
            "converge_initial": self.converge,
        }
        one = self.sampling
        sources: list[str] = []
        for source in [one] if isinstance(one, str | Path) else one:
            if isinstance(source, str) and source in ("aimd", "mace-mp0", "displaced"):
                sources.append(source)
                continue
            sources.append("foundation")
            if isinstance(source, str) and ":" in source and "/" not in source:
                given["foundation_calculator"] = source
                given["foundation_arguments"] = dict(self.arguments)
            else:
                given["foundation_model"] = str(Path(source).expanduser().absolute())
        given["initial_sampling"] = sources
        return given | ({"displaced": dict(self.displaced)} if self.displaced else {})


def _absolute(data: Any) -> Any:
    """Entries of ``initial_data`` with absolute paths; what makes no sense is left as it is."""
    if isinstance(data, list | tuple):
        return [_absolute(entry) for entry in data]
    if isinstance(data, Mapping) and "file" in data:
        return {**data, "file": _absolute(data["file"])}
    return str(Path(data).expanduser().absolute()) if isinstance(data, str | Path) else data
