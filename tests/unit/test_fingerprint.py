"""Which changes of the inputs make another engine, and which do not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from fhi_al.core.structure import structure
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.engine_input import engine_input
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.fingerprint import VERSION, fingerprint, of_aims_inputs, plain
from fhi_al.engines.spec import AimsCommandSpec, AseSpec, AsiSpec, EngineSpec
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.older_fingerprints import with_older_names, write_down

CONTROL = """\
# PBE, as in the paper
xc pbe
spin   collinear
relativistic atomic_zora scalar
k_grid 2 2 2
sc_accuracy_rho 1e-5
species C
  nucleus 6
  basis_acc 1e-4
  ionic 2 p auto
  hydro 3 d 6
species H
  nucleus 1
"""
GEOMETRY = """\
lattice_vector 2.0 0 0
    constrain_relaxation .true.
lattice_vector 0 2.0 0
lattice_vector 0 0 2.0
homogeneous_field 0 0 0.1   # V/A
atom 0 0 0 C
    initial_moment 1.0
    calculate_friction .true.   # whatever
"""
WATER = structure([8, 1, 1], [[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])


def aims(control: str = CONTROL, geometry: str = GEOMETRY, stress: bool = False) -> AsiSpec:
    parsed = parse_control(control, Path("control.in"))
    read = parse_geometry(geometry, Path("geometry.in"), parsed.nuclei)
    text = engine_input(parsed, read, None, stress).text
    return AsiSpec(Path("lib.so"), Path("aims"), text, read, stress)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# PBE, as in the paper\n", ""),
        ("xc pbe\n", "xc pbe  # the functional\n\n   # and a line of its own\n"),
        ("spin   collinear", "\tspin collinear"),
        ("sc_accuracy_rho 1e-5", "sc_accuracy_rho 0.1D-04"),
        ("xc pbe\nspin   collinear\n", "spin   collinear\nxc pbe\n"),
        ("xc pbe\n", "xc pbe\ncompute_forces .TRUE.\n"),
        ("  basis_acc 1e-4\n", "  # tight\n\n    basis_acc   1.0e-4 # tight\n"),
        ("species H\n  nucleus 1\n", ""),
        ("  nucleus 6\n", "  nucleus 6\n  mass 13.003\n"),
        ("species H\n  nucleus 1\n", "species H\n  nucleus 1\n  basis_acc 1\n"),
        ("species H\n  nucleus 1\n", "species H\n  nucleus 1\nhse_unit A\n"),
    ],
)
def test_what_means_the_same_in_control_in_is_the_same_engine(old: str, new: str) -> None:
    base = CONTROL
    if "hse_unit" in new:  # general keywords may stand behind the last block
        base = "hse_unit A\n" + CONTROL
    assert old in base
    other = (CONTROL if "hse_unit" in new else base).replace(old, new)
    assert fingerprint(aims(other)).value == fingerprint(aims(base)).value


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("xc pbe", "xc pbesol"),
        ("k_grid 2 2 2", "k_grid 2 2 3"),
        ("1e-5", "1e-6"),
        ("basis_acc 1e-4", "basis_acc 1e-5"),
        ("  hydro 3 d 6\n", ""),
        ("  ionic 2 p auto\n  hydro 3 d 6\n", "  hydro 3 d 6\n  ionic 2 p auto\n"),
        ("xc pbe", "xc pbe\ncharge 1"),
    ],
)
def test_what_may_change_a_label_is_another_engine(old: str, new: str) -> None:
    assert old in CONTROL
    changed = aims(CONTROL.replace(old, new))
    assert fingerprint(changed).value != fingerprint(aims()).value


def assert_same(stressed: EngineSpec, without: EngineSpec) -> None:
    """The same labels, whichever program has stored them."""
    one, other = fingerprint(stressed), fingerprint(without)
    assert one.value == other.value
    assert set(other.older) <= set(one.older)


def test_asking_for_a_stress_makes_no_other_engine() -> None:
    without, stressed = aims(), aims(stress=True)
    assert "compute_analytical_stress .true." in stressed.text
    assert_same(stressed, without)
    command = AimsCommandSpec(("aims",), without.text, without.geometry)
    other = AimsCommandSpec(("aims",), stressed.text, without.geometry, stress=True)
    assert_same(other, command)
    crystal = structure([6], [[0.0, 0.0, 0.0]], 3 * np.eye(3))
    assert_same(tblite_spec("GFN1-xTB", crystal, stress=True), tblite_spec("GFN1-xTB", crystal))


def test_a_line_about_the_stress_that_once_made_another_engine_is_known() -> None:
    """Programs without stress hashed it as any other line."""
    mine = aims("compute_analytical_stress .true.\n" + CONTROL)
    found = fingerprint(mine)
    assert found.value == fingerprint(aims()).value
    before = {**mine.identity(), **of_aims_inputs(mine.control, mine.geometry, stress_lines=True)}
    content = json.dumps([plain(before)], sort_keys=True).encode()
    assert found.matches(VERSION + hashlib.sha256(content).hexdigest()[:16])


def test_tags_of_geometry_in_count_and_their_comments_do_not() -> None:
    base = fingerprint(aims()).value
    for old, new, same in (
        ("   # V/A", "", True),
        ("   # whatever", "  # friction", True),
        ("0 0 0.1 ", "0.0 0.0 1e-1 ", True),
        ("0 0 0.1 ", "0 0 0.2 ", False),
        ("    calculate_friction .true.   # whatever\n", "", False),
        ("initial_moment 1.0", "initial_moment 2.0", False),
    ):
        assert old in GEOMETRY
        other = fingerprint(aims(geometry=GEOMETRY.replace(old, new))).value
        assert (other == base) == same, (old, new)


def test_arguments_of_a_calculator_are_compared_by_value() -> None:
    def of(**arguments: object) -> str:
        return fingerprint(AseSpec("ase.calculators.emt.EMT", WATER, arguments)).value

    assert of(a=1, b={"c": 2, "d": [1]}) == of(b={"d": [1.0], "c": 2.0}, a=1.0)
    assert of(a=1) != of(a=True)
    assert of(a=1) != of(a="1")
    colon = AseSpec("ase.calculators.emt:EMT", WATER, {"a": 1})
    assert fingerprint(colon).value == of(a=1)


def test_older_fingerprints_are_those_that_older_programs_stored() -> None:
    # As version 5609a59 computed them; the first is in tests/workflow/old_states.
    assert fingerprint(tblite_spec("GFN2-xTB", WATER)).older == ("8cb76c9445190e2a",)
    assert fingerprint(aims()).older == ("c41aeaff1e39a406",)
    library = aims()
    executable = AimsCommandSpec(("aims.x",), library.control, library.geometry)
    assert fingerprint(executable).older == ("b871602e8d5e543a",)
    assert fingerprint(executable).value != fingerprint(library).value


def test_an_older_fingerprint_once_seen_stays_known(tmp_path: Path) -> None:
    before, after = fingerprint(aims()), fingerprint(aims("# new\n" + CONTROL))
    (old,) = before.older
    assert not with_older_names(tmp_path, after).matches(old)
    assert not write_down(tmp_path, {})
    assert write_down(tmp_path, {old: before.value})
    assert not write_down(tmp_path, {old: before.value})
    assert with_older_names(tmp_path, after).matches(old)
    other = fingerprint(aims(CONTROL.replace("pbe", "pw-lda")))
    assert not with_older_names(tmp_path, other).matches(old)
