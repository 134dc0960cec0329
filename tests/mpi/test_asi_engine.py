"""FHI-aims' way in: unmodified asi4py under a real mpirun drives a compiled ASI library on xTB."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from asi.harness import asi_library, run_mpi  # noqa: F401
from tblite.ase import TBLite

from fhi_al.engines.aims_input.geometry import parse_geometry

sys.path.insert(0, str(Path(__file__).parent / "scripts"))
from asi_setup import SYSTEMS
from rattled import rattled

pytestmark = [pytest.mark.mpi, pytest.mark.real]

METHODS = {"water": "GFN2-xTB", "diamond": "GFN1-xTB"}
Labels = list[dict[str, Any]]


@pytest.fixture
def labels(asi_library: Path, tmp_path: Path) -> Callable[..., Labels]:  # noqa: F811
    def run(
        system: str, ranks: int, order: str, *control: str, env: dict[str, str] | None = None
    ) -> Labels:
        """The labels in this order; all ranks must have the same."""
        job = run_mpi(
            "asi_labels.py", ranks, system, asi_library, tmp_path / "work", order, *control, env=env
        )
        assert job.exit_code == 0, job.output
        everyones: list[Labels] = job.result
        assert len(everyones) == ranks
        # As text: a NaN is equal to itself there.
        assert all(str(theirs) == str(everyones[0]) for theirs in everyones)
        return everyones[0]

    return run


def errors_in(ranks: int, names: str, library: Path, work_dir: Path) -> dict[str, str]:
    """The error that every rank saw in each of these cases; all must have seen the same."""
    job = run_mpi("asi_errors.py", ranks, names, library, work_dir)
    assert job.exit_code == 0, job.output
    assert job.result == [job.result[0]] * ranks
    seen: dict[str, str] = job.result[0]
    return seen


def energy(label: dict[str, Any]) -> float:
    return float.fromhex(label["energy"])


def forces(label: dict[str, Any]) -> np.ndarray:
    return np.array([float.fromhex(text) for text in label["forces"]]).reshape(-1, 3)


def fresh_tblite(system: str, seed: int, **settings: Any) -> Atoms:
    structure = parse_geometry(SYSTEMS[system][0], Path("geometry.in")).structure
    positions, cell = rattled(structure, seed)
    atoms = Atoms(structure.numbers, positions, cell=cell, pbc=structure.pbc)
    atoms.calc = TBLite(method=METHODS[system], verbosity=0, **settings)
    return atoms


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("system", ["water", "diamond"])
def test_labels_equal_a_fresh_tblite(
    system: str, ranks: int, labels: Callable[..., Labels]
) -> None:
    for seed, label in enumerate(labels(system, ranks, "0,1,2")):
        atoms = fresh_tblite(system, seed)
        assert label["converged"]
        assert label["message"] == ""
        assert energy(label) == pytest.approx(atoms.get_potential_energy(), abs=1e-8)  # eV
        assert np.abs(forces(label) - atoms.get_forces()).max() < 1e-7  # eV/A
        if system == "diamond":
            stress = np.array(label["stress"]).reshape(3, 3)
            assert np.abs(stress - atoms.get_stress(voigt=False)).max() < 1e-9  # eV/A^3
            assert np.abs(stress).max() > 1e-3  # a strained cell: there is something to compare
        else:
            assert label["stress"] is None


def test_forces_and_stress_are_the_derivatives_of_the_energy(
    asi_library: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    job = run_mpi("asi_conformance.py", 1, "carbon", asi_library, tmp_path / "work")
    assert job.exit_code == 0, job.output
    assert job.result == [[]]


def test_keywords_of_control_in_reach_the_library(labels: Callable[..., Labels]) -> None:
    width = 0.2  # eV
    (label,) = labels("water", 2, "1", "charge 1", f"occupation_type gaussian {width}")
    atoms = fresh_tblite("water", 1, charge=1, electronic_temperature=width / units.kB)
    assert energy(label) == pytest.approx(atoms.get_potential_energy(), abs=1e-8)  # eV


def test_an_energy_that_the_forces_do_not_belong_to_is_told(
    asi_library: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The library says of its energies what FHI-aims' output does."""
    words = "from the 'Electronic free energy'"
    smearing = "occupation_type gaussian 0.5"
    for k, (control, without, told) in enumerate(
        [(smearing, "1", True), (smearing, "0", False), ("charge 0", "1", False)]
    ):
        job = run_mpi(
            "asi_labels.py",
            2,
            *("water", asi_library, tmp_path / str(k), "1", control),
            env={"ASI_WITHOUT_ENTROPY": without},
        )
        assert job.exit_code == 0, job.output
        assert (words in job.output) == told, job.output


