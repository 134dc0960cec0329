"""How the values that only mace_settings.yaml has are read.  Does not import MACE."""

from __future__ import annotations

import re

from ase.data import atomic_numbers

from fhi_al.settings.problems import shown
from fhi_al.settings.value_types import literal, read_integer, read_number, read_text, refuse


def read_energies(value: object) -> dict[int, float] | None:
    """Atomic number or element symbol to energy in eV, sorted by atomic number."""
    value = literal(value)
    if value is None or (isinstance(value, str) and value.casefold() in ("none", "null")):
        return None
    if not isinstance(value, dict) or not value:
        raise refuse("must be a mapping of atomic number to energy in eV, such as {1: -13.6}")
    energies: dict[int, float] = {}
    for key, energy in value.items():
        number = _atomic_number(key)
        if number in energies:
            raise refuse(f"gives the element with atomic number {number} twice")
        try:
            energies[number] = read_number(energy)
        except ValueError as error:
            raise refuse(f"{shown(key)}: {shown(energy)} {error}, in eV") from error
    return dict(sorted(energies.items()))


def _atomic_number(key: object) -> int:
    if isinstance(key, str) and key in atomic_numbers and key != "X":
        return int(atomic_numbers[key])
    if isinstance(key, str) and key.isdecimal():
        key = int(key)
    if not isinstance(key, int) or not 1 <= key <= 118:
        raise refuse(f"{shown(key)} is neither an atomic number nor an element symbol")
    return key


def read_layers(value: object) -> tuple[int, ...]:
    """Widths of the layers of a network: ``[64, 64, 64]``, also as text."""
    value = literal(value)
    if not isinstance(value, (list, tuple)) or not value:
        raise refuse("must be a list of layer widths such as [64, 64, 64]")
    try:
        widths = tuple(read_integer(width) for width in value)
    except ValueError as error:
        raise refuse("must be a list of whole numbers such as [64, 64, 64]") from error
    if min(widths) < 1:
        raise refuse("layer widths must be at least 1")
    return widths


def read_scalar_irreps(value: object) -> str:
    """Irreps that hold even scalars only, the ones MACE's readout can be built with."""
    text = "".join(read_text(value).split())
    if not re.fullmatch(r"[1-9]\d*x0e(\+[1-9]\d*x0e)*", text):
        raise refuse("must be even scalars such as 16x0e (MACE's readout takes no others)")
    return text


def read_weights(value: object) -> dict[str, float]:
    """Config type to weight."""
    value = literal(value)
    if not isinstance(value, dict) or not value:
        raise refuse("must be a mapping such as {Default: 1.0}")
    weights: dict[str, float] = {}
    for name, weight in value.items():
        if not isinstance(name, str):
            raise refuse(f"{shown(name)} is no config type: it must be text (put it in quotes)")
        weights[name] = read_number(weight)
        if weights[name] < 0:
            raise refuse(f"the weight of {name} must not be negative")
    return weights


def read_device(value: object) -> str:
    """``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``xpu``."""
    device = str(value).strip().lower()
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps|xpu", device):
        raise refuse("must be one of cpu, cuda, cuda:0, cuda:1, ..., mps, xpu")
    return device


def read_off(value: object) -> object:
    """YAML reads ``off`` as false."""
    return "off" if value is False else value
