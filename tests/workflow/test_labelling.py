"""FHI_AL-label: the structures of a file, each computed once, whatever ends a launch."""

from __future__ import annotations

import functools
import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.stress import voigt_6_to_full_3x3_stress
from run_folder import (
    CONTROL,
    SPECIES,
    WATER,
    copy_of,
    finish,
    kill_all,
    killed_status,
    python_path,
    ranks_of,
    run,
    start,
    succeed,
    wait_until,
)
from tblite.ase import TBLite

from fhi_al.report.status_file import look_at

pytestmark = [pytest.mark.mpi, pytest.mark.real]

COMMAND = "FHI_AL-label"
REAL = Path(__file__).parents[1] / "real"
STARTED_S = 4.0
# Where a structure of tests/real/failing_calculator.py takes a second, in A.
SLOW = 600.0


def inputs(folder: Path, asi_library: Path | None = None, **keys: Any) -> Path:
    """A folder for the command: an engine and no more."""
    folder.mkdir()
    engine: dict[str, Any] = {"reference_engine": "tblite", "reference_method": "GFN2-xTB"}
    if asi_library is not None:
        (folder / "species").mkdir()
        for name, text in SPECIES.items():
            (folder / "species" / f"{name}_default").write_text(text)
        (folder / "control.in").write_text(CONTROL)
        engine = {"aims_lib_path": str(asi_library), "species_dir": "species"}
    misc = keys.pop("misc", {})
    content = {"ACTIVE_LEARNING": engine | keys, "MISC": misc}
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(content))
    return folder


def rattled(name: str, seed: int) -> Atoms:
    atoms = bulk("C") if name == "C" else molecule(name)
    atoms.rattle(0.05, seed=seed)
    atoms.info |= {"seed": seed, "config_type": f"{name} rattled"}
    atoms.arrays["site"] = 10 * seed + np.arange(len(atoms))
    return atoms


def write(path: Path, names: list[str]) -> Path:
    """Structures of these names, all different."""
    frames = [rattled(name, seed) for seed, name in enumerate(names)]
    ase.io.write(path, frames, format="extxyz")
    return path


def store(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "labelled" / "labels.jsonl").read_text().splitlines()
    return [json.loads(line)["label"] for line in lines]


def n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def assert_labelled(output: Path, file: Path, *, stress: bool = False) -> None:
    """In the order of the file, with what it carried, and xTB's own labels of each structure."""
    found, given = ase.io.read(output, ":"), ase.io.read(file, ":")
    assert [atoms.info["seed"] for atoms in found] == [atoms.info["seed"] for atoms in given]
    for atoms, before in zip(found, given, strict=True):
        assert atoms.info["config_type"] == before.info["config_type"]
        assert atoms.arrays["site"].tolist() == before.arrays["site"].tolist()
        np.testing.assert_array_equal(atoms.positions, before.positions)
        expected = own_label(
            tuple(before.numbers.tolist()),
            before.positions.tobytes(),
            before.cell.array.tobytes(),
            bool(before.pbc.all()),
        )
        # eV and eV/A; extended xyz holds eight decimals, the ASI library's units others than ASE's.
        assert atoms.info["REF_energy"] == pytest.approx(expected["energy"], abs=1e-7)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], expected["forces"], atol=1e-7)
        assert ("REF_stress" in atoms.info) == (stress and bool(before.pbc.all()))
        if "REF_stress" in atoms.info:
            found_stress = voigt_6_to_full_3x3_stress(expected["stress"])
            np.testing.assert_allclose(atoms.info["REF_stress"], found_stress, atol=1e-7)  # eV/A^3


@functools.cache
def own_label(
    numbers: tuple[int, ...], positions: bytes, cell: bytes, is_crystal: bool
) -> dict[str, Any]:
    """xTB's own results of a structure; a crystal takes it seconds."""
    atoms = Atoms(
        numbers,
        np.frombuffer(positions).reshape(-1, 3),
        cell=np.frombuffer(cell).reshape(3, 3),
        pbc=is_crystal,
    )
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    atoms.get_potential_energy()
    results: dict[str, Any] = atoms.calc.results
    return results


