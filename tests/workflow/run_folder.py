"""Small run folders, and the commands started in them under a real mpirun."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from asi.harness import mpirun
from preloaded.launch import alive_file, preloaded, wait_until_dead

from fhi_al.report.status_file import Seen, look_at

TIMEOUT_S = 150.0
KILL_TIMEOUT_S = 30.0
FAULT_SITE = Path(__file__).parent / "fault_site"
# With these variables the ASI library ends its process.
DEADLY = {"ASI_ABORT_AT", "ASI_EXIT_AT", "ASI_SEGFAULT_AT"}
# Where programs find the tests' model backends; a folder beside them names them as entry points.
BACKENDS = Path(__file__).parents[1] / "backends"

WATER = """\
atom 0.0000 0.0000 0.1173 O
atom 0.0000 0.7572 -0.4692 H
atom 0.0000 -0.7572 -0.4692 H
"""
CONTROL = """\
# the user's own line, and one that no reader of ours knows
xc gfn2
many_body_dispersion_nl
sc_iter_limit 250
"""
SPECIES = {"01_H": "  species H\n    nucleus 1\n", "08_O": "  species O\n    nucleus 8\n"}

MACE: dict[str, Any] = {
    "GENERAL": {"name_exp": "water", "seed": 7, "default_dtype": "float64"},
    "ARCHITECTURE": {
        "model": "ScaleShiftMACE",
        "r_max": 3.0,
        "num_channels": 8,
        "max_L": 0,
        "max_ell": 2,
        "correlation": 2,
        "radial_MLP": [8, 8],
        "MLP_irreps": "8x0e",
    },
    "TRAINING": {
        "batch_size": 5,
        "lr": 0.02,
        "forces_weight": 1000.0,
        "ema": True,
        "scheduler_patience": 1,
    },
    "MISC": {"device": "cpu"},
}
ACTIVE_LEARNING: dict[str, Any] = {
    "ACTIVE_LEARNING": {
        "desired_acc": 0.02,
        # Not reached: the initial dataset takes both of its rounds.
        "lambda": 1.0,
        "ensemble_size": 2,
        "initial_sampling": "aimd",
        "n_samples": 5,
        "skip_step_initial": 4,
        "max_initial_epochs": 10,
        "intermediate_epochs": 5,
        # Both rounds, whatever the training brings, and every set as its member has it: see
        # test_label_budget.py for what the defaults do.
        "intermediate_gain": None,
        "initial_sets": "own",
        "sanity_action": "record",
        "final_sets": "own",
        # See test_final_test.py.
        "final_test": 0,
        "valid_ratio": 0.2,
        "valid_skip": 5,
        "num_trajectories": 2,
        "max_MD_steps": 40,
        "skip_step_mlff": 5,
        "max_epochs_worker": 5,
        "threshold_warmup": 3,
        # Members trained for ten epochs disagree by more than its default.
        "max_threshold": None,
        # And go where no label could be met at 300 K.
        "max_excess_energy": None,
        "analysis": True,
        "sanity_skip": 10,
        "converge_al": True,
        "converge_best": False,
        "max_final_epochs": 5,
        "patience": 5,
        # Other ranks that train import torch, too: seconds of each launch.
        "training_ranks": 1,
    },
    "MD": {"temperature": 300, "timestep": 0.5, "friction": 0.02, "seed": 3},
    # A second of each run: finished_run has one, see test_report.py.
    "MISC": {"snapshot_interval": 0, "report": False},
}

# Models of the backend in tests/backends/pair_potential.py.
PAIR_POTENTIAL: dict[str, Any] = {"r_max": 4.0, "num_functions": 8}

# Active learning and convergence long enough to be killed five times in each: more than a second
# with pair potentials.
LONG = {"max_MD_steps": 120, "max_final_epochs": 120, "patience": 120}
# An initial dataset of 33 labels; their order is that of the longer one.
SHORT = {"n_samples": 2, "max_initial_epochs": 2, "intermediate_epochs": 2}
# As little of everything as there can be.
SMALLEST = {
    "max_initial_epochs": 2,
    "intermediate_epochs": 2,
    "valid_skip": 2,
    "n_samples": 2,
    "max_MD_steps": 10,
    "max_epochs_worker": 2,
    "max_final_epochs": 2,
    "num_trajectories": 1,
    "analysis": False,
}


def write_inputs(
    folder: Path,
    *,
    asi_library: Path | None = None,
    mace: dict[str, dict[str, Any]] | None = None,
    active_learning: dict[str, Any] | None = None,
    geometry: str = WATER,
    models: str = "pair",
) -> Path:
    """A complete run folder: tblite, or the ASI library if its path is given.

    Parameters
    ----------
    models : {"pair", "mace"}
        Kind of the models.  A run with pair potentials takes half as long as one with small MACE
        models; a check, which builds none, is faster for MACE: that takes no torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    changed: dict[str, Any] = {key: dict(values) for key, values in ACTIVE_LEARNING.items()}
    engine: dict[str, Any] = {"reference_engine": "tblite", "reference_method": "GFN2-xTB"}
    if asi_library is not None:
        species = folder / "species"
        species.mkdir(exist_ok=True)
        for name, text in SPECIES.items():
            (species / f"{name}_default").write_text(text)
        engine = {"aims_lib_path": str(asi_library), "species_dir": "species"}
        (folder / "control.in").write_text(CONTROL)
    changed["ACTIVE_LEARNING"] |= engine
    for section, values in (active_learning or {}).items():
        before = changed.get(section, {})
        # Of several MD blocks each has what is the same in all.
        is_list = isinstance(values, list)
        changed[section] = [before | one for one in values] if is_list else before | values
    model_keys = {key: dict(values) for key, values in MACE.items()}
    if models != "mace":
        changed["ACTIVE_LEARNING"]["model_backend"] = models
        model_keys["ARCHITECTURE"] = dict(PAIR_POTENTIAL)
        model_keys["TRAINING"]["lr"] = 0.1
    for section, values in (mace or {}).items():
        model_keys[section] |= values
    (folder / "geometry.in").write_text(geometry)
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(model_keys))
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(changed))
    return folder


