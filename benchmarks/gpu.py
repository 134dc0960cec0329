"""What a GPU gains: training steps, forces and MD, plain, recorded and with cuEquivariance.

    python benchmarks/gpu.py                        # one GPU
    python benchmarks/gpu.py --device cpu --quick   # shows that it works
        [--parts steps md members agreement resume example] [--ways plain recorded cueq]
        [--systems ethanol diamond]

Prints tables; a way that fails is named with its reason, and the others go on.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase import Atoms
from gpu_cases import CASES, QUICK, TINY, WAYS, Case, busy, ensemble, labels, timed, waited

from fhi_al.models.devices import cuequivariance_problem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.models.training import SerialTrainingPool, whole_epoch

EXAMPLE = Path(__file__).parents[1] / "examples" / "ethanol"
# The example in seconds: that it runs is all that is shown.
QUICK_EXAMPLE: dict[str, dict[str, Any]] = {
    "ACTIVE_LEARNING": {
        "ensemble_size": 2,
        "num_trajectories": 1,
        "n_samples": 2,
        "label_budget": 8,
        "max_initial_epochs": 2,
        "intermediate_epochs": 2,
        "valid_skip": 1,
        "max_MD_steps": 40,
        "max_final_epochs": 2,
    },
    "ARCHITECTURE": {**TINY, "num_channels": 2},
}
EPOCHS_OF_A_ROUND = 5  # with one validation, of one structure
SYSTEMS = tuple(dict.fromkeys(case.system for case in CASES))
MOST_CHARACTERS = 80  # of an error in a table


@dataclass(frozen=True)
class Asked:
    """What is measured, and how.

    Parameters
    ----------
    device : str
    cases : sequence of Case
    ways : sequence of str
        Keys of ``WAYS``.
    n_calls : int
        Of which times are medians.
    changes : dict
        Keys of the example, by section.
    """

    device: str
    cases: Sequence[Case]
    ways: Sequence[str]
    n_calls: int
    changes: dict[str, dict[str, Any]]


def failure(error: Exception) -> str:
    """What stands in a table in place of a number."""
    return f"{type(error).__name__}: {str(error)[:MOST_CHARACTERS]}"


def absent(way: str, device: str) -> str | None:
    """Why a way cannot be gone here."""
    problem = cuequivariance_problem(device) if WAYS[way].get("enable_cueq") is True else None
    return None if problem is None else problem.partition(".")[0]


def members(case: Case, way: str, device: str) -> Ensemble:
    """All members, trained as far as is needed for MD not to explode at once."""
    made = ensemble(
        case, labels(case.system, 20), device, range(1, case.n_members + 1), **WAYS[way]
    )
    for member in made.members:
        for _ in range(case.n_epochs):
            whole_epoch(member)
    return made


def measured(case: Case, way: str, device: str, n_calls: int) -> list[str]:
    """Cells of one row: a step of one member, and forces of all."""
    if (reason := absent(way, device)) is not None:
        return [case.title, way, reason, "", "", ""]
    try:
        data = labels(case.system, max(20, *case.n_systems))
        seeds = range(1, case.n_members + 1)
        made = ensemble(case, data[:20], device, seeds, **WAYS[way])
        member = made.members[0]
        n_steps = len(member.training) // 5
        for _ in range(2):
            whole_epoch(member)
        step = timed(lambda: whole_epoch(member), n_calls, device) / n_steps
        share = busy(lambda: whole_epoch(member), device)
        forces = []
        for n in case.n_systems:
            for _ in range(3):
                made.predict(data[:n])
            forces.append(timed(lambda n=n: made.predict(data[:n]), n_calls, device))  # type: ignore[misc]
    except Exception as error:  # the next way may do
        return [case.title, way, failure(error), "", "", ""]
    return [case.title, way, f"{step:.1f}", share, *(f"{each:.1f}" for each in forces)]


def md_steps(case: Case, way: str, device: str, naive_ms: float) -> list[str]:
    """Cells of one row: whole MD steps (integrator, checks, mean forces of all members)."""
    if (reason := absent(way, device)) is not None:
        return [case.title, way, reason, ""]
    import throughput

    cells = [case.title, way]
    try:
        made = members(case, way, device)
        for n in case.n_systems:
            trajectories = throughput.Trajectories(made, made, member=False, n_trajectories=n)
            trajectories.advance()  # records
            trajectories.begin_again()
            before = waited(device)
            trajectories.advance()
            step = 1e3 * (waited(device) - before) / throughput.BLOCK
            cells.append(f"{step:.1f} ({n * naive_ms / step:.0f} x)")
    except Exception as error:
        return [case.title, way, failure(error), ""]
    return cells


def together(case: Case, way: str, device: str, n_calls: int) -> str:
    """A line: an epoch of all members, one after the other and side by side."""
    if (reason := absent(way, device)) is not None:
        return f"{case.title}, {way}: {reason}"
    data = labels(case.system, 20)
    seeds = range(1, case.n_members + 1)
    made = ensemble(case, data, device, seeds, **WAYS[way])
    for member in made.members:
        member.add_validation(data[:1])
    pool = SerialTrainingPool(made, valid_skip=EPOCHS_OF_A_ROUND)

    def train(rounds: Sequence[Sequence[int]]) -> None:
        for members in rounds:
            pool.begin(members, EPOCHS_OF_A_ROUND).finish()

    everyone = range(case.n_members)
    orders: dict[str, list[Sequence[int]]] = {
        "one after the other": [[k] for k in everyone],
        "side by side": [everyone],
    }
    found = []
    for name, rounds in orders.items():
        train(rounds)  # records
        ms = timed(partial(train, rounds), n_calls, device) / EPOCHS_OF_A_ROUND
        found.append(f"{name} {ms:.1f}")
    return f"{case.title}, {way}, ms of an epoch of {case.n_members} members: {', '.join(found)}"


def naive(case: Case, device: str, n_calls: int) -> float:
    """Milliseconds of mean forces of all models by MACE's own calculators, for one structure."""
    from mace.calculators import MACECalculator

    data = labels(case.system, 5)
    made = ensemble(case, data, "cpu", range(1, case.n_members + 1))
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


