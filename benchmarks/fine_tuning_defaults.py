"""Ways of fine-tuning and of making members differ, on the same labels: where defaults come from.

    python benchmarks/fine_tuning_defaults.py [--folder DIR] [--system ethanol] [--seeds 1 2 3]
        [--labels 16] [--epochs 100] [--only PART ...] [--report]

Four members train on labels of the reference method's MD at 500 K, a given number of epochs, and
are judged on 200 structures of other MD, at 500 K and at 1000 K, and on structures that the
foundation model knew (fine_tuning_runs.py), other ones than those that are replayed.  There is no
active learning: what is compared has the same labels.  Each result is kept, so that a killed
benchmark goes on.  Writes fine_tuning_defaults.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read, write
from fine_tuning_runs import FOUNDATION, SYSTEMS, WEIGHTS, Size, judged, small_foundation, test_sets
from label_sets import kept_by_seed
from scipy.stats import spearmanr
from selection_systems import System, labelled, sampled

from fhi_al.core.label import Label
from fhi_al.core.split import bootstrap_count, validates
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.runtime_model import to_mace_model
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.settings.mace import MaceSettings
from fhi_al.storage.atomic_file import write_atomically

N_MEMBERS = 4
KNOWN = FOUNDATION / "known_structures.xyz"
POOL = (64, 40, 500)  # frames, steps between two, steps before
VALID_RATIO = 0.15


@dataclass(frozen=True)
class Option:
    """One way to fine-tune.

    Parameters
    ----------
    training : dict
        Keys of TRAINING that are not the default.
    sets : {"shared", "bootstrap", "own"}
        See ``ACTIVE_LEARNING.initial_sets``.
    fine_tuned : bool
        False: from random weights.
    """

    training: dict[str, Any] = field(default_factory=dict)
    sets: str = "shared"
    fine_tuned: bool = True


REPLAY = {"fine_tuning": "replay"}  # of every other structure that the foundation model knew
OPTIONS = {
    "naive": Option(),
    "lr 0.001": Option({"lr": 0.001}),
    "lr 0.02": Option({"lr": 0.02}),
    "frozen (6)": Option({"fine_tuning": "frozen"}),
    "frozen (5)": Option({"fine_tuning": "frozen", "freeze": 5}),
    "frozen (1)": Option({"fine_tuning": "frozen", "freeze": 1}),
    "lora": Option({"fine_tuning": "lora"}),
    "replay": Option(REPLAY),
    "readouts kept": Option({"readouts": "kept"}),
    "readouts kept, bootstrap": Option({"readouts": "kept"}, "bootstrap"),
    "readouts kept, own": Option({"readouts": "kept"}, "own"),
    "readouts kept, lora": Option({"readouts": "kept", "fine_tuning": "lora"}),
    "readout_noise 0.3": Option({"readout_noise": 0.3}),
    "readouts reinitialised": Option({"readouts": "reinitialised"}),
    "bootstrap": Option(sets="bootstrap"),
    "own": Option(sets="own"),
    "from scratch, lr 0.01": Option({"lr": 0.01}, fine_tuned=False),
}
BASE = {"batch_size": 5, "lr": 0.005}


def trained_on(member: int, labels: list[Label], sets: str) -> list[Label]:
    """A member's training set, as the program would have it."""
    if sets == "own":
        return labels[member::N_MEMBERS]
    left = [k for k in range(len(labels)) if not validates(member, k, VALID_RATIO)]
    counts = {k: bootstrap_count(member, k) if sets == "bootstrap" else 1 for k in left}
    return [labels[k] for k in left for _ in range(counts[k])]


