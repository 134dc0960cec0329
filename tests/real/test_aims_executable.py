"""FHI-aims by its executable: inputs, output, and what is a result and what a failure."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fhi_al.core.errors import EngineError
from fhi_al.engines.aims_executable import calculate
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.engine_input import engine_input
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.fingerprint import fingerprint
from fhi_al.engines.spec import AimsCommandSpec, AsiSpec
from fhi_al.engines.tblite import tblite_spec

pytestmark = pytest.mark.real

FAKE = Path(__file__).with_name("fake_aims.py")
CONTROL = """\
xc pbe
many_body_dispersion   # the user's, whatever it means
{k_grid}
species O_w
  nucleus 8
species H
  nucleus 1
species C
  nucleus 6
"""
WATER = """\
atom 0.00 0.00  0.119 O_w
atom 0.00 0.763 -0.477 H
atom 0.02 -0.763 -0.470 H
"""
DIAMOND = """\
lattice_vector 0.0 1.79 1.79
lattice_vector 1.79 0.0 1.79
lattice_vector 1.79 1.79 0.0
atom 0.0 0.0 0.0 C
atom 0.90 0.88 0.89 C
"""


def spec_of(mode: str = "well", text: str = WATER, stress: bool = False) -> AimsCommandSpec:
    k_grid = "k_grid 1 1 1" if "lattice" in text else ""
    control = parse_control(CONTROL.format(k_grid=k_grid), Path("control.in"))
    geometry = parse_geometry(text, Path("geometry.in"), control.nuclei)
    prepared = engine_input(control, geometry, None, stress=stress)
    return AimsCommandSpec((sys.executable, str(FAKE), mode), prepared.text, geometry, stress)


def moved(spec: AimsCommandSpec) -> np.ndarray:
    noise = np.random.default_rng(3).standard_normal(spec.structure.positions.shape)
    return spec.structure.positions + 0.03 * noise


@pytest.mark.parametrize(
    ("text", "method"), [(WATER, "GFN2-xTB"), (DIAMOND, "GFN1-xTB")], ids=["water", "diamond"]
)
def test_a_label_is_what_the_executable_computes_for_the_moved_atoms(
    tmp_path: Path, text: str, method: str
) -> None:
    spec = spec_of(text=text, stress="lattice" in text)
    positions, cell = moved(spec), 1.01 * spec.structure.cell
    result = calculate(spec, positions, cell, tmp_path)
    engine = AseEngine(tblite_spec(method, spec.structure, stress=spec.stress))
    expected = engine.calculate(positions, cell)
    assert result.converged and result.message == ""
    # Printed with 16 digits; the stress of an oblique cell passes through a file, too.
    assert result.energy == pytest.approx(expected.energy, abs=1e-8)
    assert np.abs(result.forces - expected.forces).max() < 1e-8
    if spec.stress:
        assert result.stress is not None and expected.stress is not None
        assert np.abs(result.stress - expected.stress).max() < 1e-10


def test_the_control_in_is_the_users_with_what_we_need(tmp_path: Path) -> None:
    spec = spec_of()
    calculate(spec, moved(spec), spec.structure.cell, tmp_path)
    text = (tmp_path / "control.in").read_text()
    assert "many_body_dispersion   # the user's, whatever it means" in text
    assert "compute_forces .true." in text and "postprocess_anyway .true." in text


def test_an_scf_that_did_not_converge_is_a_result_without_numbers(tmp_path: Path) -> None:
    spec = spec_of("unconverged")
    result = calculate(spec, moved(spec), spec.structure.cell, tmp_path)
    assert not result.converged
    assert np.isnan(result.energy) and np.isnan(result.forces).all()
    assert result.forces.shape == (3, 3)
    assert "did not converge" in result.message


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("crash", "ended with exit code 1"),
        ("garbage", "cannot be read"),
        ("early", "ended early"),
    ],
)
def test_a_calculation_without_an_end_is_an_error(tmp_path: Path, mode: str, words: str) -> None:
    spec = spec_of(mode)
    with pytest.raises(EngineError, match=words):
        calculate(spec, moved(spec), spec.structure.cell, tmp_path)


def test_an_output_without_the_stress_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    spec = replace(spec_of(), stress=True)
    with pytest.raises(EngineError, match="has no stress"):
        calculate(spec, moved(spec), spec.structure.cell, tmp_path)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = replace(spec_of(), command=("no_such_aims.x",))
    with pytest.raises(EngineError, match=r"no_such_aims\.x: .*aims_command"):
        calculate(spec, moved(spec), spec.structure.cell, tmp_path)


def test_the_fingerprint_is_about_the_method_not_about_the_command() -> None:
    spec = spec_of()
    engine = fingerprint(spec)
    assert fingerprint(replace(spec, command=("srun", "aims.x"))) == engine
    assert fingerprint(replace(spec, control=spec.control + "charge 1\n")) != engine
    tagged = replace(spec.geometry, vector_lines=(("tag 1",), (), ()))
    assert fingerprint(replace(spec, geometry=tagged)) != engine
    # The library may mean another one of FHI-aims' energies.
    library = AsiSpec(Path("lib.so"), Path("aims"), spec.control, spec.geometry)
    assert fingerprint(library) != engine