def start(
    folder: Path,
    ranks: int,
    *options: str,
    command: str = "FHI_AL",
    env: dict[str, str] | None = None,
    preload: bool = True,
) -> subprocess.Popen[str]:
    """Start a command under mpirun, as the leader of its own process group.

    With ``preload`` its ranks have imported the libraries before they start, see
    preloaded/launch.py; not so those that end within the engine: a process that has torch does
    not die as others do.
    """
    program = [str(Path(sys.executable).parent / command)]
    if preload and not DEADLY & set(env or {}):
        program = preloaded(program[0], mace=needs_mace(folder, *options))
    return launch([*program, "--workdir", str(folder), *options], ranks, env=env)


def launch(
    program: list[str],
    ranks: int,
    *,
    env: dict[str, str] | None = None,
    stderr: int = subprocess.STDOUT,
) -> subprocess.Popen[str]:
    """Start a program under mpirun, as the leader of its own process group."""
    alive = alive_file()
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": python_path(), **(env or {}), **alive}
    job = subprocess.Popen(
        [mpirun(), "-n", str(ranks), *program],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )
    _ALIVE[job.pid] = alive
    return job


# Of jobs by their process number: what says whether forked ranks are there.
_ALIVE: dict[int, dict[str, str]] = {}


def wait_for_forked_ranks(job: subprocess.Popen[str]) -> None:
    """Wait for the end of ranks whose clients have ended, if the job had any."""
    wait_until_dead(_ALIVE.pop(job.pid, {}), KILL_TIMEOUT_S)


def needs_mace(folder: Path, *options: str) -> bool:
    """Whether a run imports MACE."""
    settings = folder / "active_learning_settings.yaml"
    return (
        "--check" not in options
        and settings.exists()
        and b"model_backend" not in settings.read_bytes()
    )


