"""Numbers that change with the MD steps of a trajectory, such as its temperature.  Pure: numpy.

A quantity is a plain number or a :class:`Schedule`; what is asked of it is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array


@dataclass(frozen=True)
class Schedule:
    """Values at some MD steps, and what is between them.

    Parameters
    ----------
    steps : tuple of int
        Ascending, the first one 0.
    values : tuple of float
        One each.  From the last step on the value stays.
    is_ramp : bool
        Linear between two steps; else a value holds until the next step.

    Raises
    ------
    ValueError
        If the steps are not as described, or not as many as the values.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    is_ramp: bool

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values) or not self.steps:
            raise ValueError(
                f"Schedule: {len(self.steps)} steps and {len(self.values)} values, expected as many"
            )
        if self.steps[0] != 0 or any(
            later <= earlier for earlier, later in zip(self.steps, self.steps[1:], strict=False)
        ):
            raise ValueError(f"Schedule.steps = {self.steps}, expected ascending ones from 0 on")

    def at(self, steps: NDArray[np.int64]) -> Array:
        """Values at MD steps, of the shape of these."""
        known, values = np.array(self.steps), np.array(self.values)
        place = np.searchsorted(known, steps, side="right") - 1
        before: Array = values[place]
        if not self.is_ramp:
            return before
        following = np.minimum(place + 1, len(known) - 1)
        share = (steps - known[place]) / np.maximum(known[following] - known[place], 1)
        # Behind the last step the difference is zero.
        ramped: Array = before + share * (values[following] - before)
        return ramped

    def __str__(self) -> str:
        if self.is_ramp:
            first, last = self.values[0], self.values[-1]
            return f"{first:g} to {last:g} in {self.steps[-1]} steps"
        parts = [
            f"{value:g} from {step}" for step, value in zip(self.steps, self.values, strict=True)
        ]
        return ", ".join(parts)


Quantity = float | Schedule


def ramp(start: float, end: float, n_steps: int) -> Schedule:
    """From one value to another in so many MD steps."""
    return Schedule((0, n_steps), (start, end), is_ramp=True)


def values_at(quantity: Quantity, steps: NDArray[np.int64]) -> Array:
    """Of a quantity at MD steps, of the shape of these."""
    if isinstance(quantity, Schedule):
        return quantity.at(steps)
    return np.full(steps.shape, quantity)


def value_at(quantity: Quantity, step: int) -> float:
    """Of a quantity at an MD step."""
    if isinstance(quantity, Schedule):
        return float(quantity.at(np.array(step)))
    return quantity


def highest(quantity: Quantity) -> float:
    """The largest value that a quantity ever has."""
    return max(quantity.values) if isinstance(quantity, Schedule) else quantity


def lowest(quantity: Quantity) -> float:
    """The smallest value that a quantity ever has."""
    return min(quantity.values) if isinstance(quantity, Schedule) else quantity


def scaled(quantity: Quantity, factor: float) -> Quantity:
    """A quantity in other units."""
    if isinstance(quantity, Schedule):
        return replace(quantity, values=tuple(value * factor for value in quantity.values))
    return quantity * factor


def quantity_of(given: Any) -> Quantity:
    """A quantity as the settings write it.

    Parameters
    ----------
    given : float or mapping
        A number; ``{from: a, to: b, over: n_steps}``; or MD step -> value from there on.
    """
    if not isinstance(given, dict):
        return float(given)
    if "over" in given:
        return ramp(given["from"], given["to"], given["over"])
    steps: Sequence[int] = sorted(given)
    return Schedule(tuple(steps), tuple(given[step] for step in steps), is_ramp=False)
