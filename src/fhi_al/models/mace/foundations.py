"""MACE's own foundation models: where its cache keeps them, whether they can be fetched."""

from __future__ import annotations

import queue
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ase import Atoms
from mace.calculators import MACECalculator, mace_mp
from mace.calculators.foundations_models import mace_mp_urls
from mace.tools.utils import get_cache_dir

from fhi_al.core.structure import Array
from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.exports import read_exported

Describe = Callable[[Atoms], Array]


def mace_mp_url(size: str) -> str:
    """Where MACE fetches MACE-MP-0 of a size from."""
    return str(mace_mp_urls[size])


def mace_mp_cache(size: str) -> Path:
    """Where MACE keeps the fetched file."""
    name = mace_mp_url(size).rpartition("/")[2]
    return Path(get_cache_dir()) / "".join(c for c in name if c.isalnum() or c == "_")


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


def fetch_problem(url: str, timeout_s: float) -> str | None:
    """Why `url` cannot be fetched, or None if its server answers within `timeout_s` seconds."""
    answers: queue.Queue[str | None] = queue.Queue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=timeout_s):
                answers.put(None)
        except OSError as error:
            answers.put(f"{type(error).__name__}: {error}")

    # In a thread: looking up the server's name knows no timeout.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=timeout_s + 1)
    except queue.Empty:
        return f"no answer within {timeout_s:.0f} s"
