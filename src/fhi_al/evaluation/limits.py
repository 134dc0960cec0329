"""What counts as good, fair and poor, and in words.  Pure; docs/evaluate.md has the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Grade = Literal["good", "fair", "poor"]
_ORDER: tuple[Grade, ...] = ("good", "fair", "poor")


@dataclass(frozen=True)
class Limit:
    """Up to where a quantity is good, and fair.

    Parameters
    ----------
    what : str
        In words.
    unit : str
    good, fair : float
        Of its magnitude; with `good` above `fair`, the larger the better.
    """

    what: str
    unit: str
    good: float
    fair: float

    def grade(self, value: float) -> Grade:
        """Of a value; one that is not finite is poor."""
        if not np.isfinite(value):
            return "poor"
        if self.good > self.fair:
            return "good" if value >= self.good else "fair" if value >= self.fair else "poor"
        value = abs(value)
        return "good" if value <= self.good else "fair" if value <= self.fair else "poor"

    def described(self) -> str:
        """In words."""
        word = "from" if self.good > self.fair else "up to"
        unit = f" {self.unit}" if self.unit else ""
        if self.good == self.fair:
            return f"good {word} {self.good:g}{unit}, else poor"
        return f"good {word} {self.good:g}{unit}, fair {word} {self.fair:g}{unit}"


FORCE_RMSE = Limit("force RMSE, of the rms force", "%", 10.0, 20.0)
ENERGY_MAE = Limit("energy MAE", "meV/atom", 2.0, 10.0)
STRESS_RMSE = Limit("stress RMSE", "GPa", 0.3, 1.0)
SPREAD_RANK = Limit("rank correlation of spread and error", "", 0.3, 0.1)
ENERGY_DRIFT = Limit("drift of the energy in NVE", "meV/atom/ps", 0.5, 5.0)
STABLE_UP_TO = Limit("MD stays sane up to", "times the temperature", 2.0, 1.5)
FREQUENCY_MAE = Limit("MAE of vibrational frequencies", "1/cm", 15.0, 50.0)
IMAGINARY = Limit("imaginary frequencies at the minimum", "", 0.0, 0.0)
VOLUME = Limit("equilibrium volume, error", "%", 1.0, 3.0)
BULK_MODULUS = Limit("bulk modulus, error", "%", 5.0, 15.0)
DELTA = Limit("energy-volume curves apart (Delta)", "meV/atom", 2.0, 5.0)
DISTANCES = Limit("distances in MD, error beyond noise", "%", 3.0, 10.0)
# Never poor: MD at 1.5 and 2 T says whether it comes there.
HOLE_BARRIER = Limit("barrier in front of the worst hole of a dimer", "eV", 50.0, 0.0)
CONSISTENCY = Limit("forces against differences of the energy", "meV/A", 1.0, 10.0)
FORCE_JUMP = Limit("largest jump of a force", "meV/A", 1.0, 10.0)


@dataclass(frozen=True)
class Judgement:
    """A quantity and its grade.

    Parameters
    ----------
    limit : Limit
    value : float
    of : str
        Of what; empty if of everything.
    """

    limit: Limit
    value: float
    of: str = ""

    @property
    def grade(self) -> Grade:
        """Good, fair or poor."""
        return self.limit.grade(self.value)

    def described(self) -> str:
        """A line."""
        unit = f" {self.limit.unit}" if self.limit.unit else ""
        of = f" ({self.of})" if self.of else ""
        return (
            f"{self.grade}: {self.limit.what}{of}: {self.value:.3g}{unit}"
            f" ({self.limit.described()})"
        )

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "grade": self.grade}


def verdict(judgements: Sequence[Judgement]) -> list[str]:
    """What all judgements together say, in words."""
    if not judgements:
        return ["verdict: none, for nothing was judged"]
    lines = [one.described() for one in sorted(judgements, key=lambda one: _ORDER.index(one.grade))]
    worst = max((one.grade for one in judgements), key=_ORDER.index)
    limiting = [one for one in judgements if one.grade == worst]
    named = "; ".join(dict.fromkeys(one.limit.what for one in limiting))
    words = {
        "good": "all that was looked at is good",
        "fair": f"usable with care where these matter: {named}",
        "poor": f"not to be relied on where these matter: {named}",
    }
    return [*lines, f"verdict: {worst}: {words[worst]}"]
