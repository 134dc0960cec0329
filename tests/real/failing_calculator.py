"""A calculator that fails where the structure says so, and counts its calls."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase.calculators.calculator import CalculationFailed, Calculator
from tblite.ase import TBLite

# Which failure it is: x of the first atom, in A.
WELL, EXIT, RAISE, HANG, NO_SCF, EXIT_ONCE, SLOW, HANG_ONCE = (100.0 * k for k in range(8))
HOLD = "hold"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """No call comes to its end whose calls are counted in this folder."""
    (folder / HOLD).write_text("0")
    try:
        yield
    finally:
        (folder / HOLD).unlink()


class FailingCalculator(Calculator):
    """xTB, unless the first atom lies at one of the places of failure.

    Parameters
    ----------
    calls : str
        A file that gets a line with the place for each call.  As long as there is a file ``hold``
        beside it with a number, no more calls than that come to their end.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, calls: str) -> None:
        super().__init__()
        self._calls = Path(calls)

    def calculate(self, atoms: Any = None, properties: Any = None, changes: Any = None) -> None:
        x = round(float(atoms.positions[0, 0]), 6)
        with self._calls.open("a") as stream:
            stream.write(f"{x}\n")
        failure = round(x / 100.0) * 100.0
        before = self._calls.read_text().split()
        n_calls = before.count(str(x))
        if failure == EXIT or (failure == EXIT_ONCE and n_calls == 1):
            os._exit(7)
        if failure == RAISE:
            raise RuntimeError("no idea what to do")
        if failure == HANG or (failure == HANG_ONCE and n_calls == 1):
            time.sleep(300)
        if failure == NO_SCF:
            raise CalculationFailed("SCF not converged in 250 cycles")
        if failure == SLOW:
            time.sleep(1.0)
        hold = self._calls.with_name(HOLD)
        while hold.exists() and len(before) > int(hold.read_text()):
            time.sleep(0.05)
        calculator = TBLite(method="GFN2-xTB", verbosity=0)
        calculator.calculate(atoms, ["energy", "forces"])
        self.results = calculator.results
