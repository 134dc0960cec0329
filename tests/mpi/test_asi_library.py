"""Which files are taken for an ASI library, judged without loading them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from asi.harness import asi_library  # noqa: F401

from fhi_al.engines.asi_library import (
    ASI_SYMBOLS,
    BLACS_SYMBOLS,
    _scalapack_symbols,
    library_problem,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

OTHER_MPI = "libmpi.so.4711"


def compile_library(target: Path, names: Iterable[str], *options: object) -> Path:
    """A shared library that exports these names as empty functions."""
    source = target.with_suffix(".c")
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in names))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", target, source, *options], check=True)
    return target


ALL_NAMES = (*ASI_SYMBOLS, *_scalapack_symbols())


@pytest.fixture
def other_mpi(tmp_path: Path) -> Path:
    """A library that calls itself an MPI library, but not the one of mpi4py."""
    return compile_library(tmp_path / OTHER_MPI, (), f"-Wl,-soname,{OTHER_MPI}")


def test_the_test_library_is_accepted(asi_library: Path) -> None:  # noqa: F811
    assert library_problem(asi_library) is None


def test_a_library_of_another_mpi_is_refused(other_mpi: Path, tmp_path: Path) -> None:
    linked = ("-Wl,--no-as-needed", other_mpi, f"-Wl,-rpath,{tmp_path}")
    problem = library_problem(compile_library(tmp_path / "libasi.so", ALL_NAMES, *linked))
    assert problem is not None
    assert "another MPI" in problem
    assert OTHER_MPI in problem


def test_a_library_without_mpi_is_refused(tmp_path: Path) -> None:
    problem = library_problem(compile_library(tmp_path / "libasi.so", ALL_NAMES))
    assert problem is not None
    assert "not linked to MPI" in problem


def test_a_library_without_its_dependencies_is_refused(other_mpi: Path, tmp_path: Path) -> None:
    linked = ("-Wl,--no-as-needed", other_mpi)
    problem = library_problem(compile_library(tmp_path / "libasi.so", ALL_NAMES, *linked))
    assert problem is not None
    assert OTHER_MPI in problem
    assert "LD_LIBRARY_PATH" in problem


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "no ASI interface"),
        (tuple(set(ASI_SYMBOLS) - {"ASI_is_scf_converged"}), "lacks ASI_is_scf_converged"),
        ((*ASI_SYMBOLS, *BLACS_SYMBOLS), "ScaLAPACK"),
    ],
)
def test_a_library_that_lacks_routines_is_refused(
    names: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    library = compile_library(tmp_path / "libasi.so", names)
    problem = library_problem(library)
    assert problem is not None
    assert words in problem


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    text, damaged = tmp_path / "text.so", tmp_path / "damaged.so"
    text.write_text("#!/bin/sh\n")
    damaged.write_bytes(b"\x7fELF\x02\x01" + bytes(20))
    for path, words in (
        (text, "not a shared library"),
        (damaged, "damaged"),
        (tmp_path, "not a file"),
        (tmp_path / "none.so", "no such file"),
        (Path(sys.executable).resolve(), "no ASI interface"),
    ):
        problem = library_problem(path)
        assert problem is not None
        assert words in problem
