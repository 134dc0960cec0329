"""The keys of ACTIVE_LEARNING.displaced: structures of the initial dataset without MD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from fhi_al.settings.value_types import (
    LARGEST_SEED,
    CountOrNoneOrAuto,
    Integer,
    Number,
    Section,
    literal,
    read_number,
    refuse,
    setting,
)

MOST_RATTLED = 1.0  # A


def read_volume_range(value: object) -> tuple[float, float]:
    """Two numbers above 0, the smaller one first."""
    value = literal(value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise refuse("must be two numbers, such as [0.9, 1.1]")
    low, high = (read_number(each) for each in value)
    if not 0 < low < high:
        raise refuse("must be two numbers above 0, the smaller one first, such as [0.9, 1.1]")
    return low, high


def read_amplitude(value: object) -> float | str:
    """A number above 0 and at most 1, or ``auto``."""
    if isinstance(value, str) and value.strip().casefold() == "auto":
        return "auto"
    number = read_number(value)
    if not 0 < number <= MOST_RATTLED:
        raise refuse(f"must be auto, or a number above 0 and at most {MOST_RATTLED:g}")
    return number


VolumeRange = Annotated[
    tuple[float, float],
    BeforeValidator(read_volume_range),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
]
Amplitude = Annotated[
    float | Literal["auto"],
    BeforeValidator(read_amplitude),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_RATTLED},
                {"const": "auto"},
            ]
        }
    ),
]


class DisplacedStructures(Section):
    """Structures of the initial dataset without MD: how many of each system, and how displaced."""

    rattled: Integer = setting(20, "Structures whose atoms are displaced at random.", ge=0)
    rattle: Amplitude = setting(
        "auto",
        "Standard deviation of every coordinate of rattled and strained structures. `auto`: of each"
        " atom such that harmonic vibrations at the temperature of `MD` (its highest) have the same"
        " energy, with estimated force constants: about 0.03 in molecules and 0.06 in metals at 300"
        " K.",
        unit="A",
        try_="auto",
    )
    strained: CountOrNoneOrAuto = setting(
        "auto",
        "Crystals with a strained cell, whose atoms are rattled, too. `auto`: 20 with"
        " `compute_stress`, else none.",
        try_="auto",
    )
    strain: Number = setting(
        0.03, "Largest component of the strain, which is drawn at random.", gt=0, lt=0.5, try_=0.03
    )
    volumes: CountOrNoneOrAuto = setting(
        "auto",
        "Crystals of evenly spaced volumes, their atoms at rest. `auto`: 7 with `compute_stress`,"
        " else none.",
        try_="auto",
    )
    volume_range: VolumeRange = setting(
        (0.9, 1.1),
        "Smallest and largest of these volumes, in those of the cell in geometry.in.",
        try_=[0.9, 1.1],
    )
    dimers: Integer = setting(
        0,
        "Dimers of each pair of elements, as molecules, at so many distances from contact to"
        " `r_max`: what atoms do that come close, or part. Needs `atomic_energies`.",
        ge=0,
    )
    dimer_contact: Number = setting(
        0.8,
        "The shortest of these distances, in sums of covalent radii.",
        ge=0.4,
        le=1.5,
        try_=0.8,
    )
    vacancies: Integer = setting(
        0, "Crystals that lack one atom, the others rattled. Needs `atomic_energies`.", ge=0
    )
    seed: Integer = setting(0, "Of all that is drawn at random.", ge=0, le=LARGEST_SEED)


def read_displaced(value: object) -> Any:
    """A mapping, whose keys are checked one by one; nothing: the defaults."""
    if value is None:
        return DisplacedStructures()
    if not isinstance(value, Mapping | DisplacedStructures):
        raise refuse("must be keys below it, such as rattled: 20")
    return value


DisplacedKeys = Annotated[DisplacedStructures, BeforeValidator(read_displaced)]
