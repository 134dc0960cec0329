"""Which rank does what, with how many threads, on which cores.  Pure: no MPI, no torch.

Rank 0 drives: MD, decisions, its share of the training.  The first ``training_ranks`` ranks train
and predict; with ``auto``, those that would do nothing otherwise.  Labels are computed by rank 0
and all that serve its engine (serial mode), or by groups of the ranks that do not train (parallel
mode).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# Small batches of small systems: more threads than these gained nothing (docs/scaling.md).
MOST_THREADS = 4
# In parallel mode one rank in four trains: a larger share delays labels that cost minutes, with a
# smaller one cheap labels wait for the training (simulated, docs/scaling.md).
RANKS_PER_TRAINING_RANK = 4

Ranks = tuple[int, ...]


class LayoutError(ValueError):
    """The settings ask for more ranks than there are.

    Parameters
    ----------
    key : str
        The setting to change, in ACTIVE_LEARNING.
    message : str
        What was expected.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class RankPlacement:
    """Where a rank runs.

    Parameters
    ----------
    host : str
    cores : tuple of int
        The cores its launcher lets it use.
    omp_threads : int or None
        OMP_NUM_THREADS as the user set it.
    gpus : tuple of str
        Names of the GPUs it sees, which are the same for all ranks of a host.
    """

    host: str
    cores: tuple[int, ...]
    omp_threads: int | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What each rank does.

    Parameters
    ----------
    n_ranks : int
    parallel : bool
        Labels are computed in the background.
    training : tuple of int
        Ranks that train members, rank 0 first.
    groups : tuple of tuple of int
        Parallel mode: ranks of each reference group; empty if no rank is left for one.
    labelling : tuple of int
        Ranks that label together with rank 0, or for it alone; empty with groups.
    """

    n_ranks: int
    parallel: bool
    training: Ranks
    groups: tuple[Ranks, ...]
    labelling: Ranks

    def roles(self, rank: int) -> str:
        """What a rank does, in words."""
        roles = ["drives, MD"] if rank == 0 else []
        if rank in self.training:
            roles.append("training")
        if rank in self.labelling:
            roles.append("labels")
        roles += [f"labels (group {k + 1})" for k, group in enumerate(self.groups) if rank in group]
        return ", ".join(roles) or "nothing"


def layout(
    n_ranks: int,
    *,
    parallel: bool,
    training_ranks: int | None,
    reference_groups: int | None,
    shared_engine: bool,
    elsewhere: bool = False,
    most_training: int = 1,
) -> Layout:
    """Assign the ranks.

    Parameters
    ----------
    n_ranks : int
    parallel : bool
        Labels in the background.
    training_ranks : int or None
        None: those that would do nothing otherwise; in parallel mode at least a quarter.
    reference_groups : int or None
        None: one for an engine that ranks share, else one for each rank.
    shared_engine : bool
        Several ranks can share a calculation (FHI-aims).
    elsewhere : bool
        Labels are computed by jobs outside of this one.
    most_training : int
        Ranks that train at most, where their number is not given.

    Raises
    ------
    LayoutError
        If there are not enough ranks.
    """
    if training_ranks is None:
        in_background = parallel and not elsewhere
        spare = _spare(n_ranks, reference_groups, shared_engine) if in_background else n_ranks
        training_ranks = max(1, min(spare, most_training))
    if training_ranks > n_ranks:
        raise LayoutError(
            "training_ranks",
            f"{training_ranks}, but there are {n_ranks} ranks: expected at most "
            "as many; start more (mpirun -n) or lower it",
        )
    training = tuple(range(training_ranks))
    if elsewhere:
        return Layout(n_ranks, parallel, training, (), ())
    if not parallel:
        labelling = tuple(range(n_ranks)) if shared_engine else (0,)
        return Layout(n_ranks, parallel, training, (), labelling)
    left = tuple(range(training_ranks, n_ranks))
    if not left:
        return Layout(n_ranks, parallel, training, (), (0,))
    n_groups = reference_groups or (1 if shared_engine else len(left))
    if n_groups > len(left):
        raise LayoutError(
            "reference_groups",
            f"{n_groups}, but {len(left)} of {n_ranks} ranks are left beside the "
            f"{training_ranks} that train: expected at least a rank for each group; start more "
            "(mpirun -n) or lower it",
        )
    groups = _assigned(left, n_groups) if shared_engine else tuple((r,) for r in left[:n_groups])
    return Layout(n_ranks, parallel, training, groups, ())


def _spare(n_ranks: int, reference_groups: int | None, shared_engine: bool) -> int:
    """How many ranks need not compute labels in the background."""
    if reference_groups is not None and not shared_engine:  # a rank for each
        return n_ranks - reference_groups
    return min(n_ranks // RANKS_PER_TRAINING_RANK, n_ranks - (reference_groups or 1))


def most_training_ranks(
    placements: Sequence[RankPlacement], n_members: int, threads: int, device: str
) -> int:
    """How many of the first ranks can train without sharing cores or a GPU.

    Parameters
    ----------
    placements : sequence of RankPlacement
        One per rank.
    n_members : int
        Of the ensemble: a rank without a member has nothing to train.
    threads : int
        Of each.
    device : str
        ``MISC.device``: on ``cpu`` each takes as many cores as it has threads, on ``cuda`` a GPU of
        its own; any other device there is once on a host.

    Returns
    -------
    int
        At least 1: rank 0 trains.
    """
    taken: Counter[str] = Counter()
    for rank, placement in enumerate(placements[:n_members]):
        taken[placement.host] += 1
        if rank > 0 and taken[placement.host] > _places(
            placement.host, placements, threads, device
        ):
            return rank
    return max(1, min(n_members, len(placements)))


def _places(host: str, placements: Sequence[RankPlacement], threads: int, device: str) -> int:
    if device == "cpu":
        return len(cores_of_host(host, placements)) // threads
    if device == "cuda":
        return len({gpu for each in placements if each.host == host for gpu in each.gpus})
    return 1


def _assigned(ranks: Ranks, n_groups: int) -> tuple[Ranks, ...]:
    """Neighbouring ranks together; the first groups get one more where it does not come out."""
    size, more = divmod(len(ranks), n_groups)
    bounds = [k * size + min(k, more) for k in range(n_groups + 1)]
    return tuple(ranks[a:b] for a, b in pairwise(bounds))


def training_threads(given: int | None, layout: Layout, placements: Sequence[RankPlacement]) -> int:
    """Threads of each rank that trains.

    Parameters
    ----------
    given : int or None
        MISC.num_threads, which decides where it is set; else OMP_NUM_THREADS does.
    layout : Layout
    placements : sequence of RankPlacement
        One per rank.

    Notes
    -----
    Without either, a serial run has one, so that its results do not depend on the machine; in
    parallel mode the cores of a host that no other rank computes on are shared among its training
    ranks, at most four each.
    """
    given = given or placements[0].omp_threads
    if given is not None:
        return given
    if not layout.parallel:
        return 1
    fewest = MOST_THREADS
    for rank in layout.training:
        here = [
            r for r, placement in enumerate(placements) if placement.host == placements[rank].host
        ]
        n_cores = len(cores_of_host(placements[rank].host, placements))
        labelling = sum(any(r in group for group in layout.groups) for r in here)
        training = sum(r in layout.training for r in here)
        fewest = min(fewest, max(1, (n_cores - labelling) // training))
    return fewest


def cores_of_host(host: str, placements: Sequence[RankPlacement]) -> tuple[int, ...]:
    """All cores of a host that any rank of this job may use."""
    return tuple(
        sorted(
            {core for placement in placements if placement.host == host for core in placement.cores}
        )
    )


def widened(
    placement: RankPlacement, n_threads: int, placements: Sequence[RankPlacement]
) -> tuple[int, ...] | None:
    """Cores to give a rank that its launcher has bound to fewer than its threads need.

    None if it has enough, or there are no more.
    """
    if len(placement.cores) >= n_threads:
        return None
    of_host = cores_of_host(placement.host, placements)
    return of_host if len(of_host) > len(placement.cores) else None


def table(
    layout: Layout, placements: Sequence[RankPlacement], threads: int, device: str
) -> list[str]:
    """The start-up table: a line per rank; equal neighbours share one."""
    lines: list[tuple[str, list[int]]] = []
    for rank, placement in enumerate(placements):
        trains = rank in layout.training
        description = (
            f"{layout.roles(rank)}; {threads if trains else 1} thread(s); host {placement.host}; "
            f"cores {ranges(placement.cores)}" + (f"; device {device}" if trains else "")
        )
        if lines and lines[-1][0] == description:
            lines[-1][1].append(rank)
        else:
            lines.append((description, [rank]))
    return [f"rank{'s' if len(ranks) > 1 else ''} {ranges(ranks)}: {text}" for text, ranks in lines]


def ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as 1-3,7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
