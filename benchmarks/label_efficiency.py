"""Force errors against number of labels: this program, random frames of its MD, AIMD frames.

    python benchmarks/label_efficiency.py [--folder DIR] [--quick] [--systems ethanol diamond]
        [--seeds 0 1 2] [--half] [--report]

The program runs with the embedded tblite engine, once with ``md_forces: mean`` and once with
``member``.  What its first N labels are worth is compared with

* random: the same initial dataset, and for the rest random ones of the structures that the MD of
  the run with mean forces came to at its checks;
* AIMD: N frames of MD with the reference method from the start geometry, 10 steps apart (so 10 N
  calculations), and at the largest N also N successive steps (N calculations).

On each of these the same ensemble is trained from scratch by the program's own convergence with
its defaults (at most 300 epochs): only the data differ.  The test set is MD with the reference
method: five trajectories of other seeds, after they forgot their start.  Two processes of one
thread; every result is kept in the folder, so that a killed benchmark goes on, also seed by seed
(``--seeds``).  ``--half`` computes a part, which says whether 32 labels of the program are worth 64
random ones, and, if not, what the other halves are worth.
It writes label_efficiency.md and label_efficiency.png;
benchmarks/calibration.py reads the runs it keeps.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import selection_systems as systems
from ase.calculators.calculator import CalculationFailed
from report import grid, save
from selection_program import BASE, Selected, run_program, selected, write_run_folder
from selection_statistics import labels_to_reach, worst_errors
from selection_systems import SYSTEMS, System

from fhi_al.core.label import Label
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.storage.atomic_file import write_atomically

OURS, OTHER, RANDOM, AIMD, STEPS = "FHI_AL, mean", "FHI_AL, member", "random", "AIMD", "AIMD steps"
METHODS = (OURS, OTHER, RANDOM, AIMD)
# The threshold that all runs use, where nothing else is said.
CHANGED: dict[str, Any] = {
    "threshold_type": "quantile",
    "threshold_quantile": 0.9,
    "threshold_window": 100,
}
HOT = 1.5
AIMD_STRIDE = 10


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Parameters
    ----------
    seeds : tuple of int
    n_labels : tuple of int
        Ascending; the first is at least four for each member.
    n_members, n_compared : int
        Members in the program, and of the ensembles that are compared.
    n_batches : int or None
        Optimizer steps of each training; None: the program's convergence, with its defaults.
    max_epochs : int or None
        Of such a convergence, instead of the default.
    test : (int, int, int)
        Trajectories, frames of each, and steps between two.
    hot : (int, int)
        Trajectories and steps of the MD at 1.5 times the temperature.
    """

    seeds: tuple[int, ...]
    n_labels: tuple[int, ...]
    n_members: int
    n_compared: int
    n_batches: int | None
    max_epochs: int | None
    test: tuple[int, int, int]
    hot: tuple[int, int]


DEFAULT = Size((0, 1, 2), (16, 32, 64), 3, 2, None, 300, (5, 16, 25), (4, 5000))
QUICK = Size((0,), (10, 16), 2, 2, 40, None, (2, 5, 10), (2, 100))


def results_folder(folder: Path, size: Size, changed: dict[str, Any] | None = None) -> Path:
    """Where results are kept: those of another size or other settings are never mixed."""
    settings = BASE | CHANGED | (changed or {})
    return folder / hashlib.sha256(repr((size, settings)).encode()).hexdigest()[:8]


@cache
def test_set(folder: Path, system: System, size: Size) -> list[Label]:
    """Labelled frames of MD that nothing else has seen; computed once in each process."""
    file = folder / f"test_{system.name}.npy"
    n_trajectories, n_frames, stride = size.test
    if not file.exists():
        frames = []
        for seed in range(n_trajectories):
            frames += systems.reference_md(system, n_frames, stride, 900 + seed, n_before=400)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, _bytes(np.array(frames)))
    return systems.labelled(system, list(np.load(file)))


def _bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def run_of(
    folder: Path,
    system: System,
    seed: int,
    md_forces: str,
    size: Size,
    changed: dict[str, Any] | None = None,
) -> Selected:
    """A run of the program, finished now or before; `changed` differs from the others."""
    here = folder / f"run_{md_forces}"
    if not (here / "seconds.json").exists():
        shutil.rmtree(here, ignore_errors=True)
        settings = CHANGED | {"md_forces": md_forces} | (changed or {})
        write_run_folder(here, system, seed, size.n_members, max(size.n_labels), settings)
        run_program(here)
    found = selected(here)
    if len(found.labels) < max(size.n_labels):
        raise RuntimeError(f"{here}: {len(found.labels)} labels, wanted {max(size.n_labels)}")
    return found


