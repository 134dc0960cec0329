"""Measure what stored structures take in memory, and what making batches of them costs.

    python benchmarks/stored_structures.py [--structures 200]

One row per crystal and cutoff: bytes of a label and of its neighbours as they are stored, of the
same in MACE's own graphs, what 10,000 such structures take in each process that trains, and the
time of the neighbour search (once per structure) and of a training batch of five.  Bytes are
counted, not sampled: another run gives the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from labels import label_of

from fhi_al.core.label import Label, Origin
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.settings.mace import MaceSettings

STORED = 10_000
BATCH = 5
# MACE's graph of a label in float64, per pair: two indices, a shift in A and in lattice vectors.
MACE_BYTES_PER_PAIR = 2 * 8 + 3 * 8 + 3 * 8


@dataclass(frozen=True)
class Case:
    """A system: its name, how it is made, and the cutoff in A."""

    name: str
    make: Callable[[], Atoms]
    r_max: float


CASES = (
    Case("ethanol, 9 atoms", lambda: molecule("CH3CH2OH"), 5.0),
    Case("copper, 108 atoms", lambda: bulk("Cu", cubic=True) * (3, 3, 3), 6.0),
    Case("MgO, 96 atoms", lambda: bulk("MgO", "rocksalt", a=4.2, cubic=True) * (3, 2, 2), 5.0),
    Case("diamond, 96 atoms", lambda: bulk("C", "diamond", cubic=True) * (3, 2, 2), 5.0),
    Case("diamond, 96 atoms", lambda: bulk("C", "diamond", cubic=True) * (3, 2, 2), 6.0),
    Case("diamond, 512 atoms", lambda: bulk("C", "diamond", cubic=True) * (4, 4, 4), 5.0),
)


def labels_of(case: Case, n_structures: int) -> list[Label]:
    """Distorted copies with random forces."""
    random = np.random.default_rng(1)
    found = []
    for step in range(n_structures):
        atoms = case.make()
        atoms.positions += random.normal(0, 0.05, atoms.positions.shape)
        forces = random.normal(size=atoms.positions.shape)
        found.append(label_of(atoms, 0.0, forces, Origin("active_learning", 0, step)))
    return found


def row(case: Case, n_structures: int) -> str:
    """The measurements of one system as a row of a table."""
    labels = labels_of(case, n_structures)
    settings = MaceSettings.model_validate({"architecture": {"r_max": case.r_max}})
    backend = MaceBackend(settings, tuple(set(labels[0].numbers.tolist())))
    constants = NormalisationConstants((0.0,) * len(backend.elements))
    started = time.process_time()
    graphs = [backend.label_sample(label) for label in labels]
    searched = time.process_time()
    for start in range(0, n_structures, BATCH):
        backend.training_batch(graphs[start : start + BATCH], constants)
    batched = time.process_time()
    arrays = ("numbers", "positions", "cell", "forces")
    label_bytes = sum(getattr(label, a).nbytes for label in labels for a in arrays) / n_structures
    graph_bytes = sum(graph.n_bytes for graph in graphs) / n_structures
    pairs = sum(graph.n_pairs for graph in graphs) / n_structures
    mace_bytes = MACE_BYTES_PER_PAIR * pairs
    cells = (
        case.name,
        f"{case.r_max:g}",
        f"{pairs / len(labels[0].numbers):.0f}",
        f"{label_bytes / 1e3:.1f}",
        f"{graph_bytes / 1e3:.1f}",
        f"{mace_bytes / 1e3:.0f}",
        f"{STORED * (label_bytes + graph_bytes) / 1e9:.2f}",
        f"{STORED * (label_bytes + mace_bytes) / 1e9:.2f}",
        f"{1e3 * (searched - started) / n_structures:.1f}",
        f"{1e3 * (batched - searched) / (n_structures / BATCH):.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--structures", type=int, default=200, help="of each system (default 200)")
    n_structures = parser.parse_args().structures
    heads = (
        *("system", "r_max (A)", "neighbours per atom", "label (kB)", "neighbours (kB)"),
        *("in MACE's graph (kB)", "10,000 (GB)", "with MACE's (GB)", "search (ms)"),
        f"batch of {BATCH} (ms)",
    )
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for case in CASES:
        print(row(case, n_structures), flush=True)


if __name__ == "__main__":
    main()
