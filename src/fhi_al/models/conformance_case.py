"""What the check of a backend works with: small members, structures, labels, comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import geometry_key
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import NormalisationConstants, Prediction
from fhi_al.settings.mace import MaceSettings

# Errors allowed in eV, eV/A and eV/A^3, by precision.
ALLOWED = {"float64": 1e-8, "float32": 2e-3}


class BrokenPromise(AssertionError):
    """A backend does not do what :mod:`fhi_al.models.interface` says."""


class Case:
    """One backend in one precision on one device.

    Attributes
    ----------
    settings : MaceSettings
    dtype : str
        Of training.
    elements : tuple of int
    promise : str
        The one that is checked, for messages.
    ensemble : Ensemble
    member : Member
        The one that is looked at.
    others : list of Member
        Two of one seed, one of another, two that take over what is written.
    molecule, crystal, pair : Atoms
    labels : list of Label
        Of these, rattled.
    """

    def __init__(self, settings: MaceSettings, elements: tuple[int, ...]) -> None:
        self.settings = settings
        self.dtype = settings.general.default_dtype
        self.elements = elements
        self.promise = ""
        self.ensemble = Ensemble(settings, elements, (11, 3, 3, 4, 9, 12))
        self.member, *self.others = self.ensemble.members
        self.random = np.random.default_rng(7)
        # Lengths in units of the cutoff, so that there are neighbours.
        length = self.ensemble.r_max / 2.5
        self.molecule = Atoms(
            [elements[k % len(elements)] for k in (0, 1, 0, 1)],
            length * np.array([[0, 0, 0], [1, 0.1, 0], [0.2, 0.9, 0.1], [0.1, 0.2, 1.1]]),
        )
        self.crystal = bulk("Cu", "fcc", a=2.1 * length, cubic=True)
        self.crystal.numbers = [elements[k % len(elements)] for k in range(4)]
        self.crystal.rattle(0.05 * length, rng=self.random)
        self.pair = self.molecule[:2]
        self.labels = [self._label(atoms) for atoms in self._rattled(6)]

    def set_normalisation(self, constants: NormalisationConstants) -> None:
        """Give the member that is looked at other constants."""
        member = self.member
        member.model.set_normalisation(constants)
        member.set_weights(member.weights())  # counts as a change of what is predicted

    def predict(self, atoms: Atoms) -> Prediction:
        """What that member predicts, with the stress."""
        (found,) = self.ensemble.predict([atoms], [0], stress=True)
        return found

    def _rattled(self, n: int) -> list[Atoms]:
        several = [self.molecule, self.crystal, self.pair]
        made = [several[k % len(several)].copy() for k in range(n)]
        for atoms in made:
            atoms.rattle(0.03 * self.ensemble.r_max, rng=self.random)
        return made

    def _label(self, atoms: Atoms) -> Label:
        """Energy 5 (1 - r/r_max)^3 eV of each pair, -10 Z eV of each atom; a crystal's stress."""
        r_max = self.ensemble.r_max
        first, distances, vectors = neighbor_list("idD", atoms, r_max)
        left = 1 - distances / r_max
        energy = float(2.5 * (left**3).sum() - 10.0 * atoms.numbers.sum())
        forces = np.zeros((len(atoms), 3))
        slopes = (-15.0 / r_max * left**2 / distances)[:, np.newaxis] * vectors
        np.add.at(forces, first, slopes)
        cell = atoms.cell.array.copy()
        stress = None
        if atoms.pbc.all():
            slope = (-7.5 / r_max * left**2 / distances)[:, np.newaxis] * vectors
            stress = vectors.T @ slope / atoms.get_volume()
        return Label(
            key=geometry_key(0, atoms.positions, cell),
            system=0,
            numbers=atoms.numbers.copy(),
            positions=atoms.positions.copy(),
            cell=cell,
            pbc=bool(atoms.pbc.any()),
            energy=energy,
            forces=forces,
            stress=stress,
            origin=Origin("initial", 0, 0),
        )

    def same(
        self, found: Prediction, wanted: Prediction, how: str, allowed: float | None = None
    ) -> None:
        """Demand equal predictions, within what the precision allows."""
        limit = ALLOWED[self.dtype] if allowed is None else allowed
        size = max(1.0, float(np.abs(wanted.forces).max()))
        for name in ("energies", "forces", "stress"):
            one, other = getattr(found, name), getattr(wanted, name)
            if one is None or other is None or np.isnan(other).all():
                continue
            worst = float(np.abs(one - other).max())
            self.demand(worst <= limit * size, f"{how}: {name} differ by {worst:.3g}")

    def near(self, found: Any, wanted: Any, allowed: float, what: str) -> None:
        """Demand numbers that differ by no more than this."""
        worst = float(np.abs(np.asarray(found) - np.asarray(wanted)).max())
        self.demand(worst <= allowed, f"{what} {found}, expected {wanted} (within {allowed:.2g})")

    def demand(self, holds: bool, otherwise: str) -> None:
        """Raise an error that says what is the case otherwise."""
        if not holds:
            raise self.broken(otherwise)

    def broken(self, how: str) -> BrokenPromise:
        """The error that names backend, precision, device, promise and how it is broken."""
        where = f"{self.settings.backend}, {self.dtype} on {self.settings.misc.device}"
        return BrokenPromise(f"{where}: broken promise: {self.promise}: {how}")
