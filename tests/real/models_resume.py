"""Resume saved ensembles and train on: run by test_models_resume in a process of its own."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from models_parts import ensemble, load_labels

from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.models.training import SerialTrainingPool

EPOCHS = 4


def train_on(made: Ensemble) -> dict[str, Any]:
    """Train some epochs more; fingerprints of everything that came out of it."""
    records = SerialTrainingPool(made, 2).begin(range(len(made)), EPOCHS).finish()
    forces = made.predict([made.members[0].validation[0]])[0].forces
    return {
        "losses": [record.loss.hex() for record in records],
        "maes": [record.errors.mae_forces.hex() for record in records if record.errors],
        "forces": [value.hex() for value in forces.flatten().tolist()],
        "states": [fingerprint(member.state()) for member in made.members],
    }


def fingerprint(state: Any) -> str:
    """Digest of nested state, tensors bit by bit."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.cpu().numpy().tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                digest.update(str(key).encode())
                add(item)
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(state)
    return digest.hexdigest()


def main(folder: Path) -> None:
    """For every saved case: load the states, train on, print the fingerprints."""
    labels = load_labels(folder / "labels.npz")
    found = {}
    with torch_set_up():
        for case in json.loads((folder / "cases.json").read_text()):
            made = ensemble(labels, **case["settings"])
            states = {path.name: path.read_bytes() for path in (folder / case["name"]).iterdir()}
            made.load_state_bytes(states)
            found[case["name"]] = train_on(made)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