def random_labels(system: System, ours: Selected, seed: int, n_labels: int) -> list[Label]:
    """The run's initial dataset and random structures that its MD came to.

    One whose calculation fails is left out, as the program does.
    """
    found = ours.labels[: ours.n_initial]
    for place in np.random.default_rng(seed).permutation(len(ours.visited)):
        if len(found) == n_labels:
            break
        with suppress(CalculationFailed):
            found += systems.labelled(system, [ours.visited[place]])
    return found


def judged(
    folder: Path,
    system: System,
    name: str,
    labels: list[Label],
    seed: int,
    size: Size,
    with_md: bool = True,
) -> None:
    """Train on labels; keep the errors (eV/A), and how long MD stays sane.

    Parameters
    ----------
    name : str
        Of the files in the folder.
    with_md : bool
        False: without that MD, which is else done with the fewest and the most labels.
    """
    file = folder / f"{name}_{len(labels)}.json"
    with_md = with_md and len(labels) in (min(size.n_labels), max(size.n_labels))
    if file.exists() and (not with_md or "sane_steps" in json.loads(file.read_text())):
        return
    test = test_set(folder.parent, system, size)
    ensemble: Ensemble = systems.trained(
        system, labels, size.n_compared, size.n_batches, seed, size.max_epochs
    )
    members = np.array([found.forces for found in ensemble.predict(test)])
    true = np.array([label.forces for label in test])
    errors = np.abs(members.mean(axis=1) - true)
    result: dict[str, Any] = {"mae": float(errors.mean()), "worst": worst_errors(errors)}
    if with_md:
        result["sane_steps"] = systems.sane_steps(
            system, ensemble, *size.hot, HOT * system.temperature
        )
    write_atomically(file, json.dumps(result).encode())
    print(f"{folder.name} {file.stem}: {result}", flush=True)


def one_seed(folder: Path, name: str, seed: int, size: Size) -> None:
    """All results of one system and seed that are not in the folder yet."""
    import torch

    torch.set_num_threads(1)
    system, here = SYSTEMS[name], folder / f"{name}_{seed}"
    most = max(size.n_labels)
    for method in (OURS, OTHER):
        ours = run_of(here, system, seed, method.split()[-1], size)
        for n in size.n_labels:
            judged(here, system, method, ours.labels[:n], seed, size)
        if method == OURS:
            drawn = random_labels(system, ours, seed, most)
            for n in size.n_labels:
                judged(here, system, RANDOM, drawn[:n], seed, size)
    frames = systems.reference_md(system, most, AIMD_STRIDE, 20_000 + seed)
    steps = systems.reference_md(system, most, 1, 20_000 + seed)
    for n in size.n_labels:
        judged(here, system, AIMD, systems.labelled(system, frames[:n]), seed, size)
    judged(here, system, STEPS, systems.labelled(system, steps), seed, size)


def half_of_one_seed(folder: Path, name: str, seed: int, size: Size) -> None:
    """The program and random labels, half of them and all, as far as not there yet."""
    import torch

    torch.set_num_threads(1)
    system, here = SYSTEMS[name], folder / f"{name}_{seed}"
    half, most = size.n_labels[-2:]
    ours = run_of(here, system, seed, OURS.split()[-1], size)
    drawn = random_labels(system, ours, seed, most)
    for method, labels in (
        (OURS, ours.labels[:half]),
        (RANDOM, drawn),
        (RANDOM, drawn[:half]),
        (OURS, ours.labels[:most]),
    ):
        judged(here, system, method, labels, seed, size, with_md=False)


def half_table(folder: Path, names: list[str], size: Size) -> list[str]:
    """Errors of the program's labels beside those of random ones, half and all, in Markdown."""
    half, most = size.n_labels[-2:]
    columns = [(OURS, half), (RANDOM, most), (RANDOM, half), (OURS, most)]
    titles = [f"{method}, {n}" for method, n in columns]
    lines = [
        f"| system, seed | {' | '.join(titles)} | first over second: MAE, worst 1 % |",
        "|---|---|---|---|---|---|",
    ]
    for name, seed in ((name, seed) for name in names for seed in size.seeds):
        here = folder / f"{name}_{seed}"
        files = [here / f"{method}_{n}.json" for method, n in columns]
        if not all(file.exists() for file in files[:2]):
            continue
        found = [json.loads(file.read_text()) for file in files if file.exists()]
        cells = [f"{1000 * one['mae']:.1f}, {1000 * one['worst']:.0f}" for one in found]
        cells += [""] * (len(files) - len(found))  # in the order in which they are computed
        ratios = [f"{found[0][key] / found[1][key]:.2f}" for key in ("mae", "worst")]
        lines.append(f"| {name}, {seed} | {' | '.join(cells)} | {', '.join(ratios)} |")
    return lines


