"""Dimers and crystals that lack an atom: which there are, and what the engine is told of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.data import covalent_radii
from label_parts import some_label

from fhi_al.app.checks import geometry_limits
from fhi_al.app.choices import InitialDataset
from fhi_al.app.derived import with_derived
from fhi_al.app.displaced import displaced_list, displaced_problems
from fhi_al.app.systems_apart import apart_problems
from fhi_al.core.derived import dimer_distances, element_pairs, order_without, vacancy_sites
from fhi_al.core.displaced import Kind
from fhi_al.core.label import DERIVED_KINDS, DISPLACED_KINDS, Origin, of_systems
from fhi_al.engines import registry
from fhi_al.engines.aims_input.atomic import control_apart
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.inputs import Inputs, SystemInput
from fhi_al.settings import Settings, read_settings

WATER = "atom 0 0 0.1173 O\natom 0 0.7572 -0.4692 H\natom 0 -0.7572 -0.4692 H\n"
SALT = """\
lattice_vector 5.64 0 0
lattice_vector 0 5.64 0
lattice_vector 0 0 5.64
atom_frac 0 0 0 Na
  initial_charge 1.0
atom_frac 0.5 0 0 Cl
  initial_charge -1.0
atom_frac 0.5 0.5 0 Na
  initial_charge 1.0
atom_frac 0 0.5 0 Cl
  initial_charge -1.0
atom_frac 0.5 0 0.5 Na
  initial_charge 1.0
atom_frac 0 0 0.5 Cl
  initial_charge -1.0
atom_frac 0 0.5 0.5 Na
  initial_charge 1.0
atom_frac 0.5 0.5 0.5 Cl
  initial_charge -1.0
"""
E0S = {1: -10.0, 8: -100.0, 11: -5.0, 17: -120.0}
CONTROL = """\
xc pbe
spin none
charge 1.0
k_grid 2 2 2
compute_analytical_stress .true.
vdw_correction_hirshfeld
homogeneous_field 0 0 0.1
KS_method parallel
  species H
    nucleus 1
  species O
    nucleus 8
