"""ASE calculators by their import path: found, and asked what they take and give; none is made."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from ase.calculators.calculator import Calculator

from fhi_al.core.errors import EngineError
from fhi_al.engines.spec import AseSpec
from fhi_al.engines.tblite import argument_problem, is_tblite


def import_calculator(path: str) -> Callable[..., Any]:
    """The calculator class, or the function that makes a calculator, at an import path.

    Parameters
    ----------
    path : str
        ``package.module:Class`` or ``package.module.Class``.

    Raises
    ------
    EngineError
        If the path is malformed, the package is not installed or fails to import, or there is
        nothing of that name in it to call.
    """
    module_name, _, class_name = path.rpartition(":" if ":" in path else ".")
    names = [*module_name.split("."), class_name]
    if not module_name or not all(name.isidentifier() for name in names):
        raise EngineError(
            f"calculator {path}: not an import path: expected package.module:Class,"
            " for example ase.calculators.emt:EMT"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise EngineError(
            f"calculator {path}: no module {error.name}: expected an installed package."
            f" Try pip install {module_name.split('.')[0]}."
        ) from error
    except Exception as error:
        raise EngineError(
            f"calculator {path}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if not callable(found):
        raise EngineError(
            f"calculator {path}: {module_name} has no class {class_name}:"
            f" expected one of its calculators{_calculators_in(module)}"
        )
    maker: Callable[..., Any] = found
    return maker


def _calculators_in(module: Any) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Calculator)
        and value.__module__ == module.__name__
    ]
    return f" ({', '.join(names)})" if names else ""


def default_arguments(path: str) -> dict[str, Any]:
    """What the calculator at an import path does without an argument, as far as its class says.

    Raises
    ------
    EngineError
        As :func:`import_calculator`.
    """
    return dict(getattr(import_calculator(path), "default_parameters", {}))


def declared_properties(path: str) -> tuple[str, ...]:
    """What the class of a calculator says that it computes; empty if it says nothing.

    Not what a function that makes one will, nor one that cannot be imported.
    """
    try:
        declared = getattr(import_calculator(path), "implemented_properties", ())
    except EngineError:
        return ()
    return tuple(declared) if isinstance(declared, list | tuple) else ()


def calculator_problem(spec: AseSpec) -> str | None:
    """Why the calculator cannot be had, found without making it; None if nothing says so."""
    try:
        maker = import_calculator(spec.calculator)
    except EngineError as error:
        return str(error)
    if is_tblite(spec.calculator):
        problem = argument_problem(spec.arguments, vars(maker)["default_parameters"])
        return None if problem is None else f"{spec.calculator}: {problem}"
    try:
        inspect.signature(maker).bind(**spec.arguments)
    except TypeError as error:
        return f"{spec.calculator}: {error}: expected arguments that it takes"
    except ValueError:  # of a function that has none to show
        pass
    return None
