"""Two systems, their reference MD and labels, and models trained on labels: what the
label-efficiency and calibration benchmarks work with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase.build import bulk, molecule
from ase.calculators.calculator import BaseCalculator
from labels import label_of
from numpy.typing import NDArray
from tblite.ase import TBLite
from train_member import default_options, run_convergence, split

from fhi_al.active_learning.progress import Progress
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Structure, structure
from fhi_al.md.atoms import atoms_of
from fhi_al.md.conditions import MDConditions
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import Evaluation, MovingStructure, forces_of_calculator
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, random_stream
from fhi_al.md.system import MDSystem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.training import SerialTrainingPool
from fhi_al.settings.active_learning import ActiveLearning
from fhi_al.settings.mace import MaceSettings

Array = NDArray[np.float64]

FRICTION = 0.01  # 1/fs
MOLECULES = {"ethanol": "CH3CH2OH", "methanol": "CH3OH", "acetamide": "CH3CONH2"}
BLOCK = 20  # MD steps between two looks at a structure
# An atom farther than this from all others has left; a molecule of this size has no longer bonds.
SANE = GeometryLimits(max_distance=3.0)


@dataclass(frozen=True)
class System:
    """What is simulated and by which reference method.

    Parameters
    ----------
    name : str
        Of the molecule or crystal.
    method : str
        Of tblite.
    temperature : float
        In K.
    timestep : float
        In fs.
    r_max : float
        Of the models, in A.
    """

    name: str
    method: str
    temperature: float
    timestep: float
    r_max: float

    @property
    def structure(self) -> Structure:
        """The start geometry."""
        if self.name in MOLECULES:
            atoms = molecule(MOLECULES[self.name])
            return structure(atoms.numbers, atoms.positions)
        atoms = bulk("C", "diamond", a=3.57, cubic=True)
        return structure(atoms.numbers, atoms.positions, atoms.cell.array)

    def reference(self) -> TBLite:
        """The reference method, from scratch for each geometry: no label depends on another."""
        return TBLite(method=self.method, verbosity=0, cache_api=False)

    def md(self, temperature: float | None = None) -> MDSystem:
        """Langevin MD at the system's temperature in K, or at another one."""
        kelvin = self.temperature if temperature is None else temperature
        conditions = MDConditions("Langevin", kelvin, self.timestep, FRICTION, 100.0, 0.01, 1)
        return MDSystem(self.structure, conditions, SANE)


SYSTEMS = {
    "ethanol": System("ethanol", "GFN2-xTB", 500.0, 0.5, 5.0),
    "diamond": System("diamond", "GFN1-xTB", 1000.0, 1.0, 3.2),
}


def reference_md(
    system: System, n_frames: int, stride: int, seed: int, n_before: int = 0
) -> list[Array]:
    """Positions, (n_atoms, 3) in A, every `stride` steps of MD with the reference method.

    The first `n_before` steps from the start geometry are left out.
    """
    return sampled(system.md(), system.reference(), n_frames, stride, seed, n_before)


def sampled(
    md: MDSystem,
    calculator: BaseCalculator,
    n_frames: int,
    stride: int,
    seed: int,
    n_before: int = 0,
) -> list[Array]:
    """Positions, (n_atoms, 3) in A, every `stride` steps of MD with a calculator's forces."""
    forces = forces_of_calculator(calculator)
    trajectory = LiveTrajectory.start(md, random_stream(seed))
    frames = []
    for n_steps in ([n_before] if n_before else []) + [stride] * n_frames:
        (point,) = advance([trajectory], [md], [n_steps], forces)
        if isinstance(point, MDFailure):
            raise point
        trajectory.point = point
        frames.append(point.positions)
    return frames[-n_frames:]


