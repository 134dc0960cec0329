"""A calculator that fails where the structure says so, and counts its calls."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ase.calculators.calculator import CalculationFailed, Calculator
from tblite.ase import TBLite

# Which failure it is: x of the first atom, in A.
WELL, EXIT, RAISE, HANG, NO_SCF, EXIT_ONCE, SLOW = (100.0 * number for number in range(7))


class FailingCalculator(Calculator):
    """xTB, unless the first atom lies at one of the places of failure.

    Parameters
    ----------
    calls : str
        A file that gets a line with the place for each call.
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
        n_calls = self._calls.read_text().split().count(str(x))
        if failure == EXIT or (failure == EXIT_ONCE and n_calls == 1):
            os._exit(7)
        if failure == RAISE:
            raise RuntimeError("no idea what to do")
        if failure == HANG:
            time.sleep(300)
        if failure == NO_SCF:
            raise CalculationFailed("SCF not converged in 250 cycles")
        if failure == SLOW:
            time.sleep(1.0)
        calculator = TBLite(method="GFN2-xTB", verbosity=0)
        calculator.calculate(atoms, ["energy", "forces"])
        self.results = calculator.results
