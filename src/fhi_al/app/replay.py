"""Structures on which a foundation model is to stay what it was, while it is trained on others.

From the foundation model's own MD on the systems of a run, and displaced from where they start.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from fhi_al.app import fine_tuning
from fhi_al.app.checks import Inputs
from fhi_al.core.schedule import highest
from fhi_al.md.atoms import atoms_of
from fhi_al.md.conditions import MDConditions
from fhi_al.settings import Settings
from fhi_al.storage.atomic_file import write_atomically

log = logging.getLogger(__name__)

STEPS_BETWEEN = 20
FRICTION = 0.02  # per fs
# Of displaced structures: standard deviation of the positions in A, largest strain of crystals.
RATTLE, STRAIN = 0.08, 0.03


def replay_structures(
    settings: Settings, inputs: Inputs, conditions: MDConditions, folder: Path
) -> Path:
    """The file of the structures: the user's, or one that is made when it is first asked for.

    Parameters
    ----------
    settings : Settings
        With ``fine_tuning: replay``.
    inputs : Inputs
    conditions : MDConditions
        Time step, temperature and seed of the MD.
    folder : Path
        Of the run.
    """
    assert settings.mace is not None
    training = settings.mace.training
    if training.replay_file is not None:
        return settings.resolve(training.replay_file)
    path = folder / "restart" / "replay.xyz"
    if not path.is_file():
        made = list(_made(settings, inputs, conditions, training.replay_structures))
        content = io.StringIO()
        write(content, made, format="extxyz")
        write_atomically(path, content.getvalue().encode())
        log.info("replay: %d structures made with the foundation model", len(made))
    return path


def _made(
    settings: Settings, inputs: Inputs, conditions: MDConditions, n_structures: int
) -> Iterator[Atoms]:
    calculator = fine_tuning.calculator(settings)
    rng = np.random.default_rng(conditions.seed)
    for place, one in enumerate(inputs.moving):
        n_own = len(range(place, n_structures, len(inputs.moving)))
        start = atoms_of(one.structure)
        start.set_constraint()
        n_displaced = n_own // 2
        for _ in range(n_displaced):
            yield _displaced(start, rng)
        yield from _md(start, calculator, conditions, n_own - n_displaced, rng)


def _displaced(start: Atoms, rng: np.random.Generator) -> Atoms:
    atoms = start.copy()
    if atoms.pbc.all():
        strain = rng.uniform(-STRAIN, STRAIN, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(0.0, RATTLE, size=atoms.positions.shape)
    return atoms


def _md(
    start: Atoms,
    calculator: BaseCalculator,
    conditions: MDConditions,
    n_structures: int,
    rng: np.random.Generator,
) -> Iterator[Atoms]:
    atoms = start.copy()
    atoms.calc = calculator
    temperature = highest(conditions.temperature)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        conditions.timestep * units.fs,
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        rng=rng,
    )
    for _ in range(n_structures):
        dynamics.run(STEPS_BETWEEN)
        copy = atoms.copy()
        copy.set_momenta(None)
        yield copy