def result_of(
    option: Option, folder: Path, name: str, n_labels: int, epochs: int, seed: int
) -> dict[str, Any]:
    """Errors and spread of an ensemble that was trained one way; ``cpu`` seconds of training."""
    system = SYSTEMS[name]
    pool = frames_of(folder, system, seed)
    # Evenly spread over the trajectory.
    labels = labelled(system, [pool[k * len(pool) // n_labels] for k in range(n_labels)])
    architecture: dict[str, Any] = dict(small_foundation().architecture)
    if option.fine_tuned:
        architecture |= {"foundation_model": str(WEIGHTS)}
    settings = MaceSettings.model_validate(
        {
            "GENERAL": {"default_dtype": "float32"},
            "ARCHITECTURE": architecture,
            "TRAINING": BASE | option.training | {"replay_file": str(replayed_in(folder))},
        }
    )
    elements = sorted({int(z) for z in labels[0].numbers})
    ensemble = Ensemble(settings, elements, [1000 * seed + k for k in range(N_MEMBERS)])
    for member in ensemble.members:
        member.add_training(trained_on(member.index, labels, option.sets))
        member.build()
    begun = time.process_time()
    for member in ensemble.members:
        member.fit_normalisation()
        for _ in range(epochs):
            for _ in member.train_epoch():
                pass
        member.fit_atomic_energies()
    seconds = time.process_time() - begun
    trained: list[Any] = [one.inference_model for one in ensemble.members]
    models = [to_mace_model(one.module, one.normalisation.atomic_energies) for one in trained]
    sets = test_sets(folder, system, Size().test)
    # Those that are not replayed.
    return {"cpu": seconds, **judged(models, {**sets, "known": sets["known"][1::2]})}


def frames_of(folder: Path, system: System, seed: int) -> list[Any]:
    """Structures of MD with the reference method, positions in A."""
    file = folder / f"pool_{system.name}_{seed}.json"
    if not file.exists():
        n_frames, stride, n_before = POOL
        md, reference = system.md(system.temperature), system.reference()
        frames = sampled(md, reference, n_frames, stride, seed, n_before)
        write_atomically(file, json.dumps([frame.tolist() for frame in frames]).encode())
    return [np.array(frame) for frame in json.loads(file.read_text())]


def replayed_in(folder: Path) -> Path:
    """The file of the structures that are replayed; the others are judged on."""
    path = folder / "replayed.xyz"
    if not path.exists():
        write(path, read(KNOWN, index="::2"))
    return path


def spread(values: list[float], digits: int = 1) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def row(name: str, found: dict[int, dict[str, Any]]) -> str:
    """One line of the table, in Markdown."""
    runs = list(found.values())
    cells = [spread([1000 * one[key]["mae"] for one in runs]) for key in ("test", "hot", "known")]
    both = [[*one["test"]["pairs"], *one["hot"]["pairs"]] for one in runs]
    for pairs in ([one["test"]["pairs"] for one in runs], both):
        cells.append(spread([float(spearmanr(*np.array(each).T)[0]) for each in pairs], 2))
    ratios = [np.mean([s for s, _ in each]) / np.mean([e for _, e in each]) for each in both]
    cells += [spread(ratios, 2), f"{np.mean([one['cpu'] for one in runs]):.0f}"]
    return f"| {name} ({len(runs)}) | {' | '.join(cells)} |"


def main() -> None:
    """Compute what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("fine_tuning_defaults"))
    parser.add_argument("--system", choices=SYSTEMS, default="ethanol")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--labels", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"### {given.system}, {given.labels} labels, {given.epochs} epochs",
        "",
        "| changed (seeds) | force MAE at 500 K, meV/A | at 1000 K | on what the foundation model"
        " knew | Spearman of spread and error at 500 K | at both | spread / error | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seed in given.seeds:
        for name in given.only:
            option = OPTIONS[name]

            def compute(seed: int, option: Option = option) -> dict[str, Any]:
                return result_of(
                    option, given.folder, given.system, given.labels, given.epochs, seed
                )

            place = given.folder / f"{given.system}_{given.labels}_{given.epochs}" / name
            kept_by_seed(place, [seed], None if given.report else compute, _in_short)
    for name in given.only:
        place = given.folder / f"{given.system}_{given.labels}_{given.epochs}" / name
        found = kept_by_seed(place, given.seeds, None)
        lines += [row(name, found)] if found else []
    (given.folder / "fine_tuning_defaults.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _in_short(result: dict[str, Any]) -> str:
    return f"{1000 * result['test']['mae']:.1f} meV/A, {result['cpu']:.0f} CPU s"


if __name__ == "__main__":
    with torch_set_up(1):
        main()