def labelled(system: System, frames: Sequence[Array]) -> list[Label]:
    """Frames (positions in A) with the reference method's energies and forces."""
    start = system.structure
    labels = []
    for step, positions in enumerate(frames):
        atoms = atoms_of(start, positions)
        atoms.calc = system.reference()
        forces = atoms.get_forces(apply_constraint=False)
        origin = Origin("imported", 0, step)
        labels.append(label_of(atoms, atoms.get_potential_energy(), forces, origin))
    return labels


def mace_settings(system: System) -> dict[str, Any]:
    """What stands in mace_settings.yaml; the models that are compared are of the same make."""
    return {
        "GENERAL": {"name_exp": system.name, "default_dtype": "float32", "seed": 1},
        "ARCHITECTURE": {
            "r_max": system.r_max,
            "num_channels": 32,
            "max_L": 0,
            "max_ell": 2,
            "correlation": 2,
            "radial_MLP": "[16, 16, 16]",
            "MLP_irreps": "16x0e",
        },
        "TRAINING": {"valid_batch_size": 20},
        "MISC": {"device": "cpu"},
    }


def trained(
    system: System,
    labels: Sequence[Label],
    n_members: int,
    n_batches: int | None,
    seed: int,
    max_epochs: int | None = None,
) -> Ensemble:
    """An ensemble trained from scratch, each member from weights of its own.

    Parameters
    ----------
    n_batches : int or None
        Optimizer steps at a constant rate, on all labels: as many for a few labels as for many.
        None: the program's convergence with its defaults, each member on all labels but those it
        validates on.
    max_epochs : int or None
        Of such a convergence; None: the program's default.
    """
    settings = MaceSettings.model_validate(
        {name.lower(): values for name, values in mace_settings(system).items()}
    )
    seeds = [1000 * (seed + 1) + k for k in range(n_members)]
    elements = sorted(set(system.structure.numbers.tolist()))
    ensemble = Ensemble(settings, elements, seeds)
    for member in ensemble.members:
        ratio = ActiveLearning().valid_ratio
        training, validation = split(labels, ratio, member.seed)
        # With a number of steps nothing is decided by the validation.
        member.add_training(labels if n_batches else training)
        member.add_validation(labels[:1] if n_batches else validation)
        member.fit_normalisation()
        member.freeze_normalisation()
    if n_batches is None:
        options = default_options(settings)
        if max_epochs is not None:
            options = replace(options, max_epochs=max_epochs)
        run_convergence(ensemble, options, range(n_members), Progress())
        return ensemble
    per_epoch = -(-len(labels) // settings.training.batch_size)
    n_epochs = max(1, round(n_batches / per_epoch))
    SerialTrainingPool(ensemble, n_epochs).begin(range(n_members), n_epochs).finish()
    return ensemble


def sane_steps(
    system: System, ensemble: Ensemble, n_trajectories: int, n_steps: int, temperature: float
) -> list[int]:
    """Steps that MD with the first member goes until a structure makes no sense, by trajectory.

    Atoms overlap, one is far from all others, or it is ten times too hot; at most `n_steps`.
    """
    md = system.md(temperature)
    generators = [random_stream(7, k) for k in range(n_trajectories)]
    points = {k: md.start(generators[k]) for k in range(n_trajectories)}
    sane = [0] * n_trajectories

    def forces(pending: Mapping[int, MovingStructure]) -> dict[int, Evaluation | MDFailure]:
        found = ensemble.predict(list(pending.values()), [0])
        return {place: Evaluation(one.forces[0]) for place, one in zip(pending, found, strict=True)}

    for _ in range(n_steps // BLOCK):
        moving = list(points)
        ended = advance(
            [LiveTrajectory.at(points[k], generators[k]) for k in moving],
            [md] * len(moving),
            [BLOCK] * len(moving),
            forces,
        )
        for k, point in zip(moving, ended, strict=True):
            if isinstance(point, MDFailure):
                del points[k]
            else:
                points[k] = point
                sane[k] += BLOCK
        if not points:
            break
    return sane
