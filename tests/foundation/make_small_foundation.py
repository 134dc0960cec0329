"""Make the small foundation model of the tests: structures, training, weights.

    python tests/foundation/make_small_foundation.py [--folder DIR] [--quick] [--epochs N]

Labels structures of some fifty molecules and three crystals (known_structures.py) by GFN1-xTB and
trains one MACE on them.  Its E0s are GFN1-xTB energies of isolated atoms.  Writes
small_foundation.npz (the weights, float32) and known_structures.xyz (structures that it was not
trained on, of the same molecules and crystals).  Structures are kept in the folder, the results
go beside this file unless ``--quick`` or ``--epochs`` say that this is a trial.  One thread; about
ten minutes of labels and half an hour of training.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from foundation.known_structures import isolated_atoms, training_structures, unseen_structures

from fhi_al.core.label import Label
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.labels.xyz import write_records
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.exports import read_exported
from fhi_al.models.mace.weights_file import write_weights
from fhi_al.models.member import Member
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.models.training import SerialTrainingPool
from fhi_al.settings.mace import MaceSettings

HERE = Path(__file__).parent
ELEMENTS = (1, 6, 7, 8, 14)
ARCHITECTURE = {
    "model": "ScaleShiftMACE",
    "r_max": 4.5,
    "num_channels": 32,
    "max_L": 0,
    "max_ell": 2,
    "correlation": 3,
    "radial_MLP": "[32, 32, 32]",
    "MLP_irreps": "16x0e",
}
EPOCHS = 90
LEARNING_RATES = 0.01, 0.0001  # first and last


def settings(epochs: int) -> MaceSettings:
    """How it is built and trained."""
    first, last = LEARNING_RATES
    return MaceSettings.model_validate(
        {
            "GENERAL": {"default_dtype": "float32", "compute_stress": True},
            "ARCHITECTURE": ARCHITECTURE | {"atomic_energies": isolated_atoms(ELEMENTS)},
            "TRAINING": {
                "loss": "stress",
                "stress_weight": 100.0,
                "energy_weight": 10.0,
                "batch_size": 16,
                "valid_batch_size": 50,
                "lr": first,
                "scheduler": "ExponentialLR",
                "lr_scheduler_gamma": (last / first) ** (1 / epochs),
                "ema_decay": 0.999,
            },
        }
    )


def structures(folder: Path, quick: bool) -> tuple[list[Label], list[Label]]:
    """Those to train on and those to test with, made now or before."""
    training, test = folder / "training.xyz", folder / "known_structures.xyz"
    if not training.exists():
        made = training_structures(2, 2, 1) if quick else training_structures(18, 12, 1)
        write_records(training, made)
    if not test.exists():
        write_records(test, unseen_structures(2))
    return read_labels(training), read_labels(test)


def train(training: list[Label], test: list[Label], epochs: int, folder: Path) -> Path:
    """Train one model; its file as MACE writes it."""
    # Of a member that is alone no disagreement is asked here.
    ensemble = Ensemble(settings(epochs), ELEMENTS, (1,))
    (member,) = ensemble.members
    member.add_training(training)
    member.add_validation(test)
    member.fit_normalisation()
    member.freeze_normalisation()
    member.fresh_optimizer(scheduler=True)
    pool, begun = SerialTrainingPool(ensemble, epochs), time.process_time()
    for epoch in range(1, epochs + 1):
        (record,) = pool.begin([0], 1).finish()
        member.fit_atomic_energies()
        if epoch % 5 == 0 or epoch in (1, epochs):
            errors = member.validate()
            print(
                f"epoch {epoch}: loss {record.loss:.4f}, force MAE {errors.mae_forces:.4f} eV/A, "
                f"energy {errors.mae_energy_per_atom:.4f} eV/atom, "
                f"{time.process_time() - begun:.0f} s",
                flush=True,
            )
            ensemble.export(folder, "small")
    with_isolated_atoms(member)
    (path,) = ensemble.export(folder, "small")
    return path


def with_isolated_atoms(member: Member) -> None:
    """Let the E0s be those of the isolated atoms: what was fitted to them goes into the shift."""
    constants = member.normalisation
    given = isolated_atoms(ELEMENTS)
    energies = tuple(given[number] for number in ELEMENTS)
    fitted = constants.atomic_energies[0] - energies[0]  # the same one for all elements
    member.model.set_normalisation(
        replace(constants, atomic_energies=energies, shift=constants.shift + fitted)
    )


def main() -> None:
    """Make what is not there yet, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("small_foundation"))
    parser.add_argument("--quick", action="store_true", help="few structures: only that it runs")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    given.folder.mkdir(parents=True, exist_ok=True)
    training, test = structures(given.folder, given.quick)
    print(f"{len(training)} structures to train on, {len(test)} to test with", flush=True)
    with torch_set_up(1):
        path = train(training, test, given.epochs, given.folder)
    trial = given.quick or given.epochs != EPOCHS
    results = given.folder if trial else HERE
    write_weights(read_exported(path), results / "small_foundation.npz")
    if not trial:
        write_records(results / "known_structures.xyz", test)


if __name__ == "__main__":
    main()
