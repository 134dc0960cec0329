"""Who is next of the structures that wait for a worker."""

from __future__ import annotations

import numpy as np

from fhi_al.labels.waiting_line import Urgency, WaitingLine


def test_the_order_is_that_of_one_list_that_is_sorted_at_every_change() -> None:
    """Urgencies that come and go, against the plain way to do it."""
    rng = np.random.default_rng(3)
    line, plain = WaitingLine(), list[str]()
    urgencies: dict[str, Urgency] = {}
    for step in range(400):
        key = f"{rng.integers(40)}"
        if rng.random() < 0.3:
            line.discard(key)
            plain = [each for each in plain if each != key]
        elif key not in plain:
            urgencies[key] = (bool(rng.integers(2)), int(rng.integers(3)))
            line.put(key, int(key) % 3, urgencies[key])
            plain.append(key)
        plain.sort(key=urgencies.__getitem__)  # stable
        if step % 10 == 0:
            for each in plain:
                urgencies[each] = (urgencies[each][0], int(rng.integers(3)))
            line.reorder(urgencies.__getitem__)
            plain.sort(key=urgencies.__getitem__)
        assert line.in_order() == plain
        for systems in ({0, 1, 2}, {1}, {0, 2}, set[int]()):
            able = [each for each in plain if int(each) % 3 in systems and each != "7"]
            found = line.next(systems.__contains__, lambda key: key != "7")
            assert found == (able[0] if able else None)


def test_who_is_next_costs_a_look_at_each_system_however_many_wait() -> None:
    line, looks = WaitingLine(), list[str]()
    for number in range(3000):
        line.put(f"{number}", number % 3, (False, 0))

    def wanted(key: str) -> bool:
        looks.append(key)
        return True

    assert line.next(lambda system: system != 0, wanted) == "1"
    assert looks == ["1", "2"]
