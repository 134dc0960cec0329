"""Foundation models that sample the initial dataset: MACE-MP-0, a MACE file, any ASE calculator.

Owns how they are found and what is said when they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from fhi_al.core.errors import EngineError
from fhi_al.core.structure import Array
from fhi_al.engines.ase_import import import_calculator

FETCH_TIMEOUT_S = 5.0
Describe = Callable[[Atoms], Array]


def foundation_problem(al: Any, source: str, timeout_s: float = FETCH_TIMEOUT_S) -> str | None:
    """Why the foundation model cannot be had here, without naming the key, or None.

    Parameters
    ----------
    al
        The settings of ACTIVE_LEARNING: initial_foundational_size, foundation_model,
        foundation_calculator, foundation_arguments.
    source
        "mace-mp0" or "foundation".
    timeout_s
        How long to wait for the download server to answer, in seconds.
    """
    if source == "mace-mp0":
        return _mace_mp_problem(al.initial_foundational_size, timeout_s)
    try:
        _made(al, "cpu", "float64")
    except ValueError as error:
        return str(error)
    return None


def foundation_calculator(
    al: Any,
    source: str,
    device: str = "cpu",
    dtype: str = "float64",
    timeout_s: float = FETCH_TIMEOUT_S,
) -> BaseCalculator:
    """The foundation model as an ASE calculator.

    Parameters
    ----------
    al, source, timeout_s
        See :func:`foundation_problem`.
    device, dtype
        For MACE models.

    Raises
    ------
    ValueError
        If it cannot be had; says what was looked for and how to fix it.
    """
    if source == "foundation":
        try:
            return _made(al, device, dtype)
        except ValueError as error:
            raise ValueError(f"ACTIVE_LEARNING.initial_sampling = foundation: {error}") from error
    problem = _mace_mp_problem(al.initial_foundational_size, timeout_s)
    if problem is not None:
        raise ValueError(f"ACTIVE_LEARNING.initial_sampling = mace-mp0: {problem}")
    # Imported late: the other kinds do not need mace.
    from fhi_al.models.mace.foundations import mace_mp_calculator

    return mace_mp_calculator(al.initial_foundational_size, device, dtype)


def file_descriptors(path: Path, device: str = "cpu") -> tuple[list[int], Describe]:
    """As :func:`fhi_al.models.mace.foundations.mace_file_descriptors`, with errors for users.

    Raises
    ------
    ValueError
        If there is no such file, or it is no MACE model; says how to fix it.
    """
    from fhi_al.models.mace.foundations import mace_file_descriptors

    try:
        return mace_file_descriptors(path, device)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file. Expected a MACE model file.") from error


def _made(al: Any, device: str, dtype: str) -> BaseCalculator:
    if al.foundation_model is not None:
        return _file_calculator(Path(al.foundation_model), device, dtype)
    return _named_calculator(al.foundation_calculator, dict(al.foundation_arguments))


def _file_calculator(path: Path, device: str, dtype: str) -> BaseCalculator:
    from fhi_al.models.mace.foundations import mace_file_calculator

    try:
        return mace_file_calculator(path, device, dtype)
    except FileNotFoundError as error:
        message = f"{path}: no such file. Expected a MACE model file."
        module, _, name = path.name.rpartition(".")
        if name != "model" and all(part.isidentifier() for part in [*module.split("."), name]):
            message += (
                f" If {path.name} is an ASE calculator, give it as foundation_calculator; in Python"
                f" write a colon, InitialDataset('{module}:{name}')."
            )
        raise ValueError(message) from error


def _named_calculator(path: str, arguments: dict[str, Any]) -> BaseCalculator:
    try:
        made = import_calculator(path)(**arguments)
    except EngineError as error:
        raise ValueError(str(error)) from error
    except Exception as error:
        raise ValueError(
            f"calculator {path}: cannot be made with foundation_arguments {arguments}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, BaseCalculator):
        raise ValueError(
            f"calculator {path}: makes a {type(made).__name__}, which is no ASE calculator"
        )
    return made


def _mace_mp_problem(size: str, timeout_s: float) -> str | None:
    from fhi_al.models.mace.menu import menu

    problem = menu()[size].problem(timeout_s)
    if problem is None:
        return None
    return (
        f"{problem}, or use initial_sampling: foundation with a foundation_model (a MACE file) or "
        "a foundation_calculator, or initial_sampling: aimd."
    )
