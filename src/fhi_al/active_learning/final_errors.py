"""The errors of the finished models on the structures of their test, over all and by system."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fhi_al.core.final_test import mean_of_drawn
from fhi_al.core.held_out import prediction_errors
from fhi_al.core.label import Label
from fhi_al.core.reported_errors import FinalErrors
from fhi_al.core.run_state import CandidateStatistics
from fhi_al.core.structure import Array
from fhi_al.core.system_errors import SystemErrors
from fhi_al.models.interface import Predictor


@dataclass(frozen=True, eq=False)
class Tested:
    """The structures that were labelled for the test.

    Parameters
    ----------
    labels : sequence of Label
    uncertainties : sequence of float
        Of each, in eV/A: structures were drawn in proportion to it.
    met : sequence of CandidateStatistics
        What they were drawn from, by system.
    """

    labels: Sequence[Label]
    uncertainties: Sequence[float]
    met: Sequence[CandidateStatistics]

    def mean_uncertainty(self, system: int) -> float:
        """Of all structures of a system that MD came to, in eV/A."""
        return next(each.mean_uncertainty for each in self.met if each.system == system)

    def places(self, system: int) -> list[int]:
        """Of a system's labels."""
        return [k for k, label in enumerate(self.labels) if label.system == system]


def errors_of_structures(tested: Tested, predictor: Predictor, members: Sequence[int]) -> Array:
    """Mean over members of each structure's errors: force (eV/A), energy per atom, stress (eV/A^3).

    Returns
    -------
    (n_labels, 3)
        NaN for the stress where a label has none.
    """
    found = np.full((len(tested.labels), 3), np.nan)
    # Apart, for a molecule has no stress to be predicted.
    for with_stress in (False, True):
        places = [
            k for k, label in enumerate(tested.labels) if (label.stress is not None) == with_stress
        ]
        labels = [tested.labels[k] for k in places]
        predicted = predictor.predict(labels, stress=with_stress) if labels else []
        for place, label, prediction in zip(places, labels, predicted, strict=True):
            of_members = []
            for k in members:
                stress = None if prediction.stress is None else [prediction.stress[k]]
                energy, forces = float(prediction.energies[k]), prediction.forces[k]
                one = prediction_errors([label], [energy], [forces], stress)
                of_members.append(
                    (
                        one.mae_forces,
                        one.mae_energy_per_atom,
                        math.nan if one.mae_stress is None else one.mae_stress,
                    )
                )
            found[place] = np.mean(of_members, axis=0)
    return found


def rows(tested: Tested, errors: Array) -> Iterator[dict[str, Any]]:
    """What the journal says of each structure."""
    for label, uncertainty, one in zip(tested.labels, tested.uncertainties, errors, strict=True):
        yield {
            "trajectory": label.origin.trajectory,
            "md_step": label.origin.step,
            "uncertainty": uncertainty,
            "mean_uncertainty": tested.mean_uncertainty(label.system),
            "mae_forces": float(one[0]),
            "mae_energy_per_atom": float(one[1]),
            "mae_stress": float(one[2]) if np.isfinite(one[2]) else None,
            "md": label.origin.md,
            "system": label.origin.system,
        }


def final_errors(tested: Tested, errors: Array, n_failures: int, md_ps: float) -> FinalErrors:
    """Errors over all that MD came to: systems count by how many structures that was.

    Parameters
    ----------
    tested : Tested
    errors : (n_labels, 3)
        Of :func:`errors_of_structures`.
    n_failures : int
    md_ps : float
    """
    known = [each for each in tested.met if tested.places(each.system)]
    if not known:
        return FinalErrors(np.inf, np.inf, np.inf, 0, n_failures, md_ps)
    total = sum(each.n_candidates for each in known)
    weights = [each.n_candidates / total for each in known]
    by_system: list[SystemErrors] = []
    variances: list[float] = []
    stress: list[tuple[float, float]] = []
    for each, weight in zip(known, weights, strict=True):
        places = tested.places(each.system)
        sizes = [tested.uncertainties[k] for k in places]

        forces, standard_error = _mean(errors[places, 0], sizes, each)
        energies, _ = _mean(errors[places, 1], sizes, each)
        by_system.append(SystemErrors(each.system, forces, energies, len(places)))
        variances.append((weight * standard_error) ** 2)
        if np.isfinite(errors[places, 2]).all():
            stress.append((weight, _mean(errors[places, 2], sizes, each)[0]))
    share_with_stress = math.fsum(weight for weight, _ in stress)
    return FinalErrors(
        _weighted(weights, [one.mae_forces for one in by_system]),
        math.sqrt(math.fsum(variances)),
        _weighted(weights, [one.mae_energy_per_atom for one in by_system]),
        len(tested.labels),
        n_failures,
        md_ps,
        math.fsum(w * value for w, value in stress) / share_with_stress if stress else None,
        tuple(by_system),
    )


def _mean(values: Array, sizes: Sequence[float], met: CandidateStatistics) -> tuple[float, float]:
    return mean_of_drawn(values.tolist(), sizes, met.mean_uncertainty)


def _weighted(weights: Sequence[float], values: Sequence[float]) -> float:
    return math.fsum(w * value for w, value in zip(weights, values, strict=True))
