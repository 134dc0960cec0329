"""Which rank does what, with how many threads on which cores."""

from __future__ import annotations

from typing import Any

import pytest

from fhi_al.parallel.layout import (
    Layout,
    LayoutError,
    RankPlacement,
    layout,
    most_training_ranks,
    table,
)
from fhi_al.parallel.threads import training_threads, widened


def assigned(n_ranks: int, **how: Any) -> Layout:
    given = {
        "parallel": True,
        "training_ranks": 1,
        "reference_groups": None,
        "shared_engine": True,
        **how,
    }
    return layout(n_ranks, **given)


def on_one_host(n_ranks: int, n_cores: int, omp: int | None = None) -> list[RankPlacement]:
    return [RankPlacement("node1", tuple(range(n_cores)), omp) for _ in range(n_ranks)]


@pytest.mark.parametrize(
    ("n_ranks", "how", "groups"),
    [
        (3, {}, ((1, 2),)),
        (3, {"shared_engine": False}, ((1,), (2,))),
        (6, {"reference_groups": 2}, ((1, 2, 3), (4, 5))),
        (6, {"training_ranks": 2, "reference_groups": 4}, ((2,), (3,), (4,), (5,))),
        (6, {"shared_engine": False, "reference_groups": 2}, ((1,), (2,))),
        (3, {"systems_apart": 2}, ((1,), (2,))),
        (5, {"systems_apart": 2, "reference_groups": 3}, ((1, 2), (3,), (4,))),
        (2, {"training_ranks": 2}, ()),
        (1, {}, ()),
    ],
)
def test_groups_are_what_training_leaves(
    n_ranks: int, how: dict[str, Any], groups: tuple[tuple[int, ...], ...]
) -> None:
    found = assigned(n_ranks, **how)
    assert found.groups == groups
    assert found.training == tuple(range(how.get("training_ranks", 1)))
    # Somebody computes labels, and nobody both in a group and on rank 0's errands.
    assert bool(found.groups) != bool(found.labelling)


def test_serially_all_ranks_share_a_call_of_a_shared_engine() -> None:
    assert assigned(4, parallel=False).labelling == (0, 1, 2, 3)
    assert assigned(4, parallel=False, shared_engine=False).labelling == (0,)


@pytest.mark.parametrize(
    ("n_ranks", "how", "training"),
    [
        (3, {"parallel": False}, 3),
        (5, {"parallel": False, "shared_engine": False}, 3),
        (1, {"parallel": False}, 1),
        (5, {"elsewhere": True}, 3),
        (1, {}, 1),
        (3, {}, 1),
        (8, {}, 2),
        (64, {}, 3),
        (64, {"reference_groups": 62}, 2),
        (4, {"reference_groups": 3}, 1),
        (8, {"shared_engine": False}, 2),
        (8, {"shared_engine": False, "reference_groups": 6}, 2),
        (8, {"shared_engine": False, "reference_groups": 2}, 3),
    ],
)
def test_ranks_that_would_do_nothing_train(
    n_ranks: int, how: dict[str, Any], training: int
) -> None:
    found = assigned(n_ranks, training_ranks=None, most_training=3, **how)
    assert found.training == tuple(range(training))


def test_each_training_rank_has_cores_of_its_own_and_a_member() -> None:
    assert most_training_ranks(on_one_host(8, 64), 4, 1, "cpu") == 4
    assert most_training_ranks(on_one_host(3, 64), 4, 1, "cpu") == 3
    assert most_training_ranks(on_one_host(8, 2), 4, 1, "cpu") == 2
    assert most_training_ranks(on_one_host(8, 8), 4, 3, "cpu") == 2
    assert most_training_ranks(on_one_host(8, 2), 4, 4, "cpu") == 1
    # Bound to a core each by their launcher.
    bound = [RankPlacement("a", (k,)) for k in range(3)]
    assert most_training_ranks(bound, 4, 1, "cpu") == 3
    hosts = [RankPlacement(host, (0, 1)) for host in "aaabbb"]
    assert most_training_ranks(hosts, 6, 1, "cpu") == 2  # the third would share a core with them
    assert most_training_ranks([hosts[k] for k in (0, 3, 1, 4)], 6, 1, "cpu") == 4


