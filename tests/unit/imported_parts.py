"""Data and models of a user's own: small files for the tests of their import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from fhi_al.active_learning.imported_frames import Expected
from fhi_al.active_learning.initial_data import InitialFiles, initial_files
from fhi_al.active_learning.matching import ExpectedSystem
from fhi_al.core.plausible import GeometryLimits, LabelLimits
from fhi_al.core.structure import structure

NAMES = ("water_1", "water_2")
POSITIONS = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
ENERGY = -138.0  # eV, about what GFN2-xTB gives


def water(e0_sum: float | None = None) -> Expected:
    """What frames of water must agree with, with the limits that settings have by default."""
    system = ExpectedSystem("geometry.in", structure([8, 1, 1], POSITIONS), e0_sum, "the E0s")
    return Expected((system,), GeometryLimits(), LabelLimits(300.0, 50.0))


def diamond() -> Expected:
    """What frames of the primitive cell of diamond must agree with."""
    positions = np.array([[0.0, 0.0, 0.0], [0.8925, 0.8925, 0.8925]])
    system = structure([6, 6], positions, 1.785 * (np.ones((3, 3)) - np.eye(3)))
    one = ExpectedSystem("geometry.in", system)
    return Expected((one,), GeometryLimits(), LabelLimits(300.0, 50.0))


def frame(seed: int, **info: object) -> Atoms:
    """A labelled water molecule, the same for the same seed."""
    generator = np.random.default_rng(seed)
    atoms = Atoms("OHH", POSITIONS + generator.normal(0.0, 0.02, (3, 3)))
    atoms.info["REF_energy"] = ENERGY + 0.01 * seed
    atoms.arrays["REF_forces"] = generator.normal(0.0, 0.5, (3, 3))
    atoms.info.update(info)
    return atoms


def write_frames(path: Path, frames: Sequence[Atoms]) -> Path:
    """Frames as a user writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(path, frames, format="extxyz")
    return path


def write_initial(folder: Path) -> InitialFiles:
    """Sets of two members, three frames and one, without models."""
    files = initial_files(folder / "data", folder / "model", NAMES)
    for index, (training, validation) in enumerate(
        zip(files.training, files.validation, strict=True)
    ):
        write_frames(training, [frame(10 * index + k) for k in range(3)])
        write_frames(validation, [frame(10 * index + 5)])
    return files
