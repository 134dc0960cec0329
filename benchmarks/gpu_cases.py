"""Systems, models and clocks of the benchmark on a GPU.

Labels are those of GFN2-xTB (ethanol) and of ASE's EMT, whose numbers do not matter (diamond).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ethanol import ethanol_labels
from labels import label_of

from fhi_al.core.label import Label, Origin
from fhi_al.models.ensemble import Ensemble
from fhi_al.settings.mace import MaceSettings


@dataclass(frozen=True)
class Case:
    """A system and models of it."""

    system: str
    n_channels: int
    max_L: int  # noqa: N815 (MACE's own name)
    dtype: str
    n_members: int = 4
    n_systems: tuple[int, int] = (8, 64)  # of which forces are computed at once
    n_epochs: int = 10  # before MD: so that 12 fs come to no harm
    architecture: Mapping[str, Any] = field(default_factory=dict)  # besides

    @property
    def title(self) -> str:
        return f"{self.system}, {self.n_channels} ch, L={self.max_L}, {self.dtype}"


CASES = (
    Case("ethanol", 32, 0, "float64"),
    Case("ethanol", 128, 1, "float64"),
    Case("ethanol", 128, 1, "float32"),
    Case("diamond", 128, 1, "float64", n_systems=(1, 8)),
    Case("diamond", 128, 1, "float32", n_systems=(1, 8)),
)
# Shows that everything works; of no use as a measurement.
TINY = {"max_ell": 1, "correlation": 2, "num_interactions": 1, "r_max": 3.0, "radial_MLP": [4]}
QUICK = Case(
    "ethanol",
    2,
    0,
    "float64",
    n_members=2,
    n_systems=(1, 2),
    n_epochs=2,
    architecture={**TINY, "MLP_irreps": "2x0e"},
)
# Keys of MISC.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"cuda_graphs": "off", "enable_cueq": False},
    "recorded": {"cuda_graphs": "auto", "enable_cueq": False},
    "cueq plain": {"cuda_graphs": "off", "enable_cueq": True},
    "cueq": {"cuda_graphs": "auto", "enable_cueq": True},
    "auto": {},
}


def labels(system: str, n_labels: int) -> list[Label]:
    """Rattled structures of nine or 64 atoms; the first ones are always the same."""
    return _labels(system, max(n_labels, 20))[:n_labels]


@functools.cache
def _labels(system: str, n_labels: int) -> list[Label]:
    if system == "ethanol":
        return ethanol_labels(n_labels)
    random = np.random.default_rng(1)
    found = []
    for step in range(n_labels):
        atoms: Atoms = bulk("C", "diamond", cubic=True) * (2, 2, 2)
        atoms.rattle(0.05, rng=random)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        found.append(label_of(atoms, energy, forces, Origin("initial", 0, step)))
    return found


def ensemble(
    case: Case, data: Sequence[Label], device: str, seeds: Sequence[int] = (1,), **misc: Any
) -> Ensemble:
    """Members that have their data and constants."""
    settings = MaceSettings.model_validate(
        {
            "general": {"default_dtype": case.dtype},
            "architecture": {
                "num_channels": case.n_channels,
                "max_L": case.max_L,
                **case.architecture,
            },
            "training": {"batch_size": 5, "ema": True},
            "misc": {"device": device, **misc},
        }
    )
    elements = {int(number) for number in data[0].numbers}
    made = Ensemble(settings, elements, seeds)
    for member in made.members:
        member.add_training(data)
        member.fit_normalisation()
    return made


def waited(device: str) -> float:
    """The time when the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(act: Callable[[], object], n_calls: int, device: str) -> float:
    """Median milliseconds of a call."""
    found = []
    for _ in range(n_calls):
        before = waited(device)
        act()
        found.append(1e3 * (waited(device) - before))
    return float(np.median(found))


def busy(act: Callable[[], object], device: str) -> str:
    """Share of the time in which the GPU computes; kernels of one stream do not overlap."""
    if not device.startswith("cuda"):
        return "-"
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        before = waited(device)
        act()
        seconds = waited(device) - before
    kernels = [e for e in found.events() if "CUDA" in str(e.device_type)]
    return f"{100 * sum(e.device_time for e in kernels) / 1e6 / seconds:.0f} %"
