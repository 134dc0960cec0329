"""The atomic energies' table and log, with real xTB atoms."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fhi_al.app.isolated_atoms import AtomicEnergiesProcedure, read_atomic_energies
from fhi_al.core.errors import EngineError
from fhi_al.engines.aims_input.atomic import atomic_geometry
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.tblite import tblite_spec

HYDROGEN, OXYGEN = -11.682, -104.037  # eV, GFN2-xTB, spin polarised


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    """As the command sets it."""
    caplog.set_level(logging.INFO, "fhi_al")


def atom(number: int, **arguments: int) -> Callable[[], ReferenceResult]:
    structure = atomic_geometry(number).structure
    engine = AseEngine(tblite_spec("GFN2-xTB", structure, arguments))
    return partial(engine.calculate, structure.positions, structure.cell)


def test_energies_are_returned_and_written(tmp_path: Path) -> None:
    energies = AtomicEnergiesProcedure(tmp_path, {1: atom(1), 8: atom(8)}).run()
    assert energies == {
        1: pytest.approx(HYDROGEN, abs=1e-3),
        8: pytest.approx(OXYGEN, abs=1e-3),
    }
    table = tmp_path / "atomic_energies.yaml"
    assert read_atomic_energies(table) == energies  # every digit
    assert "atomic_energies:\n    1: -11.68" in table.read_text()
    log = (tmp_path / "atomic_energies.log").read_text()
    assert f"isolated atom H: {energies[1]:.9f} eV" in log
    assert f"isolated atom O: {energies[8]:.9f} eV" in log


def test_one_element_per_launch_makes_one_table(tmp_path: Path) -> None:
    together = AtomicEnergiesProcedure(tmp_path / "together", {1: atom(1), 8: atom(8)}).run()
    for number in (8, 1):
        AtomicEnergiesProcedure(tmp_path, {number: atom(number)}).run()
    assert read_atomic_energies(tmp_path / "atomic_energies.yaml") == together
    assert list(read_atomic_energies(tmp_path / "atomic_energies.yaml")) == [1, 8]


def test_an_atom_that_does_not_converge_does_not_cost_the_others(tmp_path: Path) -> None:
    tasks = {8: atom(8, max_iterations=1), 1: atom(1)}
    with pytest.raises(EngineError, match=r"no energy for O: .*--elements O\."):
        AtomicEnergiesProcedure(tmp_path, tasks).run()
    assert list(read_atomic_energies(tmp_path / "atomic_energies.yaml")) == [1]
    assert "ERROR: isolated atom O: the SCF did not converge" in (
        (tmp_path / "atomic_energies.log").read_text()
    )


@pytest.mark.parametrize("text", ["", "- 1\n", "ARCHITECTURE: {}\n", "a: [\n", "{1: 2}\n"])
def test_another_file_of_that_name_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "atomic_energies.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"atomic_energies\.yaml: expected the energies"):
        read_atomic_energies(path)


def test_the_log_file_is_let_go(tmp_path: Path) -> None:
    before = list(logging.getLogger("fhi_al").handlers)
    AtomicEnergiesProcedure(tmp_path, {1: atom(1)}).run()
    assert logging.getLogger("fhi_al").handlers == before
