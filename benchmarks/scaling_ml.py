"""How MD steps, training batches and bookkeeping grow with the size of the problem.

    python benchmarks/scaling_ml.py [--repeats 5] [--most_atoms 1000] [--folder DIR]

One thread, float64, members with 32 channels, L = 0 (their weights are arbitrary: the time does not
depend on them).  Time of one MD step of all trajectories, checks not included, against

* the atoms of a diamond crystal (r_max 4 A, one member, one trajectory),
* the number of trajectories of ethanol (one member),
* the number of members (eight trajectories of ethanol, mean forces),

and against the number of stored ethanol structures the time to take in one more label, to train on
a batch, and to write a snapshot.  The exponent is the slope of a straight line through
log(time) over log(size); 1 is linear.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase.build import bulk, molecule
from labels import label_of
from report import draw_scaling, machine

from fhi_al.active_learning.propagation import Dynamics, Propagation
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Structure, structure
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.labels.store import LabelStore
from fhi_al.md.conditions import MDConditions
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import random_stream
from fhi_al.md.system import MDSystem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.models.training import SerialTrainingPool
from fhi_al.settings.mace import MaceSettings

ATOMS = (8, 64, 216, 512, 1000)
TRAJECTORIES = (1, 2, 4, 8, 16, 32, 64)
MEMBERS = (1, 2, 4, 8)
STORED = (100, 1000, 10_000)
STEPS = 4


def members(n_members: int, elements: Sequence[int], r_max: float) -> Ensemble:
    """Members with arbitrary weights, and forces small enough for MD."""
    settings = MaceSettings.model_validate(
        {
            "general": {"default_dtype": "float64"},
            "architecture": {"num_channels": 32, "max_L": 0, "r_max": r_max},
            "training": {"batch_size": 5, "ema": True},
            "misc": {"num_threads": 1},
        }
    )
    made = Ensemble(settings, elements, range(n_members))
    for member in made.members:
        member.add_training([distorted(0), distorted(1)])
        member.fit_normalisation()
    return made


def distorted(seed: int) -> Label:
    """An ethanol molecule with made-up energy and forces."""
    random = np.random.default_rng(seed)
    atoms = molecule("CH3CH2OH")
    atoms.positions += random.normal(0, 0.05, atoms.positions.shape)
    energy = -300.0 + random.normal(0, 0.1)
    forces = random.normal(0, 0.01, atoms.positions.shape)
    return label_of(atoms, energy, forces, Origin("initial", 0, seed))


def step_of(ensemble: Ensemble, system: Structure, n_trajectories: int) -> Callable[[], None]:
    """A function that moves trajectories by STEPS steps."""
    conditions = MDConditions("Langevin", 10.0, 0.1, 0.01, 100.0, 0.01, 1)
    md_system = MDSystem(system, conditions, GeometryLimits())
    live = [LiveTrajectory.start(md_system, random_stream(1, k)) for k in range(n_trajectories)]
    propagation = Propagation(Dynamics((system,), lambda system, md: md_system, ensemble))
    states = [TrajectoryState(k) for k in range(n_trajectories)]

    def act() -> None:
        # Explosions of arbitrary models do not matter: every trajectory starts anew.
        for trajectory in live:
            trajectory.point = trajectory.restart_point
        propagation.advance(states, live, [STEPS] * n_trajectories, None)

    return act


def timed(act: Callable[[], None], repeats: int) -> list[float]:
    """Seconds of each call, after one that is not counted."""
    act()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        found.append(time.perf_counter() - started)
    return found


def diamond(n_atoms: int) -> Structure:
    """A cube of diamond."""
    edge = round((n_atoms / 8) ** (1 / 3))
    atoms = bulk("C", cubic=True) * (edge, edge, edge)
    return structure(atoms.numbers, atoms.positions, np.array(atoms.cell))


def md_scaling(repeats: int, most_atoms: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of an MD step: by what grows, by its size."""
    found: dict[str, dict[int, list[float]]] = {}
    carbon = Ensemble(
        MaceSettings.model_validate(
            {
                "general": {"default_dtype": "float64"},
                "architecture": {"num_channels": 32, "max_L": 0, "r_max": 4.0},
                "misc": {"num_threads": 1},
            }
        ),
        (6,),
        (1,),
    )
    per_step = STEPS + 1  # the forces at the start, too
    found["atoms"] = {
        n: [s / per_step for s in timed(step_of(carbon, diamond(n), 1), repeats)]
        for n in ATOMS
        if n <= most_atoms
    }
    atoms = molecule("CH3CH2OH")
    ethanol = structure(atoms.numbers, atoms.positions)
    one = members(1, (1, 6, 8), 5.0)
    found["trajectories"] = {
        n: [s / per_step for s in timed(step_of(one, ethanol, n), repeats)] for n in TRAJECTORIES
    }
    found["members"] = {
        n: [s / per_step for s in timed(step_of(members(n, (1, 6, 8), 5.0), ethanol, 8), repeats)]
        for n in MEMBERS
    }
    return found