"""


def settings_of(
    folder: Path,
    energies: dict[int, float] | None = E0S,
    sections: dict[str, Any] | None = None,
    **keys: Any,
) -> Settings:
    al = {"max_MD_steps": 100, "reference_engine": "tblite", "initial_sampling": "displaced"}
    mace: dict[str, Any] = {"GENERAL": {"name_exp": "a"}}
    if energies:
        mace["ARCHITECTURE"] = {"atomic_energies": energies}
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    (folder / "active_learning_settings.yaml").write_text(
        yaml.safe_dump({"ACTIVE_LEARNING": al | keys, **(sections or {})})
    )
    return read_settings(folder)


def inputs_of(text: str, control: str | None = None) -> Inputs:
    read = None if control is None else parse_control(control, Path("control.in"))
    return Inputs.of((parse_geometry(text, Path("geometry.in")),), read)


def test_the_kinds_are_those_that_labels_know() -> None:
    assert tuple(map(str, Kind)) == DISPLACED_KINDS
    assert set(DERIVED_KINDS) < set(DISPLACED_KINDS)


def test_averages_are_without_those_that_judge_nothing() -> None:
    own, dimer = some_label(1), some_label(2, origin=Origin("initial", 0, 3, source="dimer"))
    assert of_systems([own, dimer]) == [own]
    assert of_systems([dimer]) == [dimer]


def test_every_pair_of_elements_is_there_once() -> None:
    assert element_pairs([8, 1, 1]) == [(1, 1), (1, 8), (8, 8)]


def test_distances_of_dimers_go_from_contact_to_below_the_cutoff() -> None:
    found = dimer_distances(1.0, 8.0, 3)
    assert found == pytest.approx([1.0, 2.0, 4.0])
    assert dimer_distances(2.0, 2.0, 3) == []


def test_vacancies_take_the_elements_in_turn_and_each_site_once() -> None:
    salt = parse_geometry(SALT, Path("geometry.in")).structure
    sites = vacancy_sites(salt, 8, 3)
    assert sorted(sites) == list(range(8))
    assert [int(salt.numbers[site]) for site in sites] == [11, 17] * 4
    assert vacancy_sites(salt, 8, 3) == sites != vacancy_sites(salt, 8, 4)
    numbers = {tuple(salt.numbers[order_without(salt, site)]) for site in sites}
    assert numbers == {(11,) * 3 + (17,) * 4, (11,) * 4 + (17,) * 3}


def test_derived_systems_come_last_and_do_not_move(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, displaced={"dimers": 2, "vacancies": 4})
    inputs = with_derived(settings, inputs_of(SALT))
    assert [one.moves for one in inputs.each] == [True] + 5 * [False]
    assert inputs.names == (
        "",
        *("Na-Na_dimer", "Na-Cl_dimer", "Cl-Cl_dimer"),
        *("Na_vacancy_1", "Cl_vacancy_2"),
    )
    assert with_derived(settings, inputs).names == inputs.names  # not once more
    sodium, chlorine = inputs.each[4:]
    assert sodium.structure.initial_charges.tolist() == [1.0] * 3 + [-1.0] * 4
    assert chlorine.structure.pbc and chlorine.geometry.species == ("Na",) * 4 + ("Cl",) * 3


def test_a_system_that_joins_a_run_moves_none_from_its_place(tmp_path: Path) -> None:
    keys = {"displaced": {"dimers": 2, "rattled": 1}}
    water = SystemInput(parse_geometry(WATER, Path("water.in")), name="water")
    salt = SystemInput(parse_geometry(SALT, Path("salt.in")), name="salt")
    settings = settings_of(tmp_path, sections={"SYSTEMS": [{"name": "water"}]}, **keys)
    before = with_derived(settings, Inputs((water,))).names
    assert before == ("water", "H-H_dimer", "O-H_dimer", "O-O_dimer")
    sections = {"SYSTEMS": [{"name": "water"}, {"name": "salt"}]}
    settings = settings_of(tmp_path, sections=sections, **keys)
    inputs = with_derived(settings, Inputs((water, salt))).in_order(before)
    assert inputs.names[:4] == before and inputs.names[4] == "salt"
    assert len(inputs.each) == 2 + 10
    found = displaced_list(settings, inputs, geometry_limits(settings)).first
    for each in found:
        assert len(each.positions) == len(inputs.systems[each.system])
        assert (each.kind is Kind.DIMER) == (not inputs.each[each.system].moves)
    # Those of the run were labelled long ago: only what has come is sampled.
    added = displaced_list(settings, inputs, geometry_limits(settings)).only(range(4, 12))
    assert Counter(each.kind for each in added.first) == {Kind.RATTLED: 1, Kind.DIMER: 14}
    assert min(each.system for each in added.first) == 4


def test_the_list_holds_them_with_their_systems(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, displaced={"dimers": 3, "vacancies": 4, "rattled": 2})
    inputs = with_derived(settings, inputs_of(SALT))
    found = displaced_list(settings, inputs, geometry_limits(settings))
    assert found.described() == "2 rattled, 9 dimer, 4 vacancy; further ones when these are used up"
    for each in found.first:
        system = inputs.systems[each.system]
        assert each.positions.shape == (len(system), 3)
        if each.kind is Kind.DIMER:
            distance = np.linalg.norm(each.positions[1] - each.positions[0])
            assert 0.8 * covalent_radii[system.numbers].sum() - 1e-9 <= distance < 5.0
        elif each.kind is Kind.VACANCY:
            assert 0.0 < np.abs(each.positions - system.positions).max() < 6.0
    # Rattled only, when the list goes on.
    further = [found.structure(len(found.first) + k) for k in range(4)]
    assert {each.kind for each in further if each is not None} == {Kind.RATTLED}


def test_what_is_of_the_whole_system_does_not_reach_a_dimer(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        reference_arguments={"charge": 2, "multiplicity": 3, "accuracy": 0.5},
        displaced={"dimers": 1},
    )
    inputs = with_derived(settings, inputs_of(WATER))
    specs = registry.engine_specs(tmp_path, settings, inputs)
    assert dict(specs[0].arguments)["charge"] == 2
    # O has two unpaired electrons, H one: against each other one is left.
    for spec, unpaired in zip(specs[1:], (0, 1, 0), strict=True):
        given = dict(spec.arguments)
        assert "charge" not in given and given["accuracy"] == 0.5
        assert given.get("multiplicity") in (None, unpaired + 1)
        assert spec.structure.initial_moments.sum() == unpaired
    assert [tuple(spec.structure.numbers) for spec in specs[1:]] == [(1, 1), (8, 1), (8, 8)]
    # tblite would refuse another number of unpaired electrons.
    assert list(registry.engine_problems(tmp_path, settings, inputs)) == []


def test_control_in_of_a_dimer_is_that_of_a_molecule() -> None:
    control = parse_control(CONTROL, Path("control.in"))
    found = control_apart(control, ("H", "H"))
    keywords = {keyword for _, keyword, _ in found.keywords()}
    assert not keywords & {"charge", "k_grid", "homogeneous_field", "compute_analytical_stress"}
    # Dispersion is part of the energy; how it is solved is the user's.
    assert {"xc", "vdw_correction_hirshfeld", "ks_method"} <= keywords
    assert [values for _, keyword, values in found.keywords() if keyword == "spin"] == [
        ["collinear"]
    ]
    assert list(found.nuclei) == ["H"]


def test_a_dimer_of_a_crystal_gets_no_k_points_from_fhi_aims(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        reference_engine="aims",
        species_dir="species",
        parallel=True,
        cluster={"aims_command": "aims.x"},
        displaced={"dimers": 1},
    )
    lattice = "".join(f"lattice_vector {v}\n" for v in ("9 0 0", "0 9 0", "0 0 9"))
    inputs = with_derived(settings, inputs_of(lattice + WATER, CONTROL))
    crystal, *dimers = registry.engine_specs(tmp_path, settings, inputs)
    assert "k_grid 2 2 2" in crystal.text and "charge 1.0" in crystal.text
    for spec in dimers:
        assert "k_grid" not in spec.text and "charge" not in spec.text
        assert "spin collinear" in spec.text and "compute_forces .true." in spec.text
        assert not spec.structure.pbc
    # Antiparallel, largest first: far apart each atom is as it is alone.
    assert dimers[1].structure.initial_moments.tolist() == [2.0, -1.0]


@pytest.mark.parametrize(
    ("geometry", "energies", "keys", "message"),
    [
        (WATER, None, {"dimers": 1}, "needs ARCHITECTURE.atomic_energies"),
        (WATER, E0S, {"vacancies": 1}, "is a molecule, which has no cell"),
        (SALT, None, {"vacancies": 1}, "needs ARCHITECTURE.atomic_energies"),
        (SALT, E0S, {"vacancies": 1, "dimers": 2}, None),
    ],
)
def test_what_they_need_is_said_before(
    tmp_path: Path,
    geometry: str,
    energies: dict[int, float] | None,
    keys: dict[str, Any],
    message: str | None,
) -> None:
    settings = settings_of(tmp_path, energies, displaced=keys)
    inputs = with_derived(settings, inputs_of(geometry))
    found = "\n".join(displaced_problems(settings, inputs, geometry_limits(settings)))
    assert found == "" if message is None else message in found


def test_they_count_for_the_budget(tmp_path: Path) -> None:
    keys = {"n_samples": 5, "ensemble_size": 2, "displaced": {"dimers": 3}}
    for budget, refused in ((19, True), (20, False)):
        settings = settings_of(tmp_path, label_budget=budget, **keys)
        inputs = with_derived(settings, inputs_of(WATER))
        found = list(displaced_problems(settings, inputs, geometry_limits(settings)))
        assert bool(found) == refused
        assert not found or "9 dimers and vacancies come on top of the 10" in found[0]


def test_every_system_has_its_own_from_all_its_starts(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        displaced={"rattled": 4, "strained": 2, "dimers": 1, "rattle": 0.01},
        sections={"SYSTEMS": [{"name": "water"}, {"name": "salt"}]},
    )
    water = parse_geometry(WATER, Path("geometry.in"))
    bent = water.structure.positions * np.array([1.0, 1.1, 1.0])
    starts = ((water.structure.positions, water.structure.cell), (bent, water.structure.cell))
    own = Inputs(
        (
            SystemInput(water, name="water", starts=starts),
            SystemInput(parse_geometry(SALT, Path("salt.in")), name="salt"),
        )
    )
    inputs = with_derived(settings, own)
    found = displaced_list(settings, inputs, geometry_limits(settings)).first
    kinds = Counter((each.system, each.kind) for each in found)
    assert kinds[0, Kind.RATTLED] == kinds[1, Kind.RATTLED] == 4
    assert (0, Kind.STRAINED) not in kinds and kinds[1, Kind.STRAINED] == 2
    # Dimers of the elements of all systems.
    assert sum(kind is Kind.DIMER for _, kind in kinds) == 10
    nearest = [
        min((np.abs(each.positions - start).max(), k) for k, (start, _) in enumerate(starts))
        for each in found
        if each.system == 0
    ]
    assert {k for _, k in nearest} == {0, 1} and max(nearest)[0] < 0.06


def test_python_gives_a_list_of_sources_too() -> None:
    several = InitialDataset(["displaced", "my:Calculator"], displaced={"dimers": 3}).keys()
    assert several["initial_sampling"] == ["displaced", "foundation"]
    assert several["foundation_calculator"] == "my:Calculator"
    assert several["displaced"] == {"dimers": 3}
    one = InitialDataset("aimd").keys()
    assert one["initial_sampling"] == ["aimd"] and "displaced" not in one


def test_fhi_aims_as_a_library_is_told_the_way_out(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        reference_engine="aims",
        species_dir="species",
        aims_lib_path="aims.so",
        displaced={"dimers": 1},
    )
    inputs = with_derived(settings, inputs_of(WATER, CONTROL))
    (problem,) = apart_problems(settings, inputs)
    assert "4 systems (geometry.in, H-H_dimer, O-H_dimer, O-O_dimer)" in problem
    assert "cluster" in problem
