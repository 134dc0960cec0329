"""What the models predict for labels: ``report/predictions_PHASE.npz``, for the parity figures.

Owns these files.  They are no part of a run's state.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array
from fhi_al.models.interface import Prediction
from fhi_al.storage.atomic_file import write_atomically

VALIDATION = "validation"


@dataclass(frozen=True, eq=False)
class Predicted:
    """The members' predictions for one label, which none that counts was trained on.

    Parameters
    ----------
    key : str
        Of the label.
    points : str
        The set it is in: "validation", or one of the test sets.
    counts : (n_members,)
        Whose predictions make up the reported errors: the members that have the label in their
        validation sets; all, for a test set.
    energies : (n_members,)
        In eV.
    forces : (n_members, n_atoms, 3)
        In eV/A.
    stress : (n_members, 3, 3) or None
        In eV/A^3.
    """

    key: str
    points: str
    counts: NDArray[np.bool_]
    energies: Array
    forces: Array
    stress: Array | None

    @classmethod
    def of(cls, key: str, points: str, counts: Sequence[bool], found: Prediction) -> Predicted:
        """From what a predictor found."""
        stress = found.stress
        if stress is not None and not np.isfinite(stress).all():
            stress = None
        return cls(key, points, np.array(counts), found.energies, found.forces, stress)


def predictions_path(folder: Path, phase: str) -> Path:
    """The file of a phase, "initial" or "final", in a run's ``report/``."""
    return folder / f"predictions_{phase}.npz"


def write_predictions(
    path: Path, predicted: Sequence[Predicted], n_of_sets: dict[str, int]
) -> None:
    """Write predictions, forces in single precision.

    Parameters
    ----------
    path : Path
    predicted : sequence of Predicted
    n_of_sets : dict
        Labels of each set, of which these may be some only.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    n_members = len(predicted[0].counts) if predicted else 0
    no_stress = np.full((n_members, 3, 3), np.nan)
    forces = [one.forces.astype(np.float32) for one in predicted]
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        keys=np.array([one.key for one in predicted]),
        points=np.array([one.points for one in predicted]),
        counts=np.array([one.counts for one in predicted]),
        energies=np.array([one.energies for one in predicted]),
        n_atoms=np.array([one.shape[1] for one in forces], dtype=np.int64),
        forces=np.concatenate(forces, axis=1) if forces else np.zeros((0, 0, 3)),
        stress=np.array([no_stress if one.stress is None else one.stress for one in predicted]),
        sets=np.array(list(n_of_sets)),
        n_of_sets=np.array(list(n_of_sets.values()), dtype=np.int64),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, stream.getvalue())


def read_predictions(path: Path) -> tuple[list[Predicted], dict[str, int]] | None:
    """What :func:`write_predictions` wrote; None if there is no such file, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            a = {name: archive[name] for name in archive.files}
        ends = np.cumsum(a["n_atoms"])
        forces = np.split(a["forces"], ends[:-1], axis=1) if len(ends) else []
        predicted = [
            Predicted(
                str(key),
                str(points),
                counts,
                energies,
                of_label,
                None if np.isnan(stress).any() else stress,
            )
            for key, points, counts, energies, of_label, stress in zip(
                *(a["keys"], a["points"], a["counts"], a["energies"], forces, a["stress"]),
                strict=True,
            )
        ]
        sets = dict(zip(a["sets"].tolist(), a["n_of_sets"].tolist(), strict=True))
    except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
        return None
    return predicted, sets