def finished(folder: Path, system: str, size: Size, last: str = STEPS) -> list[int]:
    """Seeds whose results are all there, by the method whose results come last."""
    file = f"{last}_{max(size.n_labels)}.json"
    return [seed for seed in size.seeds if (folder / f"{system}_{seed}" / file).exists()]


def needed(
    n_labels: tuple[int, ...], mine: dict[int, list[dict[str, Any]]], other: list[dict[str, Any]]
) -> list[float]:
    """By seed, the labels with which one method reaches the mean error of another one."""
    return [
        labels_to_reach(n_labels, [mine[n][place]["mae"] for n in n_labels], result["mae"])
        for place, result in enumerate(other)
    ]


def collect(folder: Path, system: str, size: Size) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Results by method and number of labels, one of each finished seed."""

    def read(method: str, n: int) -> list[dict[str, Any]]:
        seeds = finished(folder, system, size)
        files = [folder / f"{system}_{seed}" / f"{method}_{n}.json" for seed in seeds]
        return [json.loads(file.read_text()) for file in files]

    found = {method: {n: read(method, n) for n in size.n_labels} for method in METHODS}
    return found | {STEPS: {max(size.n_labels): read(STEPS, max(size.n_labels))}}


def table(system: str, found: dict[str, dict[int, list[dict[str, Any]]]], size: Size) -> list[str]:
    """Errors, factors and stability of one system in Markdown."""
    n_seeds = len(found[OURS][size.n_labels[0]])
    lines = [f"### {system}, {n_seeds} seed(s)", ""]
    lines += ["| labels | " + " | ".join(f"{m}: MAE, worst 1 %" for m in METHODS) + " |"]
    lines += ["|---|" + "---|" * len(METHODS)]
    for n in size.n_labels:
        cells = [f"{spread(found[m][n], 'mae')}, {spread(found[m][n], 'worst')}" for m in METHODS]
        lines.append(f"| {n} | " + " | ".join(cells) + " |")
    most = max(size.n_labels)
    lines += [
        "",
        f"{most} successive AIMD steps: {spread(found[STEPS][most], 'mae')}, "
        f"{spread(found[STEPS][most], 'worst')}.  All in meV/A, mean ± standard deviation over "
        "seeds.",
        "",
        "| reference, labels | " + " | ".join(f"{m} needs" for m in (OURS, OTHER)) + " |",
        "|---|---|---|",
    ]
    for method in (RANDOM, AIMD):
        for n in size.n_labels[1:]:
            cells = [
                ", ".join(
                    words(value, size)
                    for value in needed(size.n_labels, found[mine], found[method][n])
                )
                for mine in (OURS, OTHER)
            ]
            lines.append(f"| {method}, {n} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"| labels | sane steps at {HOT} T (of {size.hot[1]}), mean, least |",
        "|---|---|",
    ]
    for n in (min(size.n_labels), most):
        for method in (*METHODS, *([STEPS] if n == most else [])):
            steps = [s for result in found[method][n] for s in result["sane_steps"]]
            lines.append(f"| {n}, {method} | {np.mean(steps):.0f}, {min(steps)} |")
    return lines


def words(n_needed: float, size: Size) -> str:
    """A number of labels: bounds where it was not reached, or by the first one already."""
    if np.isnan(n_needed):
        return f"> {max(size.n_labels)}"
    return f"≤ {n_needed:.0f}" if n_needed == min(size.n_labels) else f"{n_needed:.0f}"


def spread(results: list[dict[str, Any]], key: str) -> str:
    """Mean and standard deviation in meV/A."""
    values = 1000 * np.array([result[key] for result in results])
    return f"{values.mean():.0f} ± {values.std():.0f}"


def costs(folder: Path, names: list[str], size: Size) -> list[str]:
    """What the runs with mean forces and with one member's took."""
    lines = [
        "| run | wall time of active learning, s (by seed) | structures checked per label |",
        "|---|---|---|",
    ]
    for name in names:
        for method in (OURS, OTHER):
            runs = [
                selected(folder / f"{name}_{seed}" / f"run_{method.split()[-1]}")
                for seed in finished(folder, name, size)
            ]
            walls = ", ".join(f"{run.seconds['active learning']:.0f}" for run in runs)
            shares = ", ".join(
                f"{len(run.visited) / (len(run.labels) - run.n_initial):.1f}" for run in runs
            )
            lines.append(f"| {name}, {method} | {walls} | {shares} |")
    return lines