def test_structures_of_any_composition_are_computed_once(tmp_path: Path) -> None:
    names = ["H2O", "C", "CH3CH2OH", "H2O", "C", "NH3"]
    folder = inputs(tmp_path / "run")
    file = write(tmp_path / "some.xyz", names)
    output = succeed(folder, 2, str(file), "--check", command=COMMAND)
    assert "0 of 6 different structures" in output and "all inputs are in order" in output
    assert "6 structures: 2 H2O (molecule), 2 C2 (crystal), 1 H6C2O (molecule)" in output
    assert not (folder / "labelled").exists()
    output = succeed(folder, 2, str(file), command=COMMAND)
    assert "1 rank(s) have nothing to do: with parallel: true each would compute" in output
    assert_labelled(folder / "labelled" / "some.xyz", file)
    assert len(store(folder)) == 6
    # Others beside them, in another order: only what is new is computed.
    more = [*ase.io.read(file, ":")[::-1], rattled("CH4", 9)]
    ase.io.write(tmp_path / "more.xyz", more)
    succeed(folder, 1, str(tmp_path / "more.xyz"), "-o", str(tmp_path / "l.xyz"), command=COMMAND)
    assert_labelled(tmp_path / "l.xyz", tmp_path / "more.xyz")
    assert len(store(folder)) == 7
    # A stress that no label has is computed, and a label that has one does without.
    succeed(folder, 1, str(file), "--stress", command=COMMAND)
    assert_labelled(folder / "labelled" / "some.xyz", file, stress=True)
    assert len(store(folder)) == 9
    succeed(folder, 1, str(file), command=COMMAND)
    assert_labelled(folder / "labelled" / "some.xyz", file)
    assert len(store(folder)) == 9


def test_another_engine_gives_other_labels_and_mixes_none(tmp_path: Path) -> None:
    folder, file = inputs(tmp_path / "run"), write(tmp_path / "some.xyz", ["H2O", "NH3"])
    settings = folder / "active_learning_settings.yaml"
    text = settings.read_text()

    def energies(method: str) -> list[float]:
        settings.write_text(text.replace("GFN2", method))
        succeed(folder, 1, str(file), command=COMMAND)
        frames = ase.io.read(folder / "labelled" / "some.xyz", ":")
        return [atoms.info["REF_energy"] for atoms in frames]

    second, first = energies("GFN2"), energies("GFN1")
    assert all(abs(a - b) > 0.1 for a, b in zip(first, second, strict=True))  # eV
    assert len(store(folder)) == 4
    assert energies("GFN2") == second
    assert len(store(folder)) == 4


def kill_some_time(job: subprocess.Popen[str], calls: Path, at: int, delay_s: float) -> None:
    """Kill a launch when so many calls have been counted, or some time later."""
    wait_until(job, lambda: n_lines(calls) >= at, f"{at} calls")
    time.sleep(delay_s)
    assert job.poll() is None, finish(job)[1]
    kill_all(job)


