"""The names of the engines and the keys that are theirs, which each engine declares."""

from __future__ import annotations

import tomllib
from pathlib import Path

from fhi_al.settings.cross_checks import selectors
from fhi_al.settings.engine_names import BUILT_IN, owners
from fhi_al.settings.keys import key_at


def test_the_project_names_the_engines_that_are_built_in() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["fhi_al.engines"] == BUILT_IN


def test_every_key_of_an_engine_is_a_key_of_the_settings() -> None:
    for key in owners():
        key_at("active_learning", f"ACTIVE_LEARNING.{key}")


def test_the_engines_say_which_keys_are_theirs() -> None:
    wanted = {
        "aims_lib_path": ("aims",),
        "species_dir": ("aims",),
        "cluster.aims_command": ("aims",),
        "reference_method": ("tblite",),
        "reference_calculator": ("ase",),
        "reference_arguments": ("tblite", "ase"),
        "reuse_calculator": ("ase",),
        "scf_warm_start": ("tblite", "ase"),
    }
    found = owners()
    # Others may be added, by us or by packages that happen to be installed.
    assert found.keys() >= wanted.keys()
    for key, names in wanted.items():
        assert set(names) <= set(found[key])
        assert selectors()[f"ACTIVE_LEARNING.{key}"] == ("reference_engine", found[key])
