"""Whether MD on models keeps its energy, and how long it stays sane: at 1, 1.5 and 2 T."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Array, Structure
from fhi_al.evaluation.check import Finding, Subject
from fhi_al.evaluation.limits import ENERGY_DRIFT, STABLE_UP_TO, Judgement
from fhi_al.evaluation.model_md import SurfaceForces
from fhi_al.md.conditions import MDConditions
from fhi_al.md.engine import advance
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, random_stream
from fhi_al.md.system import MDSystem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FACTORS = (1.0, 1.5, 2.0)
BLOCK_FS = 10.0
# Before the energy is watched, at T; no longer than it is watched.
EQUILIBRATION_FS = 200.0
# A bond of a molecule is broken, or two atoms have fallen together, when it differs by more from
# its length at the start, in A (X. Fu et al., TMLR 2023).
BOND_CHANGE = 0.5
# Atoms nearer than so many sums of covalent radii are bonded.
BONDED = 1.25
FRICTION_PER_FS = 0.02
# Parts of the time of which the mean energy is taken.
N_MEANS = 8


@dataclass(eq=False)
class _Run:
    """One trajectory: under which conditions, and what became of it."""

    factor: float | None
    moved: MDSystem
    live: LiveTrajectory
    failed_fs: float | None = None
    why: str = ""
    times_fs: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)


def stability(subject: Subject, forces: SurfaceForces, time_ps: float, seed: int) -> Finding:
    """MD in NVE at T, and with a thermostat at 1, 1.5 and 2 T.

    Parameters
    ----------
    subject : Subject
    forces : SurfaceForces
    time_ps : float
        Of each trajectory.
    seed : int
    """
    runs = [_run(subject, factor, seed) for factor in (None, *FACTORS)]
    n_steps = max(1, round(BLOCK_FS / subject.timestep))
    block_fs = n_steps * subject.timestep
    n_blocks = max(1, round(1000 * time_ps / block_fs))
    bonds = _bonds(subject.structure)
    # In NVE from where the thermostat has brought it to.
    _equilibrate(runs[0], subject, forces, min(EQUILIBRATION_FS, 1000 * time_ps))
    for block in range(1, n_blocks + 1):
        alive = [run for run in runs if run.failed_fs is None]
        if not alive:
            break
        points = advance(
            [run.live for run in alive],
            [run.moved for run in alive],
            [n_steps] * len(alive),
            forces,
        )
        for place, (run, point) in enumerate(zip(alive, points, strict=True)):
            why = str(point) if isinstance(point, MDFailure) else _broken(point.positions, bonds)
            if why:
                run.failed_fs, run.why = block * block_fs, why
            if isinstance(point, MDFailure):
                continue
            run.live.point = point
            if run.factor is None and not why:
                kinetic = float((point.momenta**2 / run.moved.masses[:, None]).sum() / 2)
                run.times_fs.append(block * block_fs)
                run.energies.append(forces.energy(place, point) + kinetic)
    return _finding(subject, runs, n_blocks * block_fs)


def energy_drift(times_fs: Array, energies: Array, n_atoms: int) -> tuple[float, float]:
    """Slope of the total energy and its standard error, in eV/atom/ps.

    Of the means of :data:`N_MEANS` parts: the energy fluctuates with the vibrations, and values
    next to each other are no new ones.

    Parameters
    ----------
    times_fs, energies : (n,)
        In fs and eV.
    n_atoms : int
    """
    parts = min(N_MEANS, len(times_fs))
    times = np.array([part.mean() for part in np.array_split(times_fs, parts)]) / 1000
    means = np.array([part.mean() for part in np.array_split(energies / n_atoms, parts)])
    centred = times - times.mean()
    square = float((centred**2).sum())
    slope = float((centred * means).sum()) / square
    rest = means - means.mean() - slope * centred
    error = np.sqrt((rest**2).sum() / max(1, parts - 2) / square)
    return slope, float(error)


def _run(subject: Subject, factor: float | None, seed: int) -> _Run:
    conditions = MDConditions(
        thermostat=None if factor is None else "Langevin",
        temperature=subject.temperature * (factor or 1.0),
        timestep=subject.timestep,
        friction=FRICTION_PER_FS,
        thermostat_time=100.0,
        andersen_prob=0.0,
        seed=seed,
    )
    # Atoms that overlap, nothing finer: what breaks is what is looked for.
    moved = MDSystem(subject.structure, conditions, GeometryLimits(), subject.name)
    purpose = 0 if factor is None else 1 + FACTORS.index(factor)
    return _Run(factor, moved, LiveTrajectory.start(moved, random_stream(seed, purpose)))


def _equilibrate(run: _Run, subject: Subject, forces: SurfaceForces, time_fs: float) -> None:
    conditions = replace(run.moved.conditions, thermostat="Langevin")
    moved = MDSystem(subject.structure, conditions, run.moved.limits, subject.name)
    n_steps = max(1, round(time_fs / subject.timestep))
    (point,) = advance([run.live], [moved], [n_steps], forces)
    if isinstance(point, MDFailure):
        run.failed_fs, run.why = 0.0, f"before it began: {point}"
    else:
        run.live.point = replace(point, thermostat={})


def _bonds(structure: Structure) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Bonded pairs of a molecule and their lengths; none of a crystal, whose atoms may diffuse."""
    none = np.empty(0, dtype=np.int64)
    if structure.pbc:
        return none, none, np.empty(0)
    first, second = np.triu_indices(len(structure), 1)
    lengths = np.linalg.norm(structure.positions[first] - structure.positions[second], axis=1)
    radii = covalent_radii[structure.numbers]
    bonded = lengths < BONDED * (radii[first] + radii[second])
    return first[bonded], second[bonded], lengths[bonded]