@pytest.mark.parametrize(
    ("n_structures", "groups"),
    [
        (40, False),
        (40, True),
        pytest.param(200, False, marks=pytest.mark.slow),
        pytest.param(200, True, marks=pytest.mark.slow),
    ],
)
def test_killed_five_times_none_is_computed_twice_and_none_is_lost(
    asi_library, tmp_path: Path, n_structures: int, groups: bool
) -> None:
    """But for those that were being computed: one in each group."""
    keys = {"parallel": True, "reference_groups": 2} if groups else {}
    folder = inputs(tmp_path / "run", asi_library, **keys)
    file = write(tmp_path / "some.xyz", ["H2O"] * n_structures)
    calls = tmp_path / "calls.txt"
    environment = {"ASI_LOG": str(calls), "ASI_SLEEP_MS": "40"}
    generator = random.Random(f"{n_structures} structures, {groups}")
    for kill in range(5):
        # The one in the middle while it starts.
        ranks = 3 if groups else 1 + kill % 3
        job = start(folder, ranks, str(file), command=COMMAND, env=environment, preload=kill != 2)
        if kill == 2:
            time.sleep(generator.uniform(0.1, STARTED_S / 4))
            kill_all(job)
        else:
            at = int((kill + 1) * n_structures / 8)
            kill_some_time(job, calls, max(at, n_lines(calls) + 1), generator.uniform(0, 0.05))
        assert not ranks_of(folder)
        assert not (folder / "labelled" / "some.xyz").exists()
    seen = killed_status(folder / "labelled")
    assert seen.condition == "killed"
    assert n_structures / 4 < seen.content["labels"]["computed"] <= len(store(folder))
    succeed(folder, 3, str(file), command=COMMAND, env=environment)
    seen = look_at(folder / "labelled", time.time())
    assert seen.condition == "finished" and len(seen.content["ranks"]) == 2 + groups
    assert seen.content["bars"][0]["done"] == seen.content["labels"]["computed"] == n_structures
    assert_labelled(folder / "labelled" / "some.xyz", file)
    assert len({record["key"] for record in store(folder)}) == len(store(folder)) == n_structures
    assert n_structures <= n_lines(calls) <= n_structures + 5 * (2 if groups else 1)
    before = n_lines(calls)
    succeed(folder, 2 if not groups else 3, str(file), command=COMMAND, env=environment)
    assert n_lines(calls) == before


def test_groups_of_ranks_share_structures_of_many_systems(tmp_path: Path) -> None:
    """More systems than engines that a rank keeps; counted by the calculator itself."""
    calls = tmp_path / "calls.txt"
    folder = inputs(
        tmp_path / "run",
        reference_engine="ase",
        reference_calculator="failing_calculator.FailingCalculator",
        reference_arguments={"calls": str(calls)},
        parallel=True,
    )
    settings = yaml.safe_load((folder / "active_learning_settings.yaml").read_text())
    del settings["ACTIVE_LEARNING"]["reference_method"]
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(settings))
    kinds = ["H2O", "NH3", "CH4", "CH3OH", "HCN", "H2CO", "CO2", "N2", "CO", "HF", "C2H2", "C2H4"]
    frames = [rattled(name, seed) for seed, name in enumerate(kinds * 2)]
    for atoms in (frames[11], frames[23]):  # the last system: takes a second each
        atoms.positions[:, 0] += SLOW + atoms.info["seed"] - atoms.positions[0, 0]
    file = tmp_path / "some.xyz"
    ase.io.write(file, frames)
    how: dict[str, Any] = {"command": COMMAND, "env": {"PYTHONPATH": python_path(REAL)}}
    job = start(folder, 3, str(file), **how)
    kill_some_time(job, calls, 5, 0.0)
    output = succeed(folder, 3, str(file), **how)
    assert "labels by 2 group(s) of 2 rank(s)" in output
    assert_labelled(folder / "labelled" / "some.xyz", file)
    assert len(store(folder)) == 24 <= n_lines(calls) <= 26
    assert len(set(calls.read_text().split())) == 24


@pytest.mark.parametrize("how", ["SIGTERM", "STOP", "walltime"])
def test_asked_to_stop_it_ends_with_what_it_has_and_goes_on(
    asi_library, tmp_path: Path, how: str
) -> None:
    misc = {"walltime_limit": 1.0} if how == "walltime" else {}
    keys = {"parallel": True} if how == "STOP" else {}
    folder = inputs(tmp_path / "run", asi_library, misc=misc, **keys)
    file = write(tmp_path / "some.xyz", ["H2O"] * 30)
    calls = tmp_path / "calls.txt"
    environment = {"ASI_LOG": str(calls), "ASI_SLEEP_MS": "100"}
    job = start(folder, 2, str(file), command=COMMAND, env=environment)
    wait_until(job, lambda: n_lines(calls) >= 2, "2 calls")
    if how == "SIGTERM":
        job.send_signal(signal.SIGTERM)
    elif how == "STOP":
        (folder / "labelled" / "STOP").touch()
    code, output = finish(job)
    assert code == 3, output
    assert "run the same command again to continue" in output and "Traceback" not in output
    # What was under way was waited for.
    assert 2 <= len(store(folder)) == n_lines(calls) < 30
    assert not (folder / "labelled" / "some.xyz").exists()
    settings = folder / "active_learning_settings.yaml"
    settings.write_text(settings.read_text().replace("walltime_limit: 1.0", "walltime_limit: 100"))
    succeed(folder, 2, str(file), command=COMMAND, env=environment | {"ASI_SLEEP_MS": "0"})
    assert_labelled(folder / "labelled" / "some.xyz", file)
    assert n_lines(calls) == 30


