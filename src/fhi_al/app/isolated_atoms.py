"""Energies of isolated, spin-polarised atoms, one element after the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from ase.data import chemical_symbols

from fhi_al.core.errors import EngineError
from fhi_al.core.plausible import LabelLimits, label_problem
from fhi_al.engines.engine import ReferenceResult
from fhi_al.report.logs import log_to_file, stop_log
from fhi_al.storage.atomic_file import write_atomically

log = logging.getLogger(__name__)

# A free atom feels no force, and nothing is known of its energy.
ANY = LabelLimits(max_force=1.0, max_energy_per_atom=math.inf)
LOG, TABLE = "atomic_energies.log", "atomic_energies.yaml"


class AtomicEnergiesProcedure:
    """Compute E0s and write them to ``atomic_energies.log`` and ``atomic_energies.yaml``.

    Energies that the table has already, from earlier launches with ``--elements``, stay in it.

    Parameters
    ----------
    folder : Path
        The run's folder.
    calculate : mapping
        Atomic number -> function that computes the isolated atom.
    """

    def __init__(
        self, folder: Path, calculate: Mapping[int, Callable[[], ReferenceResult]]
    ) -> None:
        self._folder = folder
        self._calculate = calculate

    def run(self) -> dict[int, float]:
        """Compute every element; energies in eV by atomic number.

        Raises
        ------
        EngineError
            If an atom did not converge; the others are written all the same.
        """
        handler = log_to_file(self._folder / LOG)
        try:
            energies, failures = {}, []
            for number, calculate in self._calculate.items():
                symbol = chemical_symbols[number]
                log.info("isolated atom %s: started", symbol)
                result = calculate()
                problem = label_problem(result.energy, result.forces, result.converged, 1, ANY)
                if problem is None:
                    energies[number] = float(result.energy)
                    log.info("isolated atom %s: %.9f eV", symbol, result.energy)
                    self._write(energies)
                    continue
                log.error("isolated atom %s: %s %s", symbol, problem, result.message)
                failures.append(symbol)
            if failures:
                raise EngineError(
                    f"no energy for {', '.join(failures)}: expected SCFs that converge. Look at "
                    "the engine's output; a larger smearing or more SCF cycles may help. Then "
                    f"run again with --elements {' '.join(failures)}."
                )
            log.info("energies for mace_settings.yaml are in %s", self._folder / TABLE)
            return energies
        finally:
            stop_log(handler)

    def _write(self, energies: dict[int, float]) -> None:
        path = self._folder / TABLE
        known = read_atomic_energies(path) if path.is_file() else {}
        lines = [
            "# Energies of isolated, spin-polarised atoms in eV; goes into mace_settings.yaml",
            "ARCHITECTURE:",
            "  atomic_energies:",
        ]
        for number, energy in sorted((known | energies).items()):
            lines.append(f"    {number}: {energy!r}  # {chemical_symbols[number]}")
        write_atomically(path, "\n".join(lines) + "\n")


def read_atomic_energies(path: Path) -> dict[int, float]:
    """The energies (eV) in an ``atomic_energies.yaml``, by atomic number.

    Raises
    ------
    ValueError
        If the file is not one that this program wrote.
    """
    try:
        table = yaml.safe_load(path.read_text())["ARCHITECTURE"]["atomic_energies"]
        return {int(number): float(energy) for number, energy in table.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the energies of an earlier launch ({error}). Remove the file."
        ) from error
