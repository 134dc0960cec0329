"""Which rank does what.  Pure: no MPI, no torch.

Rank 0 drives: MD, decisions, its share of the training.  The first ``training_ranks`` ranks train
and predict; with ``auto``, those that would do nothing otherwise.  Labels are computed by rank 0
and all that serve its engine (serial mode), or by groups of the ranks that do not train (parallel
mode).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

# In parallel mode one rank in four trains: a larger share delays labels that cost minutes, with a
# smaller one cheap labels wait for the training (simulated, docs/explanation/scaling.md).
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
    only_system : tuple of int
        The one system that each group computes; empty where all compute any.
    """

    n_ranks: int
    parallel: bool
    training: Ranks
    groups: tuple[Ranks, ...]
    labelling: Ranks
    only_system: tuple[int, ...] = ()

    def roles(self, rank: int, systems: Sequence[str] = ()) -> str:
        """What a rank does, in words.

        Parameters
        ----------
        rank : int
        systems : sequence of str
            Their names.
        """
        roles = ["drives, MD"] if rank == 0 else []
        if rank in self.training:
            roles.append("training")
        return ", ".join([*roles, *self._labels(rank, systems)]) or "nothing"

    def roles_for_labels(self, rank: int) -> str:
        """What a rank does, in words, where nobody trains and labels are all there is."""
        roles = ["drives"] if rank == 0 else []
        return ", ".join([*roles, *self._labels(rank)]) or "nothing"

    def _labels(self, rank: int, systems: Sequence[str] = ()) -> Iterator[str]:
        if rank in self.labelling:
            yield "labels"
        for number, group in enumerate(self.groups):
            if rank in group:
                yield self._of_group(number, systems)

    def _of_group(self, number: int, systems: Sequence[str]) -> str:
        of_system = ""
        if self.only_system and systems:
            of_system = f" of {systems[self.only_system[number]]}"
        return f"labels{of_system} (group {number + 1})"


def layout(
    n_ranks: int,
    *,
    parallel: bool,
    training_ranks: int | None,
    reference_groups: int | None,
    shared_engine: bool,
    elsewhere: bool = False,
    most_training: int = 1,
    systems_apart: int = 1,
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
        None: one for an engine that ranks share, of each system that is apart; else one for each
        rank.
    shared_engine : bool
        Several ranks can share a calculation (FHI-aims).
    elsewhere : bool
        Labels are computed by jobs outside of this one.
    most_training : int
        Ranks that train at most, where their number is not given.
    systems_apart : int
        Systems each of which needs a group of its own: groups compute them in turn.

    Raises
    ------
    LayoutError
        If there are not enough ranks.
    """
    if training_ranks is None:
        in_background = parallel and not elsewhere
        fewest = reference_groups or systems_apart
        spare = n_ranks
        if in_background:
            spare = _spare(n_ranks, reference_groups, fewest, shared_engine)
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
    if systems_apart > 1:
        _require_groups(n_ranks - training_ranks, parallel, reference_groups, systems_apart)
    if not parallel:
        labelling = tuple(range(n_ranks)) if shared_engine else (0,)
        return Layout(n_ranks, parallel, training, (), labelling)
    left = tuple(range(training_ranks, n_ranks))
    if not left:
        return Layout(n_ranks, parallel, training, (), (0,))
    n_groups = reference_groups or (systems_apart if shared_engine else len(left))
    if n_groups > len(left):
        raise LayoutError(
            "reference_groups",
            f"{n_groups}, but {len(left)} of {n_ranks} ranks are left beside the "
            f"{training_ranks} that train: expected at least a rank for each group; start more "
            "(mpirun -n) or lower it",
        )
    groups = _assigned(left, n_groups) if shared_engine else tuple((r,) for r in left[:n_groups])
    in_turn = tuple(k % systems_apart for k in range(n_groups)) if systems_apart > 1 else ()
    return Layout(n_ranks, parallel, training, groups, (), in_turn)


def apart_problem(parallel: bool, reference_groups: int | None, n_systems: int) -> str | None:
    """Why systems that need a group each cannot be computed, however many ranks there are.

    Returns
    -------
    str or None
        Key of the settings that has to be changed; None if there is nothing against it.
    """
    if not parallel:
        return "parallel"
    too_few = reference_groups is not None and reference_groups < n_systems
    return "reference_groups" if too_few else None


def _require_groups(
    n_left: int, parallel: bool, reference_groups: int | None, n_systems: int
) -> None:
    key = apart_problem(parallel, reference_groups, n_systems)
    if key is None and n_left >= n_systems:
        return
    raise LayoutError(
        key or "reference_groups",
        f"each of {n_systems} systems needs processes of its own, and {n_left} ranks are left"
        f" beside those that train: expected parallel: true, at least {n_systems} reference groups"
        " and a rank for each; start more (mpirun -n), or set cluster",
    )


def _spare(n_ranks: int, reference_groups: int | None, fewest: int, shared_engine: bool) -> int:
    """How many ranks need not compute labels in the background."""
    if reference_groups is not None and not shared_engine:  # a rank for each
        return n_ranks - reference_groups
    return min(n_ranks // RANKS_PER_TRAINING_RANK, n_ranks - fewest)


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


def cores_of_host(host: str, placements: Sequence[RankPlacement]) -> tuple[int, ...]:
    """All cores of a host that any rank of this job may use."""
    return tuple(
        sorted(
            {core for placement in placements if placement.host == host for core in placement.cores}
        )
    )


def table(
    layout: Layout,
    placements: Sequence[RankPlacement],
    threads: int,
    device: str,
    systems: Sequence[str] = (),
) -> list[str]:
    """The start-up table: a line per rank; equal neighbours share one.

    Parameters
    ----------
    layout : Layout
    placements : sequence of RankPlacement
    threads : int
        Of each rank that trains.
    device : str
    systems : sequence of str
        Names of the systems.
    """
    lines: list[tuple[str, list[int]]] = []
    for rank, placement in enumerate(placements):
        trains = rank in layout.training
        description = (
            f"{layout.roles(rank, systems)}; {threads if trains else 1} thread(s); "
            f"host {placement.host}; cores {ranges(placement.cores)}"
            + (f"; device {device}" if trains else "")
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