def agreement(case: Case, device: str) -> str:
    """Forces of the same weights on the CPU and on the device, in all ways."""
    data = labels("ethanol", 10)
    reference = ensemble(case, data, "cpu", enable_cueq=False)
    expected = reference.energies_and_forces(data[0])[1]
    found = []
    for way in WAYS:
        if absent(way, device) is not None:
            continue
        made = ensemble(case, data, device, **WAYS[way])
        made.members[0].set_weights(reference.members[0].weights())
        # The last two are replayed.
        forces = [made.energies_and_forces(data[0])[1] for _ in range(4)][-1]
        found.append(f"{way} {np.abs(forces - expected).max():.1e}")
    return f"forces beside those of the CPU, largest difference in eV/A: {', '.join(found)}"


def resume(case: Case, device: str) -> str:
    """Weights of a run that goes on, and of one that goes on from its state."""
    data = labels("ethanol", 20)
    unbroken = ensemble(case, data, device)
    for _ in range(3):
        whole_epoch(unbroken.members[0])
    resumed = ensemble(case, data, device)
    resumed.load_state_bytes(unbroken.state_bytes())
    for made in (unbroken, resumed):
        for _ in range(3):
            whole_epoch(made.members[0])
    one, other = (dict(made.members[0].weights()["model"]) for made in (unbroken, resumed))
    pairs = [(one[name].double(), other[name].double()) for name in one if one[name].numel()]
    largest = max(float((a - b).abs().max()) for a, b in pairs)
    return f"a resumed training beside the unbroken one, largest difference of weights: {largest:g}"


def example(device: str, changes: dict[str, dict[str, Any]]) -> str:
    """Seconds of the ethanol example, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "ethanol"
        shutil.copytree(EXAMPLE, inputs)
        for name in ("mace_settings.yaml", "active_learning_settings.yaml"):
            values = yaml.safe_load((inputs / name).read_text())
            for section in values.keys() & changes.keys():
                values[section] |= changes[section]
            if name.startswith("mace"):
                values.setdefault("MISC", {})["device"] = device
            (inputs / name).write_text(yaml.safe_dump(values))
        before = time.perf_counter()
        command = [
            sys.executable,
            "-c",
            "from fhi_al.cli import main; raise SystemExit(main())",
            "--workdir",
        ]
        done = subprocess.run([*command, str(inputs)], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - before
    if done.returncode:
        return f"the ethanol example failed: {(done.stdout + done.stderr)[-300:]}"
    return f"the ethanol example: {seconds:.0f} s"


def steps_and_forces(asked: Asked) -> None:
    """A table of all cases and ways."""
    row = "{:38} {:10} {:>8} {:>9} {:>14} {:>14}"
    print("ms of: a training step (batch of 5), forces of all members for so many structures")
    print(row.format("", "way", "step", "GPU busy", "forces 8 or 1", "forces 64 or 8"))
    for case in asked.cases:
        for way in asked.ways:
            print(row.format(*measured(case, way, asked.device, asked.n_calls)), flush=True)


def whole_md_steps(asked: Asked) -> None:
    """A table of ways, beside the loop that a user would write."""
    case = asked.cases[0]
    naive_ms = naive(case, asked.device, asked.n_calls)
    print(f"{case.n_members} MACECalculators, one ethanol: {naive_ms:.1f} ms")
    print("ms of a whole MD step with mean forces, 8 and 64 trajectories (times that naive loop)")
    for way in asked.ways:
        cells = md_steps(case, way, asked.device, naive_ms)
        print("{:38} {:10} {:>18} {:>18}".format(*cells), flush=True)


def members_together(asked: Asked) -> None:
    """A line for each way, of the cases."""
    for case in asked.cases:
        for way in asked.ways:
            print(together(case, way, asked.device, asked.n_calls), flush=True)


PARTS: dict[str, Callable[[Asked], None]] = {
    "steps": steps_and_forces,
    "md": whole_md_steps,
    "members": members_together,
    "agreement": lambda a: print(agreement(a.cases[0], a.device)),
    "resume": lambda a: print(resume(a.cases[0], a.device)),
    "example": lambda a: print(example(a.device, a.changes)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--quick", action="store_true", help="a tiny model alone, few calls")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    cases = [case for case in CASES if case.system in given.systems]
    asked = Asked(given.device, cases, given.ways, 10, {})
    if given.quick:
        asked = Asked(given.device, (QUICK,), given.ways, 1, QUICK_EXAMPLE)
    is_gpu = given.device.startswith("cuda")
    name = torch.cuda.get_device_name(given.device) if is_gpu else "CPU"
    with torch_set_up(1):
        print(f"{name}; torch {torch.__version__}")
        for part in given.parts:
            PARTS[part](asked)


if __name__ == "__main__":
    main()