def python_path(*folders: Path) -> str:
    """PYTHONPATH with folders and the tests' model backends."""
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join(filter(None, [*map(str, folders), str(BACKENDS), before]))


def fault_env(**values: object) -> dict[str, str]:
    """Environment in which fault_site/sitecustomize.py, which names its variables, is at work."""
    return {
        "PYTHONPATH": python_path(FAULT_SITE),
        **{name: str(value) for name, value in values.items()},
    }


def ranks_of(folder: Path) -> list[int]:
    """Process numbers of the ranks that work in a folder."""
    ranks = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"python" in words[0] and str(folder).encode() in words:
                ranks.append(int(process.name))
    return ranks


def rank_number(process: int) -> int:
    """MPI rank of a process that mpirun started."""
    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    (rank,) = (word[9:] for word in variables if word.startswith(b"PMI_RANK="))
    return int(rank)


def kill_all(job: subprocess.Popen[str]) -> str:
    """SIGKILL to mpirun, its proxy and every rank; the output, when none of them is left."""
    # The ranks first: mpirun's end would make their proxy ask rank 0 to stop.
    family = _descendants(job.pid)
    for process in reversed(family):
        _kill(process)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    output, _ = job.communicate(timeout=KILL_TIMEOUT_S)
    wait_until_gone(family)
    wait_for_forked_ranks(job)
    return output


def killed_status(folder: Path) -> Seen:
    """What is seen of a run that was killed, once its process is gone.

    A process closes its files, which others wait for, before it is.
    """
    wait_until_gone([look_at(folder, time.time()).content["pid"]])
    return look_at(folder, time.time())


def wait_until_gone(processes: list[int]) -> None:
    """Wait for processes to end; fail if they do not."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while alive := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            pytest.fail(f"processes {alive} are still there after {KILL_TIMEOUT_S:g} s")
        time.sleep(0.01)


def _descendants(process: int) -> list[int]:
    """A process, its children, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_for_labels(job: subprocess.Popen[str], folder: Path, n_labels: int) -> None:
    """Return when a run has stored so many labels; fail if it ends before."""
    store = folder / "restart" / "labels.jsonl"
    wait_until(
        job,
        lambda: store.exists() and store.read_bytes().count(b"\n") >= n_labels,
        f"{n_labels} labels",
    )


def wait_until(job: subprocess.Popen[str], happened: Callable[[], bool], what: str) -> None:
    """Return when something has happened; fail if the run ends before, or if it takes too long."""
    deadline = time.monotonic() + TIMEOUT_S
    while not happened():
        if job.poll() is not None:
            pytest.fail(f"the run ended before there were {what}:\n{finish(job)[1]}")
        if time.monotonic() > deadline:
            kill_all(job)
            pytest.fail(f"there never were {what}")
        time.sleep(0.005)


def progress(folder: Path) -> int:
    """Labels and journal entries on the disk."""
    files = [folder / "restart" / name for name in ("labels.jsonl", "journal.jsonl")]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def killed_at(folder: Path, moments: Iterable[int]) -> None:
    """Run on 1, 2, 3, 1, ... ranks until the :func:`progress` is so far, and kill, each time."""
    for n, moment in enumerate(moments):
        job = start(folder, 1 + n % 3)
        wait_until(job, lambda moment=moment: progress(folder) >= moment, f"{moment} lines")
        assert job.poll() is None, finish(job)[1]
        kill_all(job)


def wait_for_a_training_round(folder: Path, job: subprocess.Popen[str]) -> None:
    """Return when a run has saved its first training round of active learning."""
    deadline = time.monotonic() + TIMEOUT_S
    newest: Path | None = None
    while newest is None or snapshots(folder)[-1] == newest:
        if job.poll() is not None or time.monotonic() > deadline:
            kill_all(job)
            pytest.fail(f"{folder}: no training round in active learning was saved")
        with contextlib.suppress(OSError, ValueError):  # not there yet, or half a line
            training_rounds = [
                e for e in journal(folder, "ensemble") if e["phase"] == "active learning"
            ]
            if training_rounds and newest is None:
                newest = snapshots(folder)[-1]
        time.sleep(0.005)


