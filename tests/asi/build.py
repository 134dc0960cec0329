"""Compile the ASI library on xTB that the tests drive through asi4py.

Needs a C compiler, the ``mpicc`` of the MPI that mpi4py runs on, and tblite's wheel, whose
extension module exports tblite's C API.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from ase import units
from scalapack4py.func_argtypes import SCALAPACKargs

SOURCES = Path(__file__).parent
# The seven names that scalapack4py's constructor looks up besides its table of routines.
BLACS = (
    "blacs_get",
    "blacs_gridinit",
    "blacs_gridexit",
    "blacs_gridmap",
    "blacs_gridinfo",
    "numroc",
    "descinit",
)
DEFAULT_TEMPERATURE_K = 300.0  # tblite's


def tblite_library() -> Path:
    """The extension module in which tblite's wheel keeps its C API (tblite is not imported)."""
    spec = importlib.util.find_spec("tblite")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the ASI test library needs tblite: pip install tblite")
    folder = Path(next(iter(spec.submodule_search_locations)))
    return next(folder.glob("_libtblite*.so"))


def mpicc() -> str:
    """The compiler wrapper beside this Python if there is one, else the one on the PATH."""
    beside = Path(sys.executable).parent / "mpicc"
    found = str(beside) if beside.exists() else shutil.which("mpicc")
    if found is None:
        raise RuntimeError("the ASI test library needs mpicc: pip install mpich")
    return found


def build_asi_library(folder: Path) -> Path:
    """Compile the library into ``folder`` (made if it is not there) and return its path.

    Raises
    ------
    RuntimeError
        If tblite or ``mpicc`` is missing, or the compiler's own words if it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # ASE's constants: with others the comparison with tblite's ASE calculator fails at 1e-8 eV.
    constants = {
        "BOHR_A": units.Bohr,
        "HARTREE_EV": units.Hartree,
        "DEFAULT_KT_EV": DEFAULT_TEMPERATURE_K * units.kB,
    }
    defines = [f"#define {name} {value!r}" for name, value in constants.items()]
    defines.append(f'#define TBLITE_LIBRARY "{tblite_library()}"')
    (folder / "generated.h").write_text("\n".join(defines) + "\n")
    # From the installed scalapack4py, so that the list cannot drift.
    names = [*BLACS, *SCALAPACKargs(None).implemented_funcs]
    (folder / "stubs.c").write_text("".join(f"void {name}_(void) {{}}\n" for name in names))
    library = folder / "libasi_xtb.so"
    command = [mpicc(), "-shared", "-fPIC", "-O1", "-std=c11", "-Wall", "-Wextra"]
    command += [f"-I{folder}", f"-I{SOURCES}", "-o", str(library), str(folder / "stubs.c")]
    command += [str(SOURCES / name) for name in ("asi.c", "inputs.c", "xtb.c")] + ["-ldl", "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    if done.stderr:
        sys.stderr.write(done.stderr)
    return library