def test_failures_are_kept_with_their_reasons_and_tried_again_if_asked(
    asi_library, tmp_path: Path
) -> None:
    folder = inputs(tmp_path / "run", asi_library)
    file = write(tmp_path / "some.xyz", ["H2O"] * 6)
    output, calls = folder / "labelled" / "some.xyz", tmp_path / "calls.txt"
    fails = {"ASI_FAIL_AT": "2,5", "ASI_NAN_AT": "3", "ASI_LOG": str(calls)}
    code, text = run(folder, 2, str(file), command=COMMAND, env=fails)
    assert code == 1, text
    assert "3 of 6 structures" in text and "have no label" in text and "Traceback" not in text
    seen = look_at(folder / "labelled", time.time())
    assert seen.condition == "failed" and "3 of 6 structures" in seen.message
    assert seen.content["labels"]["discarded"] == 3
    assert "frames 2,5: the SCF did not converge" in text
    found = ase.io.read(output, ":")
    assert [atoms.info["seed"] for atoms in found] == list(range(6))
    reasons = [atoms.info.get("REF_failure", "") for atoms in found]
    assert ["converge" in reason for reason in reasons] == [False, True, False, False, True, False]
    assert "not finite" in reasons[2]
    for atoms, reason in zip(found, reasons, strict=True):
        assert ("REF_energy" in atoms.info) == ("REF_forces" in atoms.arrays) == (not reason)
        assert atoms.arrays["site"][0] == 10 * atoms.info["seed"]
    # The same command says the same, and computes nothing.
    code, text = run(folder, 1, str(file), command=COMMAND, env=fails)
    assert code == 1 and n_lines(calls) == 6
    succeed(folder, 1, str(file), "--retry", command=COMMAND, env={"ASI_LOG": str(calls)})
    assert_labelled(output, file)
    assert n_lines(calls) == 9


def test_an_engine_that_computes_nothing_ends_the_launch(asi_library, tmp_path: Path) -> None:
    folder = inputs(tmp_path / "run", asi_library, max_label_failures=3)
    file = write(tmp_path / "some.xyz", ["H2O"] * 6)
    fails = {"ASI_FAIL_AT": "1,2,3,4,5,6"}
    code, text = run(folder, 2, str(file), command=COMMAND, env=fails)
    assert code == 1 and "the last 3 labels were discarded" in text, text
    assert len(store(folder)) == 3 and not (folder / "labelled" / "some.xyz").exists()
    # The next one goes on behind these.
    code, text = run(folder, 2, str(file), command=COMMAND)
    assert code == 1 and "3 of 6 structures" in text, text
    assert len(store(folder)) == 6


def test_wrong_structures_are_named_by_frame_and_nothing_is_written(
    asi_library, tmp_path: Path
) -> None:
    folder = inputs(tmp_path / "run", asi_library)
    frames = [rattled("H2O", 0), rattled("H2O", 1), rattled("H2O", 2), rattled("H2O", 3)]
    frames[1].positions[1] = frames[1].positions[0]
    frames[2].positions[0, 0] = np.nan
    ase.io.write(tmp_path / "some.traj", [*frames, Atoms()])
    before = sorted(tmp_path.rglob("*"))
    for options in ([], ["--check"]):
        code, text = run(folder, 2, str(tmp_path / "some.traj"), *options, command=COMMAND)
        assert code == 2 and "nothing was run" in text and "Traceback" not in text, text
        for message in (
            "frame 2: atoms 1 and 2 overlap",
            "frame 3: a position is not finite",
            "frame 5: has no atoms",
        ):
            assert f"{tmp_path / 'some.traj'}: {message}" in text
        assert sorted(tmp_path.rglob("*")) == before


