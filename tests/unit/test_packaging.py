"""What is published says the same everywhere: version, licence, dependencies, commands, Pythons."""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_citation_is_of_this_version() -> None:
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    (author,) = CITATION["authors"]
    assert author["name"] in (ROOT / "LICENSE").read_text()


def test_the_conda_recipe_has_what_the_package_says() -> None:
    folder = ROOT / "packaging" / "conda"

    def load_file_data(name: str, from_recipe_dir: bool) -> Any:  # conda-build's
        return tomllib.loads((folder / name).read_text())

    template = jinja2.Template((folder / "meta.yaml").read_text())
    recipe = yaml.safe_load(template.render(load_file_data=load_file_data, PYTHON="python"))
    assert recipe["package"] == {"name": PROJECT["name"], "version": PROJECT["version"]}
    needed = {re.split(r"\W", each.replace("-", "_"))[0] for each in recipe["requirements"]["run"]}
    assert {
        "python",
        "pytorch",
        "torch_ema",
        "mace_torch",
        "ase",
    } <= needed and "torch" not in needed
    assert len(recipe["build"]["entry_points"]) == len(PROJECT["scripts"])


def test_the_hosted_matrix_is_that_of_the_script() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    hosted = workflow["jobs"]["matrix"]["strategy"]["matrix"]
    script = (ROOT / ".ci" / "matrix").read_text()
    (pythons,) = re.findall(r"for python in ([\d. ]+); do", script)
    assert pythons.split() == hosted["python"]
    for python, resolution in itertools.product(["$python"], hosted["resolution"]):
        assert f'"{python}:{resolution}"' in script
    assert PROJECT["requires-python"] == f">={hosted['python'][0]}"


def test_every_script_and_extra_that_a_workflow_names_exists() -> None:
    for workflow in WORKFLOWS:
        text = workflow.read_text()
        yaml.safe_load(text)
        for script in re.findall(r"\.ci/\w+", text):
            if script != ".ci/":
                assert os.access(ROOT / script, os.X_OK), script
        for extras in re.findall(r'"\.\[([\w,]+)\]"', text):
            assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
