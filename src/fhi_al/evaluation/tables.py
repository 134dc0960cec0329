"""The errors of models as lines of text and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhi_al.evaluation.errors import Deviations, ModelErrors

# Lines of systems that are shown; all are in the JSON file.
MOST_SYSTEMS = 20


def error_table(errors: Mapping[str, ModelErrors]) -> list[str]:
    """One line for each model: forces in meV/A, energies in meV/atom, stress in meV/A^3."""
    has_constants = any(each.energy_without_constants for each in errors.values())
    has_stress = any(each.stress for each in errors.values())
    head = ["model", "force MAE", "RMSE", "max", "energy MAE", "RMSE", "max"]
    head += ["MAE*", "RMSE*"] if has_constants else []
    head += ["stress MAE", "RMSE"] if has_stress else []
    rows = [head]
    for name, each in errors.items():
        row = [name, *_three(each.forces, 1), *_three(each.energy_per_atom, 2)]
        if has_constants:
            row += _two(each.energy_without_constants, 2)
        if has_stress:
            row += _two(each.stress, 2)
        rows.append(row)
    lines = _aligned(rows)
    lines.append(
        "forces in meV/A over components, energies in meV/atom"
        + (", stress in meV/A^3" if has_stress else "")
    )
    if has_constants:
        lines.append(
            "*: without the constant for each element that fits best, which moves no atom:"
            f" {_constants(list(errors.values())[-1])}"
        )
    return lines


def part_tables(errors: ModelErrors, whose: str) -> list[str]:
    """Errors of one model, or of a mean, by element and by system."""
    rows = [["element", "force MAE", "RMSE", "max", "components"]]
    rows += [
        [symbol, *_three(each, 1), str(each.n_values)] for symbol, each in errors.by_element.items()
    ]
    lines = [f"by element, {whose}:", *_aligned(rows)]
    if len(errors.by_system) > 1:
        rows = [["system", "structures", "force MAE", "RMSE", "max", "energy MAE", "RMSE", "max"]]
        worst = sorted(errors.by_system.items(), key=lambda each: -each[1].forces.mae)
        rows += [
            [
                name,
                str(each.n_structures),
                *_three(each.forces, 1),
                *_three(each.energy_per_atom, 2),
            ]
            for name, each in worst[:MOST_SYSTEMS]
        ]
        lines += ["", f"by system, {whose}, worst first:", *_aligned(rows)]
        if len(worst) > MOST_SYSTEMS:
            lines.append(f"and {len(worst) - MOST_SYSTEMS} more, in the JSON file")
    return lines


def _constants(errors: ModelErrors) -> str:
    if not errors.constants:
        return "the compositions are too few to tell those of the elements apart"
    shown = [f"{symbol} {value:+.3f}" for symbol, value in errors.constants.items()]
    return f"{', '.join(shown)} eV"


def _three(each: Deviations, digits: int) -> list[str]:
    return [_milli(value, digits) for value in (each.mae, each.rmse, each.largest)]


def _two(each: Deviations | None, digits: int) -> list[str]:
    return ["-", "-"] if each is None else [_milli(v, digits) for v in (each.mae, each.rmse)]


def _milli(value: float, digits: int) -> str:
    return f"{1000 * value:.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
