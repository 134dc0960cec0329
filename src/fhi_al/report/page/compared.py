"""What the models predict for labels beside the reference, by set and system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.report.predictions import Predicted
from fhi_al.report.record import RunRecord


@dataclass(frozen=True, eq=False)
class Compared:
    """One quantity of the labels of one set and system, and what the models say of it.

    Parameters
    ----------
    points, system : str
        The set and the system, in words.
    n_labels : int
    reference : (n,)
        In eV/A, eV per atom or eV/A^3.
    predicted : (n,)
        The mean over the members that count.
    errors : (n, n_members)
        Of each member; NaN where one does not count.
    """

    points: str
    system: str
    n_labels: int
    reference: Array
    predicted: Array
    errors: Array

    @property
    def mae(self) -> float:
        """Mean over the members of their mean absolute errors."""
        return float(np.nanmean(np.abs(self._known), axis=0).mean())

    @property
    def mae_of_mean(self) -> float:
        """Mean absolute error of the mean over the members."""
        return float(np.abs(self.predicted - self.reference).mean())

    @property
    def rmse(self) -> float:
        """Mean over the members of their root mean square errors."""
        found = np.sqrt(np.nanmean(np.square(self._known), axis=0))
        return float(found.mean())

    @property
    def worst(self) -> float:
        """The largest error of any member."""
        return float(np.nanmax(np.abs(self.errors)))

    @property
    def _known(self) -> Array:
        """Of the members that count for any of the labels."""
        known: Array = self.errors[:, ~np.isnan(self.errors).all(axis=0)]
        return known


def compared(record: RunRecord, phase: str) -> dict[str, list[Compared]]:
    """By quantity: what the models of a phase say of the labels of each set and system."""
    predicted, _ = record.predictions[phase]
    labels = {label.key: label for label in record.good}
    groups: dict[tuple[str, int], list[tuple[Label, Predicted]]] = {}
    for one in predicted:
        label = labels.get(one.key)
        if label is not None and one.counts.any():
            groups.setdefault((one.points, label.system), []).append((label, one))
    found: dict[str, list[Compared]] = {}
    for (name, system), pairs in groups.items():
        for quantity, parts in _quantities(pairs).items():
            if not parts:
                continue
            wanted = np.concatenate([reference for reference, _ in parts])
            members = np.concatenate([of_members for _, of_members in parts])
            found.setdefault(quantity, []).append(
                Compared(
                    name,
                    record.system_name(system),
                    len(parts),
                    wanted,
                    np.nanmean(members, axis=1),
                    members - wanted[:, None],
                )
            )
    return found


def _quantities(
    pairs: Sequence[tuple[Label, Predicted]],
) -> dict[str, list[tuple[Array, Array]]]:
    """Reference (n,), and prediction of each member (n, n_members), NaN where it does not count."""
    found: dict[str, list[tuple[Array, Array]]] = {"forces": [], "energies": [], "stress": []}
    for label, one in pairs:
        counts = np.where(one.counts, 0.0, np.nan)
        n_atoms, n_members = len(label.numbers), len(counts)
        forces = one.forces.reshape(n_members, -1).T.astype(float) + counts
        found["forces"].append((label.forces.ravel(), forces))
        energies = (one.energies / n_atoms + counts)[None, :]
        found["energies"].append((np.array([label.energy / n_atoms]), energies))
        if label.stress is not None and one.stress is not None:
            stress = one.stress.reshape(n_members, -1).T + counts
            found["stress"].append((label.stress.ravel(), stress))
    return found