def test_moment_of_geometry_in_reaches_the_library(labels: Callable[..., Labels]) -> None:
    (label,) = labels("oxygen", 2, "0")
    # Triplet O by tblite with spin polarisation; the closed shell is at -102.571 eV.
    assert energy(label) == pytest.approx(-104.037, abs=1e-3)


def test_a_label_does_not_depend_on_the_labels_before(labels: Callable[..., Labels]) -> None:
    forward = labels("diamond", 2, "1,2,3,1")
    backward = labels("diamond", 2, "3,2,1,3")
    assert forward[0] == backward[2] == forward[3]
    assert forward[1] == backward[1]
    assert forward[2] == backward[0] == backward[3]
    # The test can fail: with a warm start the history shows.
    warm = labels("diamond", 2, "1,2,3,1", env={"ASI_WARM_START": "1"})
    assert warm[1] != forward[1]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_failed_scf_is_flagged_and_the_next_label_is_good(
    ranks: int, labels: Callable[..., Labels], tmp_path: Path
) -> None:
    log = tmp_path / "runs.log"
    found = labels("water", ranks, "1,2,3", env={"ASI_FAIL_AT": "2", "ASI_LOG": str(log)})
    assert [label["converged"] for label in found] == [True, False, True]
    assert np.isnan(energy(found[1]))
    assert np.isnan(forces(found[1])).all()
    assert "SCF" in found[1]["message"]
    assert found[2] == labels("water", ranks, "3")[0]
    assert len(log.read_text().splitlines()) == 3  # no label is computed twice


def test_scf_that_really_does_not_converge_is_flagged(labels: Callable[..., Labels]) -> None:
    (label,) = labels("water", 2, "1", "sc_iter_limit 3")
    assert not label["converged"]
    assert np.isnan(energy(label))


def test_nan_forces_are_handed_on_to_be_judged(labels: Callable[..., Labels]) -> None:
    bad, good = labels("water", 2, "1,1", env={"ASI_NAN_AT": "1"})
    assert np.isnan(forces(bad)).any()
    assert np.isfinite(forces(good)).all()


def test_abort_inside_the_library_ends_the_job_at_once(
    asi_library: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    job = run_mpi(
        "asi_labels.py", 3, "water", asi_library, tmp_path, "1,2,3", env={"ASI_ABORT_AT": "2"}
    )
    assert job.exit_code != 0
    assert "ASI_ABORT_AT" in job.output
    assert time.monotonic() - began < 30


CASES = {
    "wrong_shape": "shapes",
    "nan_positions": "NaN",
    "folder_gone": "folder is gone",
    "folder_gone_for_one_rank": "folder is gone",
    "two_at_a_time": "close it first",
    "after_close": "closed",
    "once_more": "none",
}


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_trouble_is_the_same_error_on_every_rank(
    ranks: int,
    asi_library: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    seen = errors_in(ranks, ",".join(CASES), asi_library, tmp_path / "work")
    for failure, words in CASES.items():
        assert words in seen[failure]


def test_a_geometry_that_differs_between_ranks_is_refused(
    asi_library: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    seen = errors_in(3, "differing_geometry", asi_library, tmp_path / "work")
    assert seen == {"differing_geometry": "the ranks were given different geometries"}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [("text.so", "int main;\n", "not a shared library"), ("none.so", None, "no such file")],
)
def test_a_bad_library_is_the_same_error_on_every_rank(
    file: str, content: str | None, words: str, tmp_path: Path
) -> None:
    library = tmp_path / file
    if content is not None:
        library.write_text(content)
    seen = errors_in(2, "start", library, tmp_path / "work")["start"]
    assert words in seen
    assert str(library) in seen


def test_a_folder_that_cannot_be_made_is_the_same_error_on_every_rank(
    asi_library: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    seen = errors_in(2, "start", asi_library, tmp_path / "file" / "work")["start"]
    assert "cannot write inputs" in seen


def test_a_rank_that_only_labels_stays_small(
    asi_library: Path,  # noqa: F811
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    job = run_mpi("asi_memory.py", 2, asi_library, tmp_path / "work")
    assert job.exit_code == 0, job.output
    sizes = ", ".join(f"{mine['resident_mb']:.0f} MB" for mine in job.result)
    record_property("measured", f"memory of an ASI engine alone, by rank: {sizes}")
    for mine in job.result:
        assert mine["unwanted"] == []
        assert mine["resident_mb"] <= 150
