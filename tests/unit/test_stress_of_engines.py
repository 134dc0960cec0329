"""Which engines are asked for a stress, and which are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fhi_al.app.checks import check, label_limits
from fhi_al.core.errors import InputError
from fhi_al.core.structure import Array
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.kind import EngineContext, EngineKind
from fhi_al.engines.registry import added_to_control, engine_problems, engine_specs
from fhi_al.engines.spec import AimsCommandSpec, AseSpec, AsiSpec, EngineSpec
from fhi_al.settings import Settings, read_settings

DIAMOND = """\
lattice_vector 0.0 1.79 1.79
lattice_vector 1.79 0.0 1.79
lattice_vector 1.79 1.79 0.0
atom 0.0 0.0 0.0 C
atom 0.90 0.88 0.89 C
"""
CONTROL = "xc pbe\nk_grid 1 1 1\nspecies C\n  nucleus 6\n"
TBLITE = {"reference_engine": "tblite", "reference_method": "GFN1-xTB"}
ASE = {"reference_engine": "ase", "reference_calculator": "ase.calculators.emt.EMT"}
AIMS = {"reference_engine": "aims", "aims_lib_path": "lib.so", "species_dir": "species"}
CLUSTER = {"parallel": True, "cluster": {"max_jobs": 1}}
COMMAND = {
    "reference_engine": "aims",
    "species_dir": "species",
    "parallel": True,
    "cluster": {"max_jobs": 1, "aims_command": "aims.x"},
}


def settings(folder: Path, stress: bool = True, **al: Any) -> Settings:
    files: Mapping[str, Any] = {
        "mace": {"GENERAL": {"compute_stress": stress}},
        "active_learning": {
            "ACTIVE_LEARNING": {"desired_acc": 0.1, "initial_sampling": "aimd", **al}
        },
    }
    for name, content in files.items():
        (folder / f"{name}_settings.yaml").write_text(yaml.safe_dump(content))
    return read_settings(folder)


def inputs(control: str = CONTROL, geometry: str = DIAMOND) -> Inputs:
    parsed = parse_control(control, Path("control.in"))
    return Inputs.of([parse_geometry(geometry, Path("geometry.in"), parsed.nuclei)], parsed)


@pytest.mark.parametrize("stress", [False, True])
@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (TBLITE, AseSpec),
        (ASE, AseSpec),
        ({**ASE, **CLUSTER}, AseSpec),
        (AIMS, AsiSpec),
        (COMMAND, AimsCommandSpec),
    ],
    ids=["tblite", "ase", "jobs of ase", "library", "executable"],
)
def test_engines_are_asked_for_the_stress_that_the_settings_want(
    tmp_path: Path, keys: dict[str, Any], kind: type[EngineSpec], stress: bool
) -> None:
    chosen = settings(tmp_path, stress, **keys)
    (spec,) = engine_specs(tmp_path, chosen, inputs())
    assert isinstance(spec, kind)
    assert spec.wants_stress == stress
    if kind is not AseSpec:
        assert ("compute_analytical_stress .true." in spec.text) == stress
        added = added_to_control(tmp_path, chosen, inputs())
        assert ("compute_analytical_stress .true." in added) == stress


def test_a_molecule_is_refused_and_no_engine_is_asked_for_its_stress(tmp_path: Path) -> None:
    molecule = inputs("xc pbe\nspecies C\n  nucleus 6\n", "atom 0 0 0 C\natom 0 0 1.3 C\n")
    chosen = settings(tmp_path, **TBLITE)
    (spec,) = engine_specs(tmp_path, chosen, molecule)
    assert not spec.wants_stress
    with pytest.raises(InputError, match=r"GENERAL\.compute_stress = true: geometry\.in is a mol"):
        check(tmp_path, chosen, molecule)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("total_energy_method rpa", "control.in:3: total_energy_method rpa: expected a method"),
        ("external_pressure 0.01", "control.in:3: external_pressure 0.01: expected the stress"),
        ("compute_numerical_stress .true.", "expected no SCFs of strained cells"),
    ],
)
def test_methods_of_fhi_aims_without_a_stress_are_refused(
    tmp_path: Path, line: str, words: str
) -> None:
    given = inputs(CONTROL.replace("species C", f"{line}\nspecies C"))
    chosen = settings(tmp_path, **COMMAND)
    assert any(words in problem for problem in engine_problems(tmp_path, chosen, given))


def test_a_calculator_that_says_it_has_no_stress_is_refused(tmp_path: Path) -> None:
    path = "ase.calculators.tip3p.TIP3P"
    chosen = settings(tmp_path, reference_engine="ase", reference_calculator=path)
    (problem,) = engine_problems(tmp_path, chosen, inputs())
    assert "GENERAL.compute_stress = true" in problem
    assert f"{path} computes energy, forces, no stress" in problem


class Springs:
    """An engine object that does not say that it has a stress."""

    def calculate(self, positions: Array, cell: Array) -> ReferenceResult:
        return ReferenceResult(0.0, np.zeros_like(positions), None, True)

    def close(self) -> None:
        pass


class Stressed(Springs):
    """One that says so."""

    has_stress = True


@pytest.mark.parametrize(("engine", "n_problems"), [(Springs(), 1), (Stressed(), 0)])
def test_an_object_says_itself_that_it_has_a_stress(
    tmp_path: Path, engine: Springs, n_problems: int
) -> None:
    given = replace(inputs(), engine=engine)
    chosen = settings(tmp_path, **TBLITE)
    al = chosen.active_learning.active_learning.model_copy(update={"reference_engine": "object"})
    sections = chosen.active_learning.model_copy(update={"active_learning": al})
    chosen = replace(chosen, active_learning=sections)
    problems = list(engine_problems(tmp_path, chosen, given))
    assert len(problems) == n_problems
    assert all("Springs does not say that it gives a stress" in problem for problem in problems)


def test_a_kind_of_engine_has_no_stress_unless_it_says_so(tmp_path: Path) -> None:
    class Kind(EngineKind):
        def spec(self, run: EngineContext, geometry: Any) -> EngineSpec:
            raise NotImplementedError

    class StressedKind(Kind):
        has_stress = True

    run = EngineContext(tmp_path, settings(tmp_path, **TBLITE), inputs())
    (geometry,) = inputs().geometries
    assert run.wants_stress(geometry)
    assert "reference_engine tblite gives no stress" in str(Kind().stress_problem(run, geometry))
    assert StressedKind().stress_problem(run, geometry) is None


def test_labels_are_judged_by_max_stress_only_where_they_have_one(tmp_path: Path) -> None:
    assert label_limits(settings(tmp_path, False, **TBLITE)).max_stress is None
    assert label_limits(settings(tmp_path, True, max_stress=3, **TBLITE)).max_stress == 3.0
