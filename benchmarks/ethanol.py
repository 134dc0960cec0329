"""Ethanol labelled by GFN2-xTB, and four members to train on it: what benchmarks work with.

Nothing heavy is imported before it is used: ranks that only serve stay small.
"""

from __future__ import annotations

from typing import Any

N_MEMBERS = 4


def ethanol_labels(n_labels: int) -> list[Any]:
    """Distorted ethanol molecules with GFN2-xTB energies and forces."""
    import numpy as np
    from ase.build import molecule
    from labels import label_of
    from tblite.ase import TBLite

    from fhi_al.core.label import Origin

    random = np.random.default_rng(1)
    labels = []
    for step in range(n_labels):
        atoms = molecule("CH3CH2OH")
        atoms.positions += random.normal(0, 0.06, atoms.positions.shape)
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        labels.append(label_of(atoms, energy, forces, Origin("initial", 0, step)))
    return labels


def ensemble(labels: list[Any]) -> Any:
    """Four members that share one set, ready to train."""
    from fhi_al.models.ensemble import Ensemble
    from fhi_al.settings.mace import MaceSettings

    settings = MaceSettings.model_validate(
        {
            "general": {"default_dtype": "float64"},
            "architecture": {"num_channels": 32, "max_L": 0},
            "training": {"batch_size": 5, "ema": True},
            "misc": {"num_threads": 1},
        }
    )
    made = Ensemble(settings, (1, 6, 8), range(N_MEMBERS))
    for member in made.members:
        member.add_training(labels[:-4])
        member.add_validation(labels[-4:])
        member.fit_normalisation()
    return made
