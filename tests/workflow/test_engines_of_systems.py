"""Several systems, each with an engine of its own: control.in, arguments, reference groups, labels.

Labels are compared with tblite's own calculator, on which the ASI test library stands, too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.calculator import all_changes
from run_folder import (
    CONTROL,
    SMALLEST,
    kill_all,
    labels,
    run,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)
from tblite.ase import TBLite

from fhi_al.app.checks import read_inputs
from fhi_al.app.label_supply import require_same_engines
from fhi_al.labels.label_file import LabelStoreError
from fhi_al.settings import read_settings

pytestmark = [pytest.mark.mpi, pytest.mark.real]

HYDRONIUM = """\
atom 0.00 0.00 0.08 O
atom 0.00 0.94 -0.20 H
atom 0.814 -0.47 -0.20 H
atom -0.814 -0.47 -0.20 H
"""
SYSTEMS = [
    {"name": "water"},
    {"name": "hydronium", "geometry": "hydronium.in", "control": "control_charged.in"},
]
METHODS: list[dict[str, Any]] = [
    {"method": "GFN2-xTB"},
    {"method": "GFN1-xTB", "charge": 1},
]
# In the first round each system, of three at most, has a point of every member.
SMALL: dict[str, Any] = {**SMALLEST, "n_samples": 6}
PARALLEL: dict[str, Any] = {**SMALL, "parallel": True, "num_trajectories": 4}


def two_systems(folder: Path, library: Path, **changes: Any) -> Path:
    """Water, and a cation with another method."""
    write_inputs(
        folder,
        asi_library=library,
        active_learning={"ACTIVE_LEARNING": {**PARALLEL, **changes}, "SYSTEMS": SYSTEMS},
    )
    (folder / "hydronium.in").write_text(HYDRONIUM)
    charged = CONTROL.replace("gfn2", "gfn1") + "charge 1\n"
    (folder / "control_charged.in").write_text(charged)
    return folder


def assert_energies_of(record: dict[str, Any], arguments: dict[str, Any]) -> None:
    """A stored label is what the method gives that its system asks for."""
    atoms = Atoms(record["numbers"], record["positions"])
    calculator = TBLite(verbosity=0, max_iterations=250, **arguments)
    calculator.calculate(atoms, ["energy", "forces"], all_changes)
    # eV and eV/A: both are converged to 1e-6 Hartree, from different densities.
    assert record["energy"] == pytest.approx(calculator.results["energy"], abs=2e-5)
    np.testing.assert_allclose(record["forces"], calculator.results["forces"], atol=1e-3)


def test_each_group_computes_its_system_and_a_killed_run_goes_on(
    asi_library: Path, tmp_path: Path
) -> None:
    folder = two_systems(tmp_path / "run", asi_library)
    job = start(folder, 3, env={"ASI_SLEEP_MS": "30"})
    wait_for_labels(job, folder, 6)
    output = kill_all(job)
    assert "rank 1: labels of water (group 1)" in output
    assert "rank 2: labels of hydronium (group 2)" in output
    before = labels(folder)
    output = succeed(folder, 4)
    assert "ranks 1-2: labels of water (group 1)" in output
    records = labels(folder)
    assert records[: len(before)] == before
    assert len({record["key"] for record in records}) == len(records)
    assert set(Counter(record["system"] for record in records)) == {0, 1}
    assert {record["origin"]["phase"] for record in records} >= {"initial", "active_learning"}
    for record in records:
        assert_energies_of(record, METHODS[record["system"]])


def check_labels(folder: Path, systems: Sequence[dict[str, Any]]) -> None:
    """Return if the labels of a folder are those of these systems."""
    path = folder / "active_learning_settings.yaml"
    values = yaml.safe_load(path.read_text()) | {"SYSTEMS": list(systems)}
    path.write_text(yaml.safe_dump(values))
    settings = read_settings(folder)
    require_same_engines(folder, settings, read_inputs(settings))


def test_arguments_are_of_their_system_and_so_are_labels(tmp_path: Path) -> None:
    systems = [
        {"name": "water"},
        {"name": "hydronium", "geometry": "hydronium.in", "arguments": {"charge": 1}},
    ]
    folder = write_inputs(
        tmp_path / "run",
        active_learning={
            "ACTIVE_LEARNING": {**SMALL, "num_trajectories": 3},
            "SYSTEMS": systems,
        },
    )
    (folder / "hydronium.in").write_text(HYDRONIUM)
    succeed(folder)
    records = labels(folder)
    assert set(Counter(record["system"] for record in records)) == {0, 1}
    for record in records:
        charge = {"charge": 1} if record["system"] == 1 else {}
        assert_energies_of(record, {"method": "GFN2-xTB", **charge})
    # A system more leaves the labels of the others theirs; another method of one does not.
    third = {"name": "cold", "geometry": "hydronium.in", "arguments": {"charge": 1}}
    check_labels(folder, [*systems, third])
    changed = systems[1] | {"arguments": {"charge": 1, "electronic_temperature": 1000}}
    with pytest.raises(LabelStoreError, match="label of system hydronium was computed by another"):
        check_labels(folder, [systems[0], changed])
    # Of one system alone they would be called what they are called beside others.
    lines = (folder / "restart" / "labels.jsonl").read_text().splitlines()
    of_water = [line for line in lines if json.loads(line)["label"]["system"] == 0]
    (folder / "restart" / "labels.jsonl").write_text("\n".join(of_water) + "\n")
    check_labels(folder, [systems[0]])


@pytest.mark.parametrize(
    ("ranks", "changes", "messages"),
    [
        (1, {"parallel": False}, ["parallel = false", "reference_groups: 2", "set cluster"]),
        (3, {"reference_groups": 1}, ["reference_groups = 1", "water, hydronium"]),
        (2, {}, ["reference_groups", "2 systems needs processes of its own", "mpirun -n"]),
    ],
)
def test_systems_without_a_group_each_are_refused(
    asi_library: Path, tmp_path: Path, ranks: int, changes: dict[str, Any], messages: list[str]
) -> None:
    folder = two_systems(tmp_path / "run", asi_library, **changes)
    for options in ([], ["--check"]):
        code, output = run(folder, ranks, *options)
        assert code == 2, output
        for message in messages:
            assert message in output
    assert not (folder / "restart" / "labels.jsonl").exists()
