"""Wrong inputs on two ranks: exit 2, the right file, line and key, no traceback, nothing run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_folder import run, write_inputs

pytestmark = pytest.mark.mpi

AL, MACE = "active_learning_settings.yaml", "mace_settings.yaml"
# Spoils an input and says where ("file:line:") the message must point, if it can.
Spoil = Callable[[Path], str | None]


def line(file: str, old: str, new: str) -> Spoil:
    """Replace the one line of a file that holds a text."""

    def spoil(folder: Path) -> str:
        lines = (folder / file).read_text().splitlines()
        (place,) = (n for n, text in enumerate(lines) if old in text)
        lines[place] = new
        (folder / file).write_text("\n".join(lines) + "\n")
        return f"{file}:{place + 1}:"

    return spoil


def append(file: str, text: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).write_text((folder / file).read_text() + text)

    return spoil


def content(file: str, data: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).write_bytes(data)

    return spoil


def remove(file: str) -> Spoil:
    return lambda folder: (folder / file).unlink()


def library(folder: Path) -> str | None:
    (folder / "libaims.so").write_text("this is no library\n")
    return line(AL, "aims_lib_path", "  aims_lib_path: libaims.so")(folder)


def unknown_calculator(folder: Path) -> str | None:
    line(AL, "reference_engine", "  reference_engine: ase")(folder)
    new = "  reference_calculator: ase.calculators.nix.Nix"
    return line(AL, "reference_method", new)(folder)


def unknown_argument(folder: Path) -> None:
    line(AL, "reference_engine", "  reference_engine: ase")(folder)
    new = "  reference_calculator: ase.build.fcc111\n  reference_arguments: {asap: 1}"
    line(AL, "reference_method", new)(folder)


def gone(file: str, old: str) -> Spoil:
    """Take a line away: there is none to point at."""

    def spoil(folder: Path) -> None:
        line(file, old, "# gone")(folder)

    return spoil


PWNED = "!!python/object/apply:os.system ['touch pwned']"
FIXED = b"".join(
    b"atom 0 %d 0 %s\n  constrain_relaxation .true.\n" % atom
    for atom in ((-1, b"H"), (0, b"O"), (1, b"H"))
)
OVERLAP = b"atom 0 0 0 O\natom 0 0 0.1 H\natom 0 0.9 0 H\n"

# name: what is spoilt, and what must be in the message
ON_TBLITE: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "misspelt": (line(AL, "n_samples:", "  n_sampels: 5"), (AL, "n_sampels", "n_samples")),
    "no cuEquivariance": (
        # The kernels for GPUs, which no test needs, are among what is missed.
        line(MACE, "device", "  device: cuda\n  enable_cueq: true"),
        (MACE, "MISC.enable_cueq = true", "pip install cuequivariance-torch"),
    ),
    "wrong choice of cuEquivariance": (
        line(MACE, "device", "  enable_cueq: maybe"),
        (MACE, "MISC.enable_cueq = maybe", "must be true, false or auto"),
    ),
    "misspelt section": (line(AL, "MD:", "MDD:"), (AL, "MDD", "Did you mean MD?")),
    "duplicate": (append(AL, "MD:\n  seed: 4\n"), (AL, "duplicate", "MD")),
    "wrong type": (line(AL, "ensemble_size", "  ensemble_size: two"), (AL, "ensemble_size = two")),
    "wrong bool": (line(AL, "analysis:", "  analysis: 7"), (AL, "analysis = 7")),
    "out of range": (line(AL, "valid_ratio", "  valid_ratio: 1.5"), (AL, "valid_ratio", "below 1")),
    "one member": (line(AL, "ensemble_size", "  ensemble_size: 1"), (AL, "at least 2")),
    "NaN": (line(AL, "desired_acc", "  desired_acc: .nan"), (AL, "desired_acc")),
    "infinite": (line(MACE, "lr:", "  lr: .inf"), (MACE, "TRAINING.lr")),
    "not yaml": (content(AL, b"ACTIVE_LEARNING: [1, 2\nMD: {\n"), (AL, "YAML")),
    "empty": (content(MACE, b""), (MACE, "empty")),
    "binary": (content(AL, bytes(range(256))), (AL,)),
    "python object": (line(MACE, "name_exp", f"  name_exp: {PWNED}"), (MACE, "!!python")),
    "missing settings": (remove(MACE), (MACE, "not found")),
    "missing geometry": (remove("geometry.in"), ("geometry.in", "No such file")),
    "empty geometry": (content("geometry.in", b"# nothing\n"), ("geometry.in",)),
    "unknown element": (content("geometry.in", b"atom 0 0 0 Xx\n"), ("geometry.in:1", "Xx")),
    "overlap": (content("geometry.in", OVERLAP), ("geometry.in", "atoms 1 and 2 overlap")),
    "nothing can move": (content("geometry.in", FIXED), ("geometry.in", "nothing can move")),
    "one atom": (content("geometry.in", b"atom 0 0 0 O\n"), ("geometry.in", "has one atom")),
    "path as name": (line(MACE, "name_exp", "  name_exp: ../../x"), (MACE, "name_exp")),
    "unknown device": (line(MACE, "device", "  device: abacus"), (MACE, "MISC.device")),
    "absent device": (line(MACE, "device", "  device: cuda:7"), (MACE, "MISC.device = cuda:7")),
    "unknown dtype": (line(MACE, "dtype", "  default_dtype: float8"), (MACE, "default_dtype")),
    "interaction": (
        line(MACE, "max_L", "  interaction: RealAgnosticResidual"),
        (MACE, "ARCHITECTURE.interaction", "RealAgnosticResidualInteractionBlock"),
    ),
    "no energy for an element": (
        line(MACE, "max_L", "  atomic_energies: {1: -11.7}"),
        (MACE, "ARCHITECTURE.atomic_energies", "no energy for O"),
    ),
    "NPT without a stress, and of a molecule": (
        line(AL, "friction", "  stat_ensemble: NPT"),
        (AL, "MD.stat_ensemble = NPT: needs the stress", "is a molecule, which has no cell"),
    ),
    "stress of a molecule": (
        line(MACE, "seed", "  compute_stress: true"),
        (MACE, "GENERAL.compute_stress", "geometry.in is a molecule, which has no stress"),
    ),
    "threshold of a stress that no label has": (
        line(AL, "ensemble_size", "  stress_threshold: 0.01"),
        (AL, "ACTIVE_LEARNING.stress_threshold", "Set GENERAL.compute_stress"),
    ),
    "misspelt argument": (
        line(AL, "reference_method", "  reference_arguments: {max_iteratoins: 9}"),
        (AL, "ACTIVE_LEARNING.reference_arguments", "did you mean max_iterations?"),
    ),
    "a multiplicity that cannot be": (
        line(AL, "reference_method", "  reference_arguments: {multiplicity: 2}"),
        (AL, "ACTIVE_LEARNING.reference_arguments", "tblite cannot compute", "is not compatible"),
    ),
    "an argument of the wrong kind": (
        line(AL, "reference_method", "  reference_arguments: {charge: one}"),
        (AL, "ACTIVE_LEARNING.reference_arguments", "must be real number"),
    ),
    "an element that tblite does not know": (
        content("geometry.in", b"atom 0 0 0 U\natom 0 0 1.8 O\natom 0 0 -1.8 O\n"),
        (AL, "ACTIVE_LEARNING.reference_engine", "No support for elements with Z >86"),
    ),
    "an argument that a calculator does not take": (
        unknown_argument,
        (AL, "ACTIVE_LEARNING.reference_calculator", "missing a required argument: 'symbol'"),
    ),
    "no such calculator": (
        unknown_calculator,
        (AL, "ACTIVE_LEARNING.reference_calculator = ase.calculators.nix.Nix", "no module"),
    ),
    "no foundation model": (
        line(AL, "initial_sampling", "  initial_sampling: foundation"),
        (AL, "foundation_model"),
    ),
}
ON_AIMS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "text as library": (library, (AL, "ACTIVE_LEARNING.aims_lib_path")),
    "no library": (line(AL, "aims_lib_path", "  aims_lib_path: gone.so"), (AL, "aims_lib_path")),
    "no library key": (gone(AL, "aims_lib_path"), (AL, "aims_lib_path")),
    "no species blocks": (
        gone(AL, "species_dir"),
        ("control.in: no species block for O, H: expected", "set ACTIVE_LEARNING.species_dir"),
    ),
    "no species folder": (line(AL, "species_dir", "  species_dir: gone"), ("gone", "species_dir")),
    "no species file": (remove("species/08_O_default"), ("08_O_default",)),
    "no control": (remove("control.in"), ("control.in", "No such file")),
    "MD keyword": (append("control.in", "MD_run 1 NVE\n"), ("control.in:5", "MD_run")),
    "relaxation": (append("control.in", "relax_geometry bfgs 0.01\n"), ("control.in:5", "relax")),
    "no forces": (append("control.in", "compute_forces .false.\n"), ("control.in:5", "compute_f")),
    "k grid": (append("control.in", "k_grid 2 2 2\n"), ("control.in:5", "k_grid")),
}


def refused(folder: Path, *expected: str) -> None:
    before = sorted(folder.rglob("*"))
    code, output = run(folder, 2, timeout_s=60)
    assert code == 2, output
    for text in expected:
        assert text in output
    assert "Traceback" not in output
    assert sorted(folder.rglob("*")) == before
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ON_TBLITE)
def test_bad_input_is_refused(tmp_path, name) -> None:
    folder = write_inputs(tmp_path / "run", models="mace")
    spoil, expected = ON_TBLITE[name]
    where = spoil(folder)
    refused(folder, *expected, *([where] if where else []))


@pytest.mark.parametrize("name", ON_AIMS)
def test_bad_aims_input_is_refused(tmp_path, asi_library, name) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library, models="mace")
    spoil, expected = ON_AIMS[name]
    where = spoil(folder)
    refused(folder, *expected, *([where] if where else []))


def test_all_problems_of_both_files_are_told_at_once_with_their_lines(tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", models="mace")
    line(AL, "n_samples:", "  n_samples: 0")(folder)
    line(MACE, "r_max", "  r_max: far")(folder)
    numbers = {}
    for file, text in ((AL, "n_samples"), (MACE, "r_max")):
        lines = (folder / file).read_text().splitlines()
        numbers[file] = 1 + next(n for n, content in enumerate(lines) if text in content)
    refused(
        folder,
        f"{AL}:{numbers[AL]}: ACTIVE_LEARNING.n_samples = 0",
        f"{MACE}:{numbers[MACE]}: ARCHITECTURE.r_max = far",
    )


def test_wrong_arguments_end_all_ranks(tmp_path) -> None:
    code, output = run(tmp_path, 3, "--chekc")
    assert code == 2
    assert output.count("unrecognized arguments") == 1