def stored_scaling(repeats: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of what is done for each label, each batch and each snapshot."""
    found: dict[str, dict[int, list[float]]] = {"label": {}, "batch": {}, "snapshot": {}}
    n_batches = 10
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(Path(folder) / "labels.jsonl")
        ensemble = members(1, (1, 6, 8), 5.0)
        member = ensemble.members[0]
        seed = 10
        for n in STORED:
            some = [distorted(seed + k) for k in range(n - len(member.training))]
            seed += len(some)
            for label in some:
                store.append(label)
            member.add_training(some)
            more = iter([distorted(seed + k) for k in range(repeats + 1)])
            seed += repeats + 1
            found["label"][n] = timed(lambda more=more: store.append(next(more)), repeats)  # type: ignore[misc]
            pool = SerialTrainingPool(ensemble, 10**9)

            def batches(pool: SerialTrainingPool = pool) -> None:
                training_round = pool.begin([0], 1)
                for _ in range(n_batches):
                    training_round.advance()
                training_round.give_up()
                member.end_round()

            found["batch"][n] = [s / n_batches for s in timed(batches, repeats)]

            def state(ensemble: Ensemble = ensemble) -> None:
                ensemble.state_bytes()

            found["snapshot"][n] = timed(state, repeats)
    return found


def exponent(seconds: dict[int, list[float]]) -> float:
    """Slope of log(median time) over log(size)."""
    sizes = np.log(list(seconds))
    times = np.log([statistics.median(values) for values in seconds.values()])
    return float(np.polyfit(sizes, times, 1)[0])


def table(found: dict[str, dict[int, list[float]]]) -> list[str]:
    """Medians and exponents in Markdown."""
    lines = ["| against | ms, median [least, most], by size | exponent |", "|---|---|---|"]
    for name, seconds in found.items():
        cells = "; ".join(
            f"{n}: {1e3 * statistics.median(v):.3g} [{1e3 * min(v):.3g}, {1e3 * max(v):.3g}]"
            for n, v in seconds.items()
        )
        lines.append(f"| {name} | {cells} | {exponent(seconds):.2f} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most_atoms", type=int, default=max(ATOMS))
    parser.add_argument("--folder", type=Path, help="for the table and the figure")
    given = parser.parse_args()
    with torch_set_up(1):
        found = md_scaling(given.repeats, given.most_atoms)
        stored = stored_scaling(given.repeats)
    found |= {f"stored structures: {name}": seconds for name, seconds in stored.items()}
    lines = table(found)
    print("\n".join([*lines, "", machine()]))
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        (given.folder / "scaling_ml.md").write_text("\n".join([*lines, "", machine()]) + "\n")
        draw_scaling(given.folder / "scaling_ml.png", found)


if __name__ == "__main__":
    main()
