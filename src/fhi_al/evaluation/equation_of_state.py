"""Energy-volume curves of crystals, and the bulk modulus: of models and of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState, birchmurnaghan

from fhi_al.core.structure import Array
from fhi_al.evaluation.check import Finding, Subject
from fhi_al.evaluation.limits import BULK_MODULUS, DELTA, VOLUME, Judgement
from fhi_al.evaluation.surfaces import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_VOLUMES = 9
# The curve goes so far to either side of the models' equilibrium volume.
WIDTH = 0.08
# Delta is the mean over so much to either side (Lejaeghere et al. 2016).
DELTA_WIDTH = 0.06
MOST_SEARCHES = 10


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve and its fit by Birch and Murnaghan.

    Parameters
    ----------
    volumes, energies : (n,)
        Of the cell, in A^3 and eV.
    parameters : (4,)
        Energy (eV), bulk modulus (eV/A^3), its derivative by the pressure, volume (A^3).
    n_atoms : int
    """

    volumes: Array
    energies: Array
    parameters: Array
    n_atoms: int

    @property
    def volume(self) -> float:
        """At equilibrium, in A^3 per atom."""
        return float(self.parameters[3]) / self.n_atoms

    @property
    def bulk_modulus(self) -> float:
        """In GPa."""
        return float(self.parameters[1]) / units.GPa

    @property
    def has_minimum(self) -> bool:
        """Whether the volume of equilibrium is among those of the curve."""
        return bool(self.volumes[0] < self.parameters[3] < self.volumes[-1])

    def above_minimum(self, volumes: Array) -> Array:
        """Energy per atom above that of equilibrium in eV, at volumes of the cell."""
        found: Array = birchmurnaghan(volumes, *self.parameters) - self.parameters[0]
        return found / self.n_atoms

    def as_plain(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "volume_a3_per_atom": self.volume,
            "bulk_modulus_gpa": self.bulk_modulus,
            "volumes_a3": self.volumes.tolist(),
            "energies_ev": self.energies.tolist(),
        }


def equation_of_state(subject: Subject, model: Surface) -> Finding:
    """The curve of a crystal whose atoms keep their places in the cell.

    Parameters
    ----------
    subject : Subject
    model : Surface
    """
    atoms = subject.atoms()
    own = _around_minimum(atoms, model)
    name = subject.name
    if own is None:
        line = f"energy-volume curve of {name}: the models have no minimum near its volume"
        return Finding("eos", name, [line], {}, [Judgement(VOLUME, np.inf, name)])
    values: dict[str, object] = {"model": own.as_plain()}
    line = (
        f"energy-volume curve of {name}: {own.volume:.3f} A^3/atom, bulk modulus"
        f" {own.bulk_modulus:.1f} GPa"
    )
    if subject.reference is None:
        return Finding(
            "eos", name, [line], values, (), {"eos.png": lambda axes: _draw(axes, own, None)}
        )
    true = curve(atoms, own.volumes, subject.reference)
    if true is None or not true.has_minimum:
        line += "; the reference has no minimum within 8 % of that volume"
        return Finding("eos", name, [line], values, [Judgement(VOLUME, np.inf, name)])
    apart = delta(own, true)
    off_volume = 100 * (own.volume / true.volume - 1)
    off_modulus = 100 * (own.bulk_modulus / true.bulk_modulus - 1)
    line += (
        f"; the reference {true.volume:.3f} A^3/atom, {true.bulk_modulus:.1f} GPa: off by"
        f" {off_volume:+.2f} % and {off_modulus:+.1f} %, the curves {1000 * apart:.2f} meV/atom"
        " apart"
    )
    values |= {"reference": true.as_plain(), "delta_ev_per_atom": apart}
    return Finding(
        "eos",
        name,
        [line, *_away_from_rest(name, atoms.get_volume() / len(atoms), true.volume)],
        values,
        [
            Judgement(VOLUME, off_volume, name),
            Judgement(BULK_MODULUS, off_modulus, name),
            Judgement(DELTA, 1000 * apart, name),
        ],
        {"eos.png": lambda axes: _draw(axes, own, true)},
    )


def _away_from_rest(name: str, own: float, rest: float) -> list[str]:
    """What is to be said of a cell (A^3 per atom) that is far from the reference's equilibrium."""
    off = rest / own - 1
    if abs(off) <= WIDTH:
        return []
    how = f"{100 * abs(off):.0f} % {'larger' if off > 0 else 'smaller'}"
    return [
        f"note: the reference's volume is {how} than that of the cell of {name} ({own:.3f}"
        " A^3/atom), around which models are trained: they need not know it. Begin with a cell at"
        " rest, or with more volumes (displaced.volume_range)"
    ]


def curve(atoms: Atoms, volumes: Array, surface: Surface) -> Curve | None:
    """The curve at volumes of the cell in A^3; None if it cannot be fitted."""
    structures = []
    for volume in volumes:
        scaled = atoms.copy()
        factor = (volume / atoms.get_volume()) ** (1 / 3)
        scaled.set_cell(atoms.cell.array * factor, scale_atoms=True)
        structures.append(scaled)
    energies = np.array([point.energy for point in surface(structures)])
    if not np.isfinite(energies).all():
        return None
    try:
        fit = EquationOfState(volumes, energies, eos="birchmurnaghan")
        fit.fit(warn=False)
    except (RuntimeError, ValueError):  # no minimum, or one that is no parabola
        return None
    parameters = np.asarray(fit.eos_parameters, dtype=float)
    return Curve(np.asarray(volumes), energies, parameters, len(atoms))


def delta(one: Curve, other: Curve) -> float:
    """Root mean square difference of two curves whose minima are put together, in eV per atom.

    Over 6 % to either side of the mean of their volumes (K. Lejaeghere et al., Science 351,
    aad3000 (2016)).
    """
    centre = (one.parameters[3] + other.parameters[3]) / 2
    volumes = centre * np.linspace(1 - DELTA_WIDTH, 1 + DELTA_WIDTH, 201)
    difference = one.above_minimum(volumes) - other.above_minimum(volumes)
    return float(np.sqrt(np.mean(difference**2)))


def _around_minimum(atoms: Atoms, surface: Surface) -> Curve | None:
    """The curve around the volume of equilibrium, wherever that is."""
    centre = atoms.get_volume()
    for _ in range(MOST_SEARCHES):
        volumes = centre * np.linspace(1 - WIDTH, 1 + WIDTH, N_VOLUMES)
        found = curve(atoms, volumes, surface)
        if found is None:
            return None
        lowest = int(np.argmin(found.energies))
        is_inside = 0 < lowest < N_VOLUMES - 1 and found.has_minimum
        if is_inside and abs(found.parameters[3] / centre - 1) < WIDTH / 4:
            return found
        centre = float(found.parameters[3]) if is_inside else float(volumes[lowest])
    return None


def _draw(axes: Axes, own: Curve, true: Curve | None) -> None:
    for one, name, color in ((true, "reference", "k"), (own, "models", "C0")):
        if one is None:
            continue
        volumes = np.linspace(one.volumes[0], one.volumes[-1], 200)
        axes.plot(volumes / one.n_atoms, 1000 * one.above_minimum(volumes), color, label=name)
        energies = (one.energies - one.parameters[0]) / one.n_atoms
        axes.plot(one.volumes / one.n_atoms, 1000 * energies, "o", color=color, markersize=3)
    axes.set(xlabel="volume (Å³/atom)", ylabel="energy above the minimum (meV/atom)")
    axes.legend(fontsize="small")
