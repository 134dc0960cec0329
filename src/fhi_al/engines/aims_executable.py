"""FHI-aims by its executable: writes its inputs, runs it, reads its output.  No MPI here.

The output is read by ASE.  What ASE does not tell apart is told apart here: an SCF that did not
converge (a result) and a calculation that came to no end (an error).
"""

from __future__ import annotations

import re
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from ase.data import chemical_symbols
from ase.io import read

from fhi_al.core.errors import EngineError
from fhi_al.core.structure import Array
from fhi_al.engines.aims_input.geometry import Geometry, write_geometry
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import AimsCommandSpec

OUTPUT, ERRORS = "aims.out", "aims.err"
# The first is printed by every version when the SCF gives up, the second when it also stops there.
NOT_CONVERGED = re.compile(r"SELF-CONSISTENCY CYCLE DID NOT CONVERGE|SCF cycle not converged")
ENDED_WELL = "Have a nice day."
_SPECIES = re.compile(r"(:\s+Species\s+)(\S+)")


class AimsExecutable:
    """FHI-aims by its executable, in the current folder, as a reference engine.

    Parameters
    ----------
    spec : AimsCommandSpec
    comm : None
        It starts ranks of its own.
    """

    def __init__(self, spec: AimsCommandSpec, comm: object = None) -> None:
        self._spec = spec

    def calculate(self, positions: Array, cell: Array) -> ReferenceResult:
        """As :func:`calculate`, in the current folder."""
        return calculate(self._spec, positions, cell, Path.cwd())

    def close(self) -> None:
        """Nothing is left of a calculation but its files."""


def calculate(
    spec: AimsCommandSpec, positions: Array, cell: Array, folder: Path
) -> ReferenceResult:
    """Run FHI-aims on one geometry.

    Parameters
    ----------
    spec : AimsCommandSpec
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A; zeros for a molecule.
    folder : Path
        Where it runs: gets control.in, geometry.in, aims.out and aims.err.

    Returns
    -------
    ReferenceResult
        Not converged, without numbers, if FHI-aims says that its SCF did not converge.

    Raises
    ------
    EngineError
        If the command cannot be run, fails, or its output lacks what was asked for.
    """
    structure = replace(spec.structure, positions=positions, cell=cell)
    (folder / "control.in").write_text(spec.control, encoding="utf-8")
    geometry = write_geometry(replace(spec.geometry, structure=structure))
    (folder / "geometry.in").write_text(geometry, encoding="utf-8")
    with (folder / OUTPUT).open("w") as output, (folder / ERRORS).open("w") as errors:
        try:
            done = subprocess.run(
                spec.command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                check=False,
            )
        except OSError as error:
            raise EngineError(
                f"{spec.command[0]}: {error.strerror}: expected a program that can be run."
                " Correct aims_command"
            ) from error
    return result_of((folder / OUTPUT).read_text(errors="replace"), done.returncode, spec)


def result_of(output: str, exit_code: int, spec: AimsCommandSpec) -> ReferenceResult:
    """What an output of FHI-aims says.

    Parameters
    ----------
    output : str
        What the executable wrote to its standard output.
    exit_code : int
        Below zero: the signal that ended it.
    spec : AimsCommandSpec

    Raises
    ------
    EngineError
        If the calculation came to no end or the output lacks what was asked for.
    """
    n_atoms = len(spec.structure)
    # Whatever follows, and with whichever exit code: another attempt would not converge either.
    if NOT_CONVERGED.search(output):
        return ReferenceResult.failed(n_atoms, "the SCF did not converge")
    if exit_code != 0:
        raise EngineError(f"FHI-aims ended with {_told(exit_code)}")
    if ENDED_WELL not in output:
        raise EngineError(f"FHI-aims ended early: its output has no '{ENDED_WELL}'")
    found = _read(output, spec.geometry)
    needed = ("free_energy", "forces", "stress") if spec.stress else ("free_energy", "forces")
    missing = [name.replace("_", " ") for name in needed if found.get(name) is None]
    if missing:
        raise EngineError(f"the output of FHI-aims has no {' and no '.join(missing)}")
    forces = np.array(found["forces"], dtype=np.float64)
    if forces.shape != (n_atoms, 3):
        raise EngineError(f"FHI-aims gave forces of shape {forces.shape}, expected ({n_atoms}, 3)")
    stress = None
    if spec.stress:
        xx, yy, zz, yz, xz, xy = found["stress"]
        stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    # FHI-aims' forces are derivatives of the electronic free energy.
    return ReferenceResult(float(found["free_energy"]), forces, stress, True)


def _told(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def _read(output: str, geometry: Geometry) -> dict[str, Array]:
    """ASE's results."""
    symbols = {
        name: chemical_symbols[number]
        for name, number in zip(geometry.species, geometry.structure.numbers, strict=True)
    }

    def by_element(match: re.Match[str]) -> str:
        return f"{match[1]}{symbols.get(match[2], match[2])}"

    # ASE takes species for elements; the user's may be called Fe_up.
    text = _SPECIES.sub(by_element, output)
    try:
        # By ase.io.read, which takes this format from named files only: the function behind it is
        # on its way into a plugin, and says so each time.
        with NamedTemporaryFile("w", suffix=".out") as copy, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            copy.write(text)
            copy.flush()
            atoms = read(copy.name, format="aims-output", index=-1)
    except Exception as error:  # a reader fed with anything may raise anything
        message = f"{type(error).__name__}: {error}"
        raise EngineError(f"the output of FHI-aims cannot be read ({message})") from error
    assert not isinstance(atoms, list) and atoms.calc is not None
    results: dict[str, Array] = atoms.calc.results
    return results
