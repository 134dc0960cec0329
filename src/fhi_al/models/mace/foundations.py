"""MACE's foundation models as calculators that sample, and what describes atoms by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ase import Atoms
from mace.calculators import MACECalculator, mace_mp

from fhi_al.core.structure import Array
from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.exports import read_exported

Describe = Callable[[Atoms], Array]


def mace_mp_calculator(size: str, device: str, dtype: str) -> MACECalculator:
    """MACE-MP-0 of a size, fetched into MACE's cache if it is not there."""
    with quiet_mace():
        return mace_mp(model=size, device=device, default_dtype=dtype)


def mace_file_calculator(path: Path, device: str, dtype: str) -> MACECalculator:
    """A MACE model file as a calculator.  The file is a pickle: only for files that you trust.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is no MACE model.
    """
    model = read_exported(path)
    with quiet_mace():
        return MACECalculator(models=[model], device=device, default_dtype=dtype)


def mace_file_descriptors(path: Path, device: str) -> tuple[list[int], Describe]:
    """The elements that a MACE model file knows, and what describes atoms by it.

    Returns
    -------
    list of int
        Atomic numbers.
    callable
        Atoms -> invariant features of each, (n_atoms, n_features).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is no MACE model.
    """
    calculator = mace_file_calculator(path, device, "float64")

    def describe(atoms: Atoms) -> Array:
        found: Array = calculator.get_descriptors(atoms, invariants_only=True)
        return found

    return [int(number) for number in calculator.z_table.zs], describe
