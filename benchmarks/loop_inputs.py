"""What a simulation of the loop is given: durations, workload, layout; and how they are recorded.

Durations come from a JSON file; ``recorded`` makes one from the files of a finished run, and
``with_message_costs`` adds what ``message_costs.py --json`` measured.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Durations:
    """What things take, in seconds.

    Parameters
    ----------
    md_step_s : float
        One MD step of one trajectory.
    check_s : float
        The forces of all members on one structure.
    epoch_point_s : float
        One epoch of one member, per training point, its validation included.
    label_s : float
        Rank 0: take a label in, judge it, write it to the disk.
    send_s : float
        Rank 0: hand a structure to one rank of a group.
    state_s : float
        Rank 0: get one member's state back from another rank.
    nap_s : float
        Until a rank that sleeps notices a message.
    copy_s : float
        Rank 0, after each step of the loop: bookkeeping for one trajectory.
    dft_s, dft_log_sd : float
        One label in a group: median, and standard deviation of its logarithm.
    """

    md_step_s: float
    check_s: float
    epoch_point_s: float
    dft_s: float
    dft_log_sd: float = 0.0
    label_s: float = 0.0
    send_s: float = 0.0
    state_s: float = 0.0
    nap_s: float = 0.0
    copy_s: float = 0.0


@dataclass(frozen=True)
class Workload:
    """What the algorithm is asked to do; the names of the settings where there is one.

    Parameters
    ----------
    n_labels : int
        After which the run ends.
    uncertainty_log_sd : float
        Standard deviation of the logarithm of the uncertainties.  With 0 and a positive ``c_x``
        every check asks for a label.
    n_training : int
        Training points of a member at the start.
    grows : bool
        False: training goes on as if the set kept that size.
    asks_on : bool
        False: no more labels are asked for than ``n_labels``, as with ``max_set_size``.  True: the
        run is a piece of a longer one, and ends with labels under way.
    extra_rounds : int
        While all trajectories wait: training rounds after each new point, 0 for none.
    """

    num_trajectories: int
    n_labels: int
    ensemble_size: int = 3
    skip_step_mlff: int = 20
    intermediate_epochs: int = 5
    max_epochs_worker: int = 5
    valid_ratio: float = 0.2
    batch_size: int = 5
    c_x: float = -0.2
    threshold_warmup: int = 8
    max_md_steps: float = math.inf
    uncertainty_log_sd: float = 0.3
    n_training: int = 40
    grows: bool = True
    asks_on: bool = False
    extra_rounds: int = 0


@dataclass(frozen=True)
class Layout:
    """Which ranks there are.  Serial (``parallel`` False): one group of all ranks, in turns."""

    parallel: bool = True
    groups: int = 1
    ranks_per_group: int = 1
    training_ranks: int = 1

    def __post_init__(self) -> None:
        if not self.parallel and self.groups != 1:
            raise ValueError(f"serial mode has one group, not {self.groups}")

    @property
    def ranks(self) -> int:
        """Ranks in all."""
        labelling = self.groups * self.ranks_per_group
        return self.training_ranks + labelling if self.parallel else labelling


class NotRecorded(ValueError):
    """A file does not hold what a simulation needs."""


def read_recorded(path: Path) -> tuple[Durations, Workload]:
    """Durations and workload of a file that :func:`write_recorded` wrote, or of the same form.

    Raises
    ------
    NotRecorded
        If the file has other keys.
    """
    content = json.loads(path.read_text())
    try:
        return Durations(**content["durations"]), Workload(**content["workload"])
    except (KeyError, TypeError) as error:
        raise NotRecorded(
            f"{path}: {error}: expected the objects durations and workload with the fields of "
            "Durations and Workload. Record a run with --record, or fix the file."
        ) from error


def write_recorded(path: Path, about: str, durations: Durations, workload: Workload) -> None:
    """Write durations and workload with a line about where they are from."""
    work = asdict(workload)
    if math.isinf(workload.max_md_steps):  # which JSON cannot say
        del work["max_md_steps"]
    content = {"about": about, "durations": asdict(durations), "workload": work}
    path.write_text(json.dumps(content, indent=1) + "\n")


def recorded(folder: Path, before: Path | None = None) -> tuple[Durations, Workload]:
    """Durations and workload of a finished run, from its restart/ folder.

    Parameters
    ----------
    folder : Path
        The run's restart/.
    before : Path, optional
        A copy of restart/ from the end of the initial dataset, whose MD was another one.

    Raises
    ------
    NotRecorded
        If active learning has not got far enough.
    """
    settings, seconds = _newest(folder)
    entries = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    checks = [entry for entry in entries if entry["kind"] == "check"]
    trained = sum(entry["n_training"] for entry in entries if entry["kind"] == "epoch")
    n_labels = len((folder / "labels.jsonl").read_bytes().splitlines())
    if len(checks) < 2 or not trained:
        raise NotRecorded(f"{folder}: expected a run with active learning; run FHI_AL to its end")
    al = {
        key.split(".")[1]: value
        for key, value in settings.items()
        if key.startswith("ACTIVE_LEARNING.")
    }
    md_s = seconds["MD"] - (_newest(before)[1]["MD"] if before else 0.0)
    drivers = 1 if al["md_forces"] == "member" else al["ensemble_size"]
    # All of it is calls of the models: the driver's at each step, everybody's at a check.
    calls = len(checks) * (al["skip_step_mlff"] * drivers + al["ensemble_size"])
    durations = Durations(
        md_step_s=drivers * md_s / calls,
        check_s=al["ensemble_size"] * md_s / calls,
        epoch_point_s=seconds["training"] / trained,
        dft_s=seconds["DFT"] / max(1, n_labels),
    )
    named = ("ensemble_size", "skip_step_mlff", "intermediate_epochs", "max_epochs_worker")
    workload = Workload(
        num_trajectories=al["num_trajectories"],
        n_labels=sum(entry["kind"] == "crossing" for entry in entries),
        **{name: al[name] for name in (*named, "valid_ratio", "c_x", "threshold_warmup")},
        batch_size=settings["TRAINING.batch_size"],
        uncertainty_log_sd=statistics.pstdev(math.log(e["uncertainty"]) for e in checks),
        n_training=min(entry["n_training"] for entry in entries if _is_active(entry)),
    )
    return durations, workload


def _is_active(entry: dict[str, Any]) -> bool:
    return entry["kind"] == "epoch" and entry["phase"] == "active learning"


def _newest(restart: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Settings and seconds by activity, of the newest snapshot."""
    snapshots = sorted(restart.glob("snapshot-*/run.json"))
    if not snapshots:
        raise NotRecorded(f"{restart}: no snapshot; expected the restart/ folder of a run")
    content = json.loads(snapshots[-1].read_text())
    return content["settings"], content["state"]["seconds"]


def with_message_costs(durations: Durations, path: Path, n_atoms: int) -> Durations:
    """Durations with rank 0's small costs as ``message_costs.py --json`` measured them.

    Parameters
    ----------
    n_atoms : int
        One of the sizes measured.
    """
    content = json.loads(path.read_text())
    others = content["ranks"] - 1
    values = {(row["name"], row["size"]): row["value"] for row in content["rows"]}
    size = f"{n_atoms} atoms"
    return replace(
        durations,
        label_s=1e-3 * values["label store: append with fsync", size]
        + 1e-6 * values["name and judge", size]
        + 1e-3 * values["journal: one line, fsynced", ""],
        send_s=1e-3
        * values["tell, one rank after the other", f"{size}, {others} ranks"]
        / max(1, others),
        state_s=1e-3 * values["a member's state, asked for and back", "2 MB"],
        nap_s=0.01,  # fhi_al.parallel.mpi.LONGEST_SLEEP_S
        copy_s=1e-6 * values["copy trajectories, at each step of the loop", "1000 trajectories"],
    )