def test_a_library_refuses_other_systems_by_frame(asi_library, tmp_path: Path) -> None:
    folder = inputs(tmp_path / "run", asi_library)
    (folder / "geometry.in").write_text(WATER)
    file = write(tmp_path / "some.xyz", ["H2O", "H2O2", "H2O", "H2O2"])
    code, text = run(folder, 1, str(file), "--check", command=COMMAND)
    assert code == 2, text
    assert (
        f"{file}: frames 2,4: other atoms (H2O2 (molecule)) than frame 1 (H2O (molecule))" in text
    )
    assert "files of their own" in text and "ACTIVE_LEARNING.cluster" in text
    file = write(tmp_path / "some.xyz", ["NH3", "NH3"])
    code, text = run(folder, 1, str(file), "--check", command=COMMAND)
    assert code == 2 and "no species file for N" in text, text
    file = write(tmp_path / "some.xyz", ["C", "C"])
    code, text = run(folder, 1, str(file), "--check", command=COMMAND)
    assert code == 2 and "no k_grid, but some.xyz has lattice vectors" in text, text


def test_what_an_engine_cannot_do_is_said_of_its_frames(tmp_path: Path) -> None:
    folder = inputs(tmp_path / "run")
    odd = Atoms("UO2", [[0, 0, 0], [0, 0, 1.8], [0, 0, -1.8]])
    odd[0].number = 100  # xTB knows no fermium
    ase.io.write(tmp_path / "some.xyz", [molecule("H2O"), odd])
    code, text = run(folder, 1, str(tmp_path / "some.xyz"), "--check", command=COMMAND)
    assert code == 2, text
    assert f"{tmp_path / 'some.xyz'}: frame 2: " in text and "tblite cannot compute" in text
    ase.io.write(tmp_path / "some.xyz", [molecule("H2O"), molecule("H2O")[:2]])
    options = [str(tmp_path / "some.xyz"), "--check"]
    text = succeed(folder, 1, *options, command=COMMAND)
    assert "frame 2: some.xyz: an odd number of electrons" in text
    for wrong, message in (
        (["--stress"], "--stress: "),
        (["--select", "1"], "--select and --model: expected both or none"),
        (["-o", options[0]], "would be overwritten"),
        (["-o", str(folder / "active_learning_settings.yaml")], "is there, and is not what"),
        (["--select", "1", "--model", "no.model"], "no.model: no such file"),
    ):
        code, text = run(folder, 1, *options, *wrong, command=COMMAND)
        assert code == 2 and message in text, text
    code, text = run(folder, 1, str(tmp_path / "no.xyz"), command=COMMAND)
    assert code == 2 and "no.xyz: no such file" in text
    assert not (folder / "labelled").exists()


def test_labels_of_the_runs_own_system_are_the_runs(finished_run, tmp_path: Path) -> None:
    """In the run's own folder, beside it."""
    folder = copy_of(finished_run("asi", 1), tmp_path / "run")
    stored = (folder / "restart" / "labels.jsonl").read_bytes()
    file = folder / "data" / "final" / "validation" / "combined.xyz"
    succeed(folder, 2, str(file), command=COMMAND)
    before, after = ase.io.read(file, ":"), ase.io.read(folder / "labelled" / "combined.xyz", ":")
    assert len(before) == len(after) > 2
    for one, other in zip(before, after, strict=True):
        # The positions of the file are rounded: forces of some eV/A times 1e-8 A.
        assert other.info["REF_energy"] == pytest.approx(one.info["REF_energy"], abs=1e-6)
        for key in ("trajectory", "md_step", "config_type"):
            assert one.info[key] == other.info[key]
    assert (folder / "restart" / "labels.jsonl").read_bytes() == stored
    assert (folder / "labelled" / "aims" / "control.in").is_file()