def test_each_training_rank_has_a_gpu_of_its_own() -> None:
    two = [RankPlacement("a", tuple(range(8)), gpus=("0", "1")) for _ in range(4)]
    assert most_training_ranks(two, 4, 1, "cuda") == 2
    assert most_training_ranks(two, 4, 1, "cuda:1") == 1
    assert most_training_ranks(on_one_host(4, 8), 4, 1, "cuda") == 1  # none was found
    # As a batch system shows them: one to each, none to those that label.
    own = [RankPlacement("a", (k,), gpus=(str(k),) if k < 3 else ()) for k in range(6)]
    assert most_training_ranks(own, 6, 1, "cuda") == 3


def test_labels_computed_elsewhere_take_no_rank() -> None:
    found = assigned(3, training_ranks=2, elsewhere=True)
    assert (found.groups, found.labelling) == ((), ())


@pytest.mark.parametrize(
    ("n_ranks", "how", "key"),
    [
        (2, {"training_ranks": 3}, "training_ranks"),
        (3, {"reference_groups": 3}, "reference_groups"),
        (3, {"systems_apart": 3}, "reference_groups"),
        (1, {"systems_apart": 2}, "reference_groups"),
        (9, {"systems_apart": 3, "reference_groups": 2}, "reference_groups"),
        (9, {"systems_apart": 2, "parallel": False}, "parallel"),
    ],
)
def test_too_few_ranks_are_an_error_about_the_key(
    n_ranks: int, how: dict[str, Any], key: str
) -> None:
    with pytest.raises(LayoutError, match=r"expected (at|parallel)") as caught:
        assigned(n_ranks, **how)
    assert caught.value.key == key


def test_threads_follow_the_user_before_the_layout() -> None:
    assignment = assigned(3)
    assert training_threads(3, assignment, on_one_host(3, 8, omp=2)) == 3
    assert training_threads(None, assignment, on_one_host(3, 8, omp=2)) == 2
    # Eight cores less two that label, at most four.
    assert training_threads(None, assignment, on_one_host(3, 8)) == 4
    assert training_threads(None, assignment, on_one_host(3, 4)) == 2
    assert training_threads(None, assignment, on_one_host(3, 2)) == 1
    assert training_threads(None, assigned(3, training_ranks=2), on_one_host(3, 7)) == 3
    # A serial run's results must not depend on the machine.
    assert training_threads(None, assigned(3, parallel=False), on_one_host(3, 64)) == 1


def test_the_busiest_host_decides_for_all_training_ranks() -> None:
    placements = [
        RankPlacement("a", tuple(range(8))),
        RankPlacement("b", (0, 1)),
        RankPlacement("b", (0, 1)),
    ]
    assert training_threads(None, assigned(3, training_ranks=2), placements) == 1


def test_a_rank_squeezed_onto_a_core_gets_those_of_its_host() -> None:
    placements = [RankPlacement("a", (0,)), RankPlacement("a", (1,)), RankPlacement("b", (2, 3))]
    assert widened(placements[0], 2, placements) == (0, 1)
    assert widened(placements[0], 1, placements) is None
    assert widened(placements[2], 4, placements) is None  # there are no more


def test_the_table_says_what_every_rank_does() -> None:
    assignment = assigned(6, training_ranks=2, reference_groups=1)
    lines = table(assignment, on_one_host(6, 4), 2, "cuda")
    assert lines == [
        "rank 0: drives, MD, training; 2 thread(s); host node1; cores 0-3; device cuda",
        "rank 1: training; 2 thread(s); host node1; cores 0-3; device cuda",
        "ranks 2-5: labels (group 1); 1 thread(s); host node1; cores 0-3",
    ]
    apart = assigned(5, systems_apart=2, reference_groups=3)
    assert apart.only_system == (0, 1, 0)
    lines = table(apart, on_one_host(5, 4), 1, "cpu", ["ethanol", "water"])
    assert [line.split(";")[0] for line in lines[1:]] == [
        "ranks 1-2: labels of ethanol (group 1)",
        "rank 3: labels of water (group 2)",
        "rank 4: labels of ethanol (group 3)",
    ]
    assert assigned(5, systems_apart=2, elsewhere=True).groups == ()
    idle = table(assigned(3, shared_engine=False, reference_groups=1), on_one_host(3, 1), 1, "cpu")
    assert idle[-1].startswith("rank 2: nothing;")
