"""Can this file be loaded as an ASI library?  Judged without loading it: a wrong one would crash.

Reads the ELF file and asks ``ldd``; never calls dlopen.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ELF_MAGIC = b"\x7fELF"
SHARED_OBJECT = 3
DYNAMIC, DYNAMIC_SYMBOLS = 6, 11
LDD_TIMEOUT_S = 60

# What asi4py looks up in the library when it loads it, and the flag without which no label can
# be trusted.
ASI_SYMBOLS = (
    "ASI_init",
    "ASI_run",
    "ASI_finalize",
    "ASI_flavour",
    "ASI_n_atoms",
    "ASI_energy",
    "ASI_forces",
    "ASI_is_scf_converged",
    "ASI_atomic_charges",
    "ASI_calc_esp",
    "ASI_set_atom_coords",
    "ASI_set_geometry",
    "ASI_register_dm_callback",
    "ASI_register_overlap_callback",
    "ASI_register_hamiltonian_callback",
    "ASI_register_external_potential",
    "ASI_is_hamiltonian_real",
    "ASI_get_basis_size",
    "ASI_get_nspin",
    "ASI_get_nkpts",
    "ASI_get_n_local_ks",
    "ASI_get_local_ks",
)
BLACS_SYMBOLS = (
    "blacs_get_",
    "blacs_gridinit_",
    "blacs_gridexit_",
    "blacs_gridmap_",
    "blacs_gridinfo_",
    "numroc_",
    "descinit_",
)
# The MPI library itself, not its Fortran or C++ layer: MPICH and Intel (libmpi.so.12), Open MPI
# (libmpi.so.40), Debian's MPICH (libmpich.so.12), Cray (libmpi_gnu_123.so.12).
MPI_LIBRARY = re.compile(r"^libmpi(ch|_(cray|gnu|intel|nvidia|amd|aocc)[\w.]*?)?\.so[\d.]*$")


@dataclass(frozen=True)
class _Elf:
    """What is used of an ELF file: for which machine, whether shared, exported names."""

    machine: int
    is_shared: bool
    symbols: frozenset[str]


def library_problem(path: Path) -> str | None:
    """Why ``path`` cannot be used as ASI library by this process; None if nothing says so.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str or None
        What is wrong and how to fix it, one sentence or two, without the path.
    """
    problem = _file_problem(path)
    if problem is not None:
        return problem
    try:
        elf = _read_elf(path)
        python = _read_elf(Path("/proc/self/exe"))
    except (struct.error, IndexError, ValueError):
        return "is a damaged ELF file. Build FHI-aims again with BUILD_SHARED_LIBS=ON."
    if elf.machine != python.machine:
        return "is built for another type of processor. Build it on this machine."
    needed, unresolved = _dependencies(path)
    mapped = _mapped_libraries()
    absent = sorted(unresolved - {library.name for library in mapped})
    if absent:
        return f"needs {', '.join(absent)}, not found. Add their folder to LD_LIBRARY_PATH."
    return _symbol_problem(elf, needed) or _mpi_problem(needed, mapped)


def _file_problem(path: Path) -> str | None:
    if not path.exists():
        return "no such file. Give the path of FHI-aims' shared library (libaims.*.so)."
    if not path.is_file():
        return "is not a file. Give the path of FHI-aims' shared library (libaims.*.so)."
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"cannot be read: {error.strerror}."
    if magic != ELF_MAGIC:
        return "is not a shared library. Build FHI-aims with BUILD_SHARED_LIBS=ON."
    return None


def _symbol_problem(elf: _Elf, needed: Iterable[Path]) -> str | None:
    asi = sorted(set(ASI_SYMBOLS) - elf.symbols)
    if "ASI_run" in asi or not elf.is_shared:
        return (
            "has no ASI interface (is it the executable, or another library?)."
            " Build FHI-aims with BUILD_SHARED_LIBS=ON and give its shared library."
        )
    if asi:
        return f"lacks {', '.join(asi)}. Use a newer FHI-aims."
    missing = set(_scalapack_symbols()) - elf.symbols
    for library in needed:
        if not missing:
            break
        missing -= _read_elf(library).symbols
    if missing:
        return (
            f"lacks {len(missing)} BLACS/ScaLAPACK routines that asi4py needs, such as"
            f" {min(missing)}. Build FHI-aims with ScaLAPACK."
        )
    return None


def _scalapack_symbols() -> tuple[str, ...]:
    from scalapack4py.func_argtypes import SCALAPACKargs

    return (*BLACS_SYMBOLS, *(f"{name}_" for name in SCALAPACKargs(None).implemented_funcs))


def _mpi_problem(needed: Iterable[Path], mapped: Iterable[Path]) -> str | None:
    # Another MPI than mpi4py's gives nonsense, then a segmentation fault.
    theirs = {library for library in needed if MPI_LIBRARY.match(library.name)}
    ours = {library for library in mapped if MPI_LIBRARY.match(library.name)}
    if not ours:
        return None
    if not theirs:
        return "is not linked to MPI. Build FHI-aims with MPI."
    same_name = {library.name for library in theirs} & {library.name for library in ours}
    same_file = {library.resolve() for library in theirs} & {library.resolve() for library in ours}
    if same_name or same_file:
        return None
    return (
        f"is linked to another MPI ({_names(theirs)}) than mpi4py ({_names(ours)})."
        " Build mpi4py with the MPI of FHI-aims: pip install --no-binary mpi4py mpi4py."
    )


def _names(libraries: Iterable[Path]) -> str:
    return ", ".join(sorted(str(library) for library in libraries))


def _mapped_libraries() -> list[Path]:
    """The shared libraries in this process, MPI's among them."""
    from mpi4py import MPI  # noqa: F401

    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return [Path(path) for path in sorted(paths) if ".so" in path]


def _dependencies(path: Path) -> tuple[list[Path], set[str]]:
    """Files that loading ``path`` would load too, and the names that the loader cannot find."""
    if shutil.which("ldd") is None:
        return [], set()
    done = subprocess.run(
        ["ldd", str(path)], capture_output=True, text=True, timeout=LDD_TIMEOUT_S, check=False
    )
    found = re.findall(r"^\s*(\S+) => (/\S+)", done.stdout, re.MULTILINE)
    absent = re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)
    # Under the name it is asked for: libmpi.so.12 may be a link to libmpi.so.12.5.1.
    return [Path(file).with_name(Path(name).name) for name, file in found], set(absent)


def _read_elf(path: Path) -> _Elf:
    """Read a 64-bit little-endian ELF file.

    Raises
    ------
    ValueError, struct.error, IndexError
        If it is damaged or of another kind.
    """
    data = path.read_bytes()
    if data[:6] != ELF_MAGIC + b"\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    kind, machine = struct.unpack_from("<HH", data, 16)
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + i * size) for i in range(count)]
    symbols: set[str] = set()
    for section in sections:
        if section[1] == DYNAMIC_SYMBOLS:
            strings = sections[section[6]][4]
            symbols |= _defined_symbols(data, section[4], section[5], strings)
    return _Elf(machine, kind == SHARED_OBJECT, frozenset(symbols))


def _defined_symbols(data: bytes, offset: int, size: int, strings: int) -> set[str]:
    found = set()
    for entry in struct.iter_unpack("<IBBHQQ", data[offset : offset + size]):
        name, section = entry[0], entry[3]
        if section != 0:
            start = strings + name
            found.add(data[start : data.index(b"\0", start)].decode(errors="replace"))
    return found