def finish(job: subprocess.Popen[str], timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
    """Exit code and output; a job that hangs is killed and fails the test."""
    try:
        output, _ = job.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        output, _ = job.communicate()
        pytest.fail(f"the job hung for {timeout_s} s:\n{output}")
    wait_for_forked_ranks(job)
    return job.returncode, output


def run(
    folder: Path,
    ranks: int = 1,
    *options: str,
    command: str = "FHI_AL",
    timeout_s: float = TIMEOUT_S,
    env: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command to its end."""
    return finish(start(folder, ranks, *options, command=command, env=env), timeout_s)


def succeed(folder: Path, ranks: int = 1, *options: str, **how: Any) -> str:
    """Run a command that must succeed; its output."""
    code, output = run(folder, ranks, *options, **how)
    assert code == 0, output
    return output


def labels(folder: Path) -> list[dict[str, Any]]:
    """The records of the label store, in order."""
    lines = (folder / "restart" / "labels.jsonl").read_text().splitlines()
    return [json.loads(line)["label"] for line in lines]


def journal(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The journal's entries of a kind, in order."""
    lines = (folder / "restart" / "journal.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def in_flight(folder: Path) -> dict[str, list[int]]:
    """The structures under way when a run was killed, and the ranks that were at each."""
    calls = json.loads((folder / "restart" / "in_flight.json").read_text())
    return {call["key"]: call["ranks"] for call in calls}


def snapshots(folder: Path) -> list[Path]:
    """The run's snapshots, oldest first."""
    return sorted((folder / "restart").glob("snapshot-*"))


def final_weights(folder: Path) -> dict[str, str]:
    """Checksums of the members' weights, averages and optimizers in the last snapshot.

    Of the values, to the last bit, not of the files: pickle writes two equal strings as one or as
    two, depending on whether they are the same object.
    """
    import torch

    sums = {}
    for path in sorted(snapshots(folder)[-1].glob("member_*.pt")):
        digest = hashlib.sha256()
        for piece in _pieces(torch.load(path, weights_only=True)):
            digest.update(piece)
        sums[path.name] = digest.hexdigest()
    assert len(sums) >= 2
    return sums


def _pieces(value: Any) -> Iterator[bytes]:
    """Everything in a state, in order."""
    if isinstance(value, dict):
        value = [value.keys(), *value.values()]
    if isinstance(value, str | float | int | None):
        yield repr(value).encode()
    elif hasattr(value, "numpy"):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.numpy().tobytes()
    else:
        yield f"{len(value)} values".encode()
        for each in value:
            yield from _pieces(each)


def tables(folder: Path) -> dict[str, str]:
    """Content of every table in results/ and analysis/, by its path."""
    found = [path for part in ("results", "analysis") for path in (folder / part).glob("*.csv")]
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(found)}


def assert_same_end(folder: Path, unbroken: Path) -> None:
    """To the last bit: labels, losses and uncertainties, datasets, weights, tables."""
    assert datasets(folder) == datasets(unbroken)
    for file in ("labels.jsonl", "journal.jsonl"):
        contents = [(run / "restart" / file).read_bytes() for run in (folder, unbroken)]
        assert contents[0] == contents[1], f"{file} differs"
    assert final_weights(folder) == final_weights(unbroken)
    assert len(tables(unbroken)) >= 6
    assert tables(folder) == tables(unbroken)


def datasets(folder: Path) -> dict[str, str]:
    """Content of every exported dataset, by its path in data/."""
    data = folder / "data"
    return {str(path.relative_to(data)): path.read_text() for path in sorted(data.rglob("*.xyz"))}


def copy_of(folder: Path, target: Path) -> Path:
    """A copy of a run folder."""
    shutil.copytree(folder, target)
    return target
