"""Foundation models that sample the initial dataset: MACE-MP-0, a MACE file, any ASE calculator.

Owns how they are found and what is said when they are not.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

SIZES = ("small", "medium", "large")


def foundation_problem(
    sampling: str,
    size: str = "small",
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    timeout_s: float = 5.0,
) -> str | None:
    """Why the foundation model cannot be had here, or None.

    Parameters
    ----------
    sampling
        ``mace-mp0`` or ``foundation``.
    size
        For ``mace-mp0``: small, medium or large.
    model
        For ``foundation``: a MACE file, or the import path of an ASE calculator.
    arguments
        Keyword arguments of that calculator.
    timeout_s
        How long to wait for the download server to answer, in seconds.
    """
    if sampling == "mace-mp0":
        return _mace_mp_problem(size, timeout_s)
    try:
        foundation_calculator(sampling, size, model, arguments)
    except ValueError as error:
        return str(error)
    return None


def foundation_calculator(
    sampling: str,
    size: str = "small",
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    device: str = "cpu",
    dtype: str = "float64",
) -> BaseCalculator:
    """The foundation model as an ASE calculator.

    Parameters
    ----------
    sampling, size, model, arguments
        See :func:`foundation_problem`.
    device, dtype
        For MACE models.

    Raises
    ------
    ValueError
        If it cannot be had; says what was looked for and how to mend it.
    """
    if sampling == "mace-mp0":
        # Imported here: the other kinds do not need mace.
        from fhi_al.models.mace_adapter.foundations import mace_mp_calculator

        problem = _mace_mp_problem(size, timeout_s=5.0)
        if problem is not None:
            raise ValueError(problem)
        return mace_mp_calculator(size, device, dtype)
    if sampling != "foundation":
        raise ValueError(
            f"ACTIVE_LEARNING.initial_sampling = {sampling}: not a foundation model. "
            "Expected mace-mp0 or foundation."
        )
    if model is None:
        raise ValueError(
            "ACTIVE_LEARNING.foundation_model: missing, needed by initial_sampling: foundation. "
            "Expected a MACE file or the import path of an ASE calculator, for instance "
            "chgnet.model.dynamics.CHGNetCalculator."
        )
    return _named_calculator(model, dict(arguments or {}), device, dtype)


def _named_calculator(
    model: str, arguments: dict[str, Any], device: str, dtype: str
) -> BaseCalculator:
    key = f"ACTIVE_LEARNING.foundation_model = {model}"
    if Path(model).is_file():
        from fhi_al.models.mace_adapter.foundations import mace_file_calculator

        return mace_file_calculator(Path(model), device, dtype, arguments)
    if "/" in model or model.endswith(".model"):
        raise ValueError(f"{key}: no such file. Expected a MACE model file.")
    module_name, _, name = model.rpartition(".")
    try:
        made = getattr(importlib.import_module(module_name), name)(**arguments)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{key}: neither a file nor an importable ASE calculator ({error}). "
            "Expected for instance chgnet.model.dynamics.CHGNetCalculator."
        ) from error
    except Exception as error:
        raise ValueError(
            f"{key}: the calculator refuses its arguments {arguments}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, BaseCalculator):
        raise ValueError(f"{key}: makes a {type(made).__name__}, which is no ASE calculator.")
    return made


def _mace_mp_problem(size: str, timeout_s: float) -> str | None:
    from fhi_al.models.mace_adapter.foundations import fetch_problem, mace_mp_cache, mace_mp_url

    if size not in SIZES:
        return (
            f"ACTIVE_LEARNING.initial_foundational_size = {size}: expected one of "
            f"{', '.join(SIZES)}."
        )
    cached, url = mace_mp_cache(size), mace_mp_url(size)
    if cached.is_file():
        return None
    why = fetch_problem(url, timeout_s)
    if why is None:
        return None
    return (
        f"ACTIVE_LEARNING.initial_sampling = mace-mp0: the model {size} is not at {cached} and "
        f"cannot be fetched ({why}). Download {url} where there is a network and put it at that "
        "path, or use initial_sampling: foundation with foundation_model: <a MACE file or an ASE "
        "calculator>, or initial_sampling: aimd."
    )
