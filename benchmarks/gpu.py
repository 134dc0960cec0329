"""What a GPU gains: training steps and forces, plain and recorded, beside the CPU's numbers.

    python benchmarks/gpu.py                        # one GPU, under 4 minutes
    python benchmarks/gpu.py --device cpu --quick   # shows that it works

Labels are those of ASE's EMT, whose numbers do not matter here.  Prints tables; a way that fails is
named with its reason, and the others go on.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import geometry_key
from fhi_al.models.devices import cuequivariance_problem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.models.training import whole_epoch
from fhi_al.settings.mace import MaceSettings

EXAMPLE = Path(__file__).parents[1] / "examples" / "ethanol"


@dataclass(frozen=True)
class Case:
    """A system and a model."""

    system: str
    n_channels: int
    max_L: int  # noqa: N815 (MACE's own name)
    dtype: str

    @property
    def title(self) -> str:
        return f"{self.system}, {self.n_channels} ch, L={self.max_L}, {self.dtype}"


CASES = (
    Case("ethanol", 32, 0, "float64"),
    Case("ethanol", 128, 1, "float64"),
    Case("ethanol", 128, 1, "float32"),
    Case("diamond", 128, 1, "float64"),
    Case("diamond", 128, 1, "float32"),
)
# Keys of MISC.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"cuda_graphs": "off"},
    "recorded": {"cuda_graphs": "auto"},
    "cueq": {"cuda_graphs": "auto", "enable_cueq": True},
}


def labels(system: str, n_labels: int) -> list[Label]:
    """Rattled structures of nine or 64 atoms."""
    random = np.random.default_rng(1)
    found = []
    for step in range(n_labels):
        atoms: Atoms = molecule("CH3CH2OH")
        if system == "diamond":
            atoms = bulk("C", "diamond", cubic=True) * (2, 2, 2)
        atoms.rattle(0.05, rng=random)
        atoms.calc = EMT()
        cell = np.array(atoms.cell)
        found.append(
            Label(
                key=geometry_key(0, atoms.positions, cell),
                system=0,
                numbers=atoms.numbers.copy(),
                positions=atoms.positions.copy(),
                cell=cell,
                pbc=bool(atoms.pbc.any()),
                energy=float(atoms.get_potential_energy()),
                forces=np.array(atoms.get_forces()),
                stress=None,
                origin=Origin("initial", 0, step),
            )
        )
    return found


def ensemble(
    case: Case, data: Sequence[Label], n_members: int, device: str, **misc: Any
) -> Ensemble:
    """Members that have their data and constants."""
    settings = MaceSettings.model_validate(
        {
            "general": {"default_dtype": case.dtype},
            "architecture": {"num_channels": case.n_channels, "max_L": case.max_L},
            "training": {"batch_size": 5, "ema": True},
            "misc": {"device": device, **misc},
        }
    )
    elements = {int(number) for number in data[0].numbers}
    made = Ensemble(settings, elements, range(1, n_members + 1))
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


def measured(case: Case, way: str, device: str, n_calls: int) -> list[str]:
    """Cells of one row."""
    if way == "cueq" and (absent := cuequivariance_problem(device)) is not None:
        return [case.title, way, absent.partition(".")[0], "", "", ""]
    n_systems = (8, 64) if case.system == "ethanol" else (1, 8)
    try:
        data = labels(case.system, max(n_systems))
        made = ensemble(case, data[:20], 4, device, **WAYS[way])
        member = made.members[0]
        n_steps = len(member.training) // 5
        for _ in range(2):
            whole_epoch(member)
        step = timed(lambda: whole_epoch(member), n_calls, device) / n_steps
        share = busy(lambda: whole_epoch(member), device)
        forces = []
        for n in n_systems:
            for _ in range(3):
                made.predict(data[:n])
            forces.append(timed(lambda n=n: made.predict(data[:n]), n_calls, device))  # type: ignore[misc]
    except Exception as error:  # the next way may do
        return [case.title, way, f"{type(error).__name__}: {str(error)[:80]}", "", "", ""]
    return [case.title, way, f"{step:.1f}", share, *(f"{each:.1f}" for each in forces)]


def naive(case: Case, device: str, n_calls: int) -> float:
    """Milliseconds of mean forces of four models by MACE's own calculators, for one structure."""
    from mace.calculators import MACECalculator

    data = labels(case.system, 5)
    made = ensemble(case, data, 4, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = made.export(Path(folder), "naive")
        calculators = [
            MACECalculator(model_paths=str(path), device=device, default_dtype=case.dtype)
            for path in paths
        ]
    atoms = Atoms(data[0].numbers, data[0].positions, cell=data[0].cell, pbc=data[0].pbc)

    def mean_forces() -> object:
        atoms.positions += 1e-4
        return np.mean([each.get_forces(atoms) for each in calculators], axis=0)

    for _ in range(3):
        mean_forces()
    return timed(mean_forces, n_calls, device)


def agreement(device: str) -> str:
    """Forces of the same weights on the CPU and on the device, plain and recorded."""
    data = labels("ethanol", 10)
    case = Case("ethanol", 32, 0, "float64")
    reference = ensemble(case, data, 1, "cpu")
    expected = reference.energies_and_forces(data[0])[1]
    found = []
    for way in ("plain", "recorded"):
        made = ensemble(case, data, 1, device, **WAYS[way])
        made.members[0].set_weights(reference.members[0].weights())
        forces = [made.energies_and_forces(data[0])[1] for _ in range(4)][
            -1
        ]  # the last two are replayed
        found.append(f"{way} {np.abs(forces - expected).max():.1e}")
    return f"forces beside those of the CPU, largest difference in eV/A: {', '.join(found)}"


def resume(device: str) -> str:
    """Weights of a run that goes on, and of one that goes on from its state."""
    data = labels("ethanol", 20)
    case = Case("ethanol", 32, 0, "float64")
    unbroken = ensemble(case, data, 1, device)
    for _ in range(3):
        whole_epoch(unbroken.members[0])
    resumed = ensemble(case, data, 1, device)
    resumed.load_state_bytes(unbroken.state_bytes())
    for made in (unbroken, resumed):
        for _ in range(3):
            whole_epoch(made.members[0])
    one, other = (dict(made.members[0].weights()["model"]) for made in (unbroken, resumed))
    pairs = [(one[name].double(), other[name].double()) for name in one if one[name].numel()]
    largest = max(float((a - b).abs().max()) for a, b in pairs)
    return f"a resumed training beside the unbroken one, largest difference of weights: {largest:g}"


def example(device: str) -> str:
    """Seconds of the ethanol example, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "ethanol"
        shutil.copytree(EXAMPLE, inputs)
        path = inputs / "mace_settings.yaml"
        values = yaml.safe_load(path.read_text())
        values.setdefault("MISC", {})["device"] = device
        path.write_text(yaml.safe_dump(values))
        before = time.perf_counter()
        command = [sys.executable, "-c", "from fhi_al.cli import main; main()", "--workdir"]
        done = subprocess.run([*command, str(inputs)], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - before
    if done.returncode:
        return f"the ethanol example failed: {(done.stdout + done.stderr)[-300:]}"
    return f"the ethanol example: {seconds:.0f} s"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="the smallest case alone, few calls")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    device, n_calls = options.device, 2 if options.quick else 10
    is_gpu = device.startswith("cuda")
    name = torch.cuda.get_device_name(device) if is_gpu else "CPU"
    print(f"{name}; torch {torch.__version__}")
    print("ms of: a training step (batch of 5), forces of 4 members for so many structures")
    row = "{:38} {:9} {:>8} {:>9} {:>14} {:>14}"
    print(row.format("", "way", "step", "GPU busy", "forces 8 or 1", "forces 64 or 8"))
    with torch_set_up(1):
        for case in CASES[: 1 if options.quick else None]:
            for way in WAYS if is_gpu else ("plain",):
                print(row.format(*measured(case, way, device, n_calls)), flush=True)
        print(f"four MACECalculators, one ethanol: {naive(CASES[0], device, n_calls):.1f} ms")
        for act in (agreement, resume):
            print(act(device), flush=True)
    if not options.quick:
        print(example(device))


if __name__ == "__main__":
    main()
