"""``FHI_AL-atomic-energies`` of systems with charge, spin and fields: the atoms are isolated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ase.calculators.calculator import Calculator, all_changes
from tblite.ase import TBLite

from fhi_al.app import atomic_energies
from fhi_al.app.isolated_atoms import read_atomic_energies
from fhi_al.app.process_set_up import process_set_up

pytestmark = pytest.mark.real

FORMIC_ACID = """\
atom -1.046  0.427 0.0 O
atom  0.0    0.427 0.0 C
atom  1.046 -0.427 0.0 O
atom -0.3    1.4   0.0 H
"""
# eV, GFN2-xTB: what neutral atoms give.
FREE = {1: -11.681719, 6: -50.032116, 8: -104.037481}


class NoGuess(Calculator):
    """tblite behind an interface as ORCA's: takes a multiplicity, reads no moments."""

    implemented_properties = ("energy", "forces")
    default_parameters = {"charge": 0, "mult": 1}  # noqa: RUF012 (ASE's own interface)

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        charge, mult = self.parameters["charge"], self.parameters["mult"]
        inner = TBLite(charge=charge, multiplicity=mult, spin_polarization=1.0, verbosity=0)
        inner.calculate(atoms, properties)
        self.results = dict(inner.results)


@pytest.mark.parametrize(
    "engine",
    [
        "tblite\n  reference_arguments: {charge: -2}",
        "tblite\n  reference_arguments: {charge: 1, multiplicity: 3}",
        "tblite\n  reference_arguments: {multiplicity: 2}",
        f"ase\n  reference_calculator: {__name__}.NoGuess\n"
        "  reference_arguments: {charge: 1, mult: 2}",
        f"ase\n  reference_calculator: {__name__}.NoGuess",
    ],
)
def test_atoms_are_neutral_and_in_their_ground_state(tmp_path: Path, engine: str) -> None:
    (tmp_path / "geometry.in").write_text(FORMIC_ACID)
    (tmp_path / "active_learning_settings.yaml").write_text(
        f"ACTIVE_LEARNING:\n  max_set_size: 50\n  reference_engine: {engine}\n"
    )
    told = "\n".join(atomic_energies.checked(tmp_path, None))
    with process_set_up() as process:
        atomic_energies.compute(tmp_path, None, process)
    energies = read_atomic_energies(tmp_path / "atomic_energies.yaml")
    assert energies == pytest.approx(FREE, abs=1e-6)
    given = "arguments" in engine
    assert ("of the whole system" in told) == given