def distances(folder: Path, names: list[str], size: Size) -> list[str]:
    """How far labels lie from the test set: mean energy, and the largest force."""
    lines = [
        "| labels | energy above the test set, meV/atom (by seed) | largest force, eV/A |",
        "|---|---|---|",
    ]
    for name in names:
        system = SYSTEMS[name]
        at = np.mean([label.energy for label in test_set(folder, system, size)])
        chosen: dict[str, list[list[Label]]] = {}
        for seed in finished(folder, name, size):
            for method in (OURS, OTHER):
                run = selected(folder / f"{name}_{seed}" / f"run_{method.split()[-1]}")
                for first, last in pairwise((run.n_initial, *size.n_labels[1:])):
                    words = f"{name}, {method}, {first + 1} to {last}"
                    chosen.setdefault(words, []).append(run.labels[first:last])
                if method == OURS:
                    drawn = random_labels(system, run, seed, max(size.n_labels))[run.n_initial :]
                    chosen.setdefault(f"{name}, random", []).append(drawn)
        for words, sets in chosen.items():
            above = [np.mean([label.energy for label in some]) - at for some in sets]
            energies = ", ".join(f"{1000 * each / len(system.structure):.0f}" for each in above)
            most = [max(np.abs(label.forces).max() for label in some) for some in sets]
            lines.append(f"| {words} | {energies} | {', '.join(f'{each:.0f}' for each in most)} |")
    return lines


def figure(path: Path, results: dict[str, Any], size: Size) -> None:
    """Learning curves of all systems side by side."""
    made, axes = grid(2, len(results), 3)
    for column, (system, found) in enumerate(results.items()):
        for row, (key, label) in enumerate({"mae": "mean", "worst": "worst 1 %"}.items()):
            axis = axes[row][column]
            for method in METHODS:
                values = np.array([[r[key] for r in found[method][n]] for n in size.n_labels])
                axis.errorbar(
                    size.n_labels, values.mean(1), values.std(1), marker="o", label=method
                )
            axis.set(xscale="log", yscale="log", ylabel=f"force error, {label} (eV/Å)")
        axes[0][column].set_title(system)
        axes[1][column].set_xlabel("labels")
    axes[0][0].legend()
    save(made, path)


def processes() -> ProcessPoolExecutor:
    """Two processes, each with torch on one thread."""
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_set_up)


_PROCESS = ExitStack()  # ends with the process


def _set_up() -> None:
    _PROCESS.enter_context(torch_set_up(1))


def compute(
    folder: Path,
    names: list[str],
    seeds: list[int],
    size: Size,
    one: Callable[[Path, str, int, Size], None] = one_seed,
) -> None:
    """All results that are not there yet, one seed of all systems after the other."""
    with processes() as pool:
        # A job that needs a test set before it is there computes it, too: the same one.
        jobs: list[Future[Any]] = [
            pool.submit(test_set, folder, SYSTEMS[name], size) for name in names
        ]
        jobs += [pool.submit(one, folder, name, seed, size) for seed in seeds for name in names]
        for job in jobs:
            job.result()


def main() -> None:
    """Compute what is missing, then write the tables and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("label_efficiency"))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, nargs="+", help="of these only; all by default")
    parser.add_argument("--quick", action="store_true", help="one seed, tiny: some minutes")
    parser.add_argument("--half", action="store_true", help="half of ours against all random ones")
    parser.add_argument("--report", action="store_true", help="of finished seeds; compute nothing")
    given = parser.parse_args()
    size = QUICK if given.quick else DEFAULT
    folder = results_folder(given.folder, size)
    if not given.report:
        one = half_of_one_seed if given.half else one_seed
        compute(folder, given.systems, given.seeds or list(size.seeds), size, one)
    if given.half:
        text = "\n".join(half_table(folder, given.systems, size))
        (given.folder / "label_efficiency_half.md").write_text(text + "\n")
        print(text)
        return
    names = [name for name in given.systems if finished(folder, name, size)]
    results = {name: collect(folder, name, size) for name in names}
    lines = []
    for name, found in results.items():
        lines += [*table(name, found, size), ""]
    lines += [*costs(folder, names, size), "", *distances(folder, names, size)]
    (given.folder / "label_efficiency.md").write_text("\n".join(lines) + "\n")
    figure(given.folder / "label_efficiency.png", results, size)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