def _broken(positions: Array, bonds: tuple[NDArray[np.int64], NDArray[np.int64], Array]) -> str:
    first, second, lengths = bonds
    if not len(first):
        return ""
    now = np.linalg.norm(positions[first] - positions[second], axis=1)
    worst = int(np.abs(now - lengths).argmax())
    if abs(now[worst] - lengths[worst]) <= BOND_CHANGE:
        return ""
    return (
        f"the bond of atoms {first[worst] + 1} and {second[worst] + 1} is {now[worst]:.2f} A long,"
        f" {lengths[worst]:.2f} A at the start"
    )


def _finding(subject: Subject, runs: list[_Run], time_fs: float) -> Finding:
    name, n_atoms = subject.name, len(subject.structure)
    lines, judgements = [], []
    values: dict[str, object] = {"temperature_k": subject.temperature, "time_ps": time_fs / 1000}
    nve = runs[0]
    if nve.failed_fs is not None:
        lines.append(f"NVE of {name}: failed after {nve.failed_fs:g} fs: {nve.why}")
        judgements.append(Judgement(ENERGY_DRIFT, np.inf, name))
    elif len(nve.times_fs) >= N_MEANS:
        times, energies = np.array(nve.times_fs), np.array(nve.energies)
        drift, error = energy_drift(times, energies, n_atoms)
        fluctuation = float((energies / n_atoms).std())
        lines.append(
            f"NVE of {name} at {subject.temperature:g} K: energy drifts by {1000 * drift:+.3f} +-"
            f" {1000 * error:.3f} meV/atom/ps and fluctuates by {1000 * fluctuation:.3f} meV/atom"
            f" in {time_fs / 1000:g} ps"
        )
        # As far as it is known to be one.
        judgements.append(Judgement(ENERGY_DRIFT, 1000 * max(0.0, abs(drift) - 2 * error), name))
        values |= {
            "nve_drift_ev_per_atom_ps": drift,
            "nve_drift_error_ev_per_atom_ps": error,
            "nve_fluctuation_ev_per_atom": fluctuation,
        }
    stable, failures = 0.0, {}
    for run in runs[1:]:
        assert run.factor is not None
        failures[f"{run.factor:g}"] = run.failed_fs
        temperature = run.factor * subject.temperature
        if run.failed_fs is not None:
            lines.append(
                f"MD of {name} at {temperature:g} K: failed after {run.failed_fs:g} fs: {run.why}"
            )
        else:
            lines.append(f"MD of {name} at {temperature:g} K: sane for {time_fs / 1000:g} ps")
    for run in runs[1:]:
        if run.failed_fs is not None:
            break
        stable = run.factor or 0.0
    values["failed_after_fs"] = failures
    judgements.append(Judgement(STABLE_UP_TO, stable, name))
    return Finding(
        "stability",
        name,
        lines,
        values,
        judgements,
        {"stability.png": lambda axes: _draw(axes, nve, n_atoms)}
        if len(nve.times_fs) >= N_MEANS
        else {},
    )


def _draw(axes: Axes, nve: _Run, n_atoms: int) -> None:
    energies = np.array(nve.energies) / n_atoms
    axes.plot(np.array(nve.times_fs) / 1000, 1000 * (energies - energies[0]))
    axes.set(xlabel="time (ps)", ylabel="total energy in NVE (meV/atom)")
