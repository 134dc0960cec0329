"""FHI-aims' stress: the keyword that computes it, and the methods that have none.  Text only.

The analytical stress exists for semi-local and hybrid functionals (Knuth et al., Comput. Phys.
Commun. 190, 33 (2015)).  Finite differences (``compute_numerical_stress``) are not used: they run
an SCF for each of twelve strained cells, whose energies are in the same output as the label's.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhi_al.engines.aims_input.control import Control
from fhi_al.engines.aims_input.errors import AimsInputError

KEYWORD = "compute_analytical_stress"
NUMERICAL = "compute_numerical_stress"
# Correlation after the SCF: its total energy has no derivatives there.
_DOUBLE_HYBRIDS = frozenset({"xyg3", "xygjos", "xdh-pbe0", "zrps", "lrc-xyg3"})
_META_GGAS = ("tpss", "revtpss", "tpssloc", "m06-l", "m11-l", "scan", "rscan", "r2scan")


def numerical_stress_problems(control: Control) -> Iterator[AimsInputError]:
    """Lines that ask for finite differences of strained cells."""
    for number, keyword, values in control.keywords():
        if keyword == NUMERICAL and is_true(values):
            yield AimsInputError(
                control.path,
                number,
                " ".join([keyword, *values]),
                "expected no SCFs of strained cells, which cannot be told from the label's",
                f"Take the line out; with GENERAL.compute_stress FHI_AL adds {KEYWORD}.",
            )


def stress_problems(control: Control) -> Iterator[AimsInputError]:
    """Lines with which FHI-aims has no stress, or another than that of the structure."""
    for number, keyword, values in control.keywords():
        first = values[0].lower() if values else ""
        line = " ".join([keyword, *values])
        if keyword == "total_energy_method" or (keyword == "xc" and first in _DOUBLE_HYBRIDS):
            yield AimsInputError(
                control.path,
                number,
                line,
                "expected a method with an analytical stress, which correlation after the SCF has"
                " not",
                "Choose another method, or set GENERAL.compute_stress to false.",
            )
        elif keyword == "external_pressure":
            yield AimsInputError(
                control.path,
                number,
                line,
                "expected the stress of the structure alone",
                "Take the line out: the pressure is that of the MD section.",
            )


def stress_note(control: Control) -> str | None:
    """What may not be there in this version of FHI-aims; None if nothing is known of it."""
    for number, keyword, values in control.keywords():
        names = [value.lower() for value in values]
        if keyword != "xc" or not names:
            continue
        if names[0] in _META_GGAS or any("mgga" in name for name in names):
            return (
                f"{control.path}:{number}: {' '.join([keyword, *values])}: not every version of"
                f" FHI-aims has the {KEYWORD} of a meta-GGA that GENERAL.compute_stress asks for:"
                " compare it once with finite differences of the energy"
                " (fhi_al.engines.conformance)"
            )
    return None


def is_true(values: list[str]) -> bool:
    """Whether FHI-aims reads a logical as true."""
    # Fortran reads a logical by its first letter after an optional point.
    return bool(values) and values[0].lower().lstrip(".").startswith("t")
