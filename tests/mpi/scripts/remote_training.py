"""Train four members on several ranks: remote_training.py RANK[,RANK...] MODELS WHAT...

MODELS: "mace", or "pair" for the pair potentials of the tests.
WHAT: functions below that rank 0 runs, each with a pool of its own.  The other ranks serve.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from mpi4py import MPI

from fhi_al.models.remote.worker import TrainingRank
from fhi_al.parallel import mpi

ranks = [int(word) for word in sys.argv[1].split(",")]
sys.path.insert(0, str(Path(__file__).parents[2] / "backends"))

if MPI.COMM_WORLD.rank != 0:
    with mpi.communicator() as comm, ExitStack() as changes:
        sys.exit(mpi.serve(comm, TrainingRank(comm, changes).act))

sys.path.insert(0, str(Path(__file__).parents[2] / "real"))

from models_parts import ELEMENTS, built_once, settings, water_labels  # noqa: E402
from models_resume import fingerprint  # noqa: E402

from fhi_al.models.ensemble import Ensemble  # noqa: E402
from fhi_al.models.remote.client import RemoteTrainingPool, TrainingRankError  # noqa: E402
from fhi_al.models.remote.predictor import RemotePredictor  # noqa: E402
from fhi_al.models.torch_set_up import torch_set_up  # noqa: E402
from fhi_al.models.training import SerialTrainingPool, TrainingPool  # noqa: E402
from fhi_al.settings.mace import MaceSettings  # noqa: E402

SEEDS = (11, 22, 33, 44)
ALL = range(4)
LABELS = water_labels(16)


class Counting(MPI.Intracomm):
    """The communicator, noting the size of every order that goes out."""

    sizes: list[int]

    def isend(self, obj: Any, dest: int, tag: int = 0) -> MPI.Request:
        """Note an order and send it."""
        if tag == mpi.COMMAND_TAG and obj[0] in ("train", "predict"):
            self.sizes.append(len(pickle.dumps(obj)))
        return super().isend(obj, dest, tag)


def of_models(kind: str) -> MaceSettings:
    """Settings of small models with more than 700 weights."""
    if kind == "mace":
        return settings(num_interactions=1)
    from pair_potential import PairArchitecture

    how = {
        "backend": "pair_potential:PairPotential",
        "backend_class": "pair_potential:PairPotential",
        "architecture": PairArchitecture(num_functions=200),
    }
    return settings().model_copy(update=how)


def made() -> Ensemble:
    """Four members, each with its own training set, in a state to train."""
    ensemble = built_once(Ensemble(of_models(sys.argv[2]), ELEMENTS, SEEDS))
    for member in ensemble.members:
        member.add_training(LABELS[member.index : member.index + 7])
        member.add_validation(LABELS[12:14])
        member.fit_normalisation()
        member.fresh_optimizer(scheduler=True)
    return ensemble


def spread(ensemble: Ensemble, over: MPI.Intracomm | None = None) -> RemoteTrainingPool:
    return RemoteTrainingPool(ensemble, 2, over or comm, ranks)


def as_found(ensemble: Ensemble, records: list[Any]) -> dict[str, Any]:
    """Fingerprints of what rank 0 has after a round."""
    return {
        "records": [
            [r.member, r.epoch, r.loss.hex(), r.learning_rate.hex(), repr(r.errors)]
            for r in records
        ],
        "states": [fingerprint(member.state()) for member in ensemble.members],
        "forces": fingerprint(ensemble.predict([LABELS[15]])[0].forces.tolist()),
        "errors": [repr(member.validate()) for member in ensemble.members],
    }


def several_rounds(ensemble: Ensemble, pool: TrainingPool) -> list[Any]:
    """Rounds with every kind of change from rank 0 in between."""
    found = []

    def training_round(members: Any, n_epochs: int) -> None:
        found.append(as_found(ensemble, pool.begin(members, n_epochs).finish()))

    members = ensemble.members
    training_round(ALL, 3)
    training_round([2, 0, 3, 1], 1)
    members[1].fresh_optimizer(scheduler=False)
    before = members[2].weights()
    training_round(ALL, 2)
    members[2].set_weights(before)
    members[0].add_training([LABELS[14]])
    for member in members:
        member.add_training([LABELS[15]])
        member.add_validation([LABELS[11]])
    members[3].fit_normalisation()
    training_round(ALL, 2)
    training_round([1], 2)
    state = members[3].state()
    members[3].add_training([])
    members[3].load_state(state)
    members[0].freeze_normalisation()
    training_round(ALL, 1)
    return found


def same_numbers() -> dict[str, Any]:
    """The same rounds on one rank and on several; other epochs in between would show."""
    alone, apart = made(), made()
    pool = spread(apart)
    return {
        "alone": several_rounds(alone, SerialTrainingPool(alone, 2)),
        "apart": several_rounds(apart, pool),
        "busy": sorted(pool.busy_seconds()),
        "least busy": min(pool.busy_seconds().values()),
    }


def what_is_sent() -> dict[str, Any]:
    """Sizes of the orders: all that is new, nothing new, one more label, one state changed."""
    counting = Counting(comm)
    counting.sizes = []
    ensemble = made()
    pool = spread(ensemble, counting)
    weights = sum(parameter.numel() for parameter in ensemble.members[0].model.module.parameters())
    sizes: dict[str, Any] = {"weights": weights}
    for name in ("first", "nothing new", "one label", "one state"):
        if name == "one label":
            for member in ensemble.members:
                member.add_training([LABELS[15]])
        if name == "one state":
            ensemble.members[1].fresh_optimizer(scheduler=False)
        counting.sizes.clear()
        pool.begin(ALL, 1).finish()
        sizes[name] = list(counting.sizes)
    return sizes


def validation_is_not_repeated() -> dict[str, Any]:
    """CPU-bound time of asking for the errors after a round, and after a change."""
    ensemble = made()
    pool = spread(ensemble)
    pool.begin(ALL, 1).finish()
    times = []
    for _ in range(2):
        started = time.monotonic()
        for member in ensemble.members:
            member.validate()
        times.append(time.monotonic() - started)
        for member in ensemble.members:
            member.set_weights(member.weights())
    return {"after the round": times[0], "after a change": times[1]}


def meanwhile() -> dict[str, Any]:
    """A round advanced by hand and one finished: what rank 0 does and sees in between."""
    ensemble = made()
    pool = spread(ensemble)
    versions, calls = [], []
    training_round = pool.begin(ALL, 3)
    before = ensemble.predict([LABELS[15]])[0].forces
    while training_round.advance():
        versions.append(ensemble.version)
        if training_round.is_idle:
            time.sleep(0.001)
    after = ensemble.predict([LABELS[15]])[0].forces
    refused = ""
    second = pool.begin(ALL, 2)
    try:
        ensemble.members[0].add_training([LABELS[15]])
    except RuntimeError as error:
        refused = str(error)
    cpu = time.process_time()
    records = second.finish(
        lambda: calls.append(np.array_equal(ensemble.predict([LABELS[15]])[0].forces, after))
    )
    return {
        "versions": len(set(versions)),
        "changed": not np.array_equal(before, after),
        "calls": len(calls),
        "steady": all(calls),
        "refused": refused,
        "records": [[record.epoch, record.member] for record in records],
        "advance": training_round.advance(),
        "finished": training_round.is_finished,
        "cpu": time.process_time() - cpu,
    }


def failing() -> dict[str, Any]:
    """The training of member 1 fails, elsewhere; then a diverging member, which does not fail."""
    ensemble = made()
    pool = spread(ensemble)
    saved = ensemble.state_bytes()
    broken = replace(LABELS[15], key="broken", energy=float("nan"))
    healthy = list(ensemble.members[1].training)
    ensemble.members[1].add_training([broken])
    found: dict[str, Any] = {}
    try:
        pool.begin(ALL, 500).finish()
    except TrainingRankError as error:
        found["error"] = str(error)
    try:
        ensemble.members[1].state()
    except RuntimeError as error:
        found["state"] = str(error)
    for member in ensemble.members:
        member.end_round()
    ensemble.members[1].training[:] = healthy
    ensemble.load_state_bytes(saved)
    records = pool.begin(ALL, 1).finish()
    next(ensemble.members[3].model.module.parameters()).data[0] = float("nan")
    ensemble.members[3].set_weights(ensemble.members[3].weights())
    diverged = pool.begin(ALL, 1).finish()
    return {
        **found,
        "again": [float(record.loss) > 0 for record in records],
        "diverged": [record.loss != record.loss for record in diverged],
        "finite": [member.is_finite() for member in ensemble.members],
    }


def given_up() -> dict[str, Any]:
    """Long rounds that are given up, by an exception of ours and by closing; and then another."""

    class Ours(Exception):
        pass

    def interrupt() -> None:
        raise Ours

    ensemble = made()
    pool = spread(ensemble)
    pool.begin(ALL, 1).finish()
    saved = ensemble.state_bytes()
    started = time.monotonic()
    raised = False
    try:
        pool.begin(ALL, 100_000).finish(interrupt)
    except Ours:
        raised = True

    def put_back() -> None:
        for member in ensemble.members:
            member.end_round()
        ensemble.load_state_bytes(saved)

    put_back()
    pool.begin(ALL, 100_000).advance()
    pool.close()
    pool.close()
    took = time.monotonic() - started
    put_back()
    records = pool.begin(ALL, 1).finish()
    alone = made()
    serial = SerialTrainingPool(alone, 2)
    serial.begin(ALL, 1).finish()
    return {
        "raised": raised,
        "took": took,
        "found": as_found(ensemble, records),
        "alone": as_found(alone, serial.begin(ALL, 1).finish()),
    }


def predictions() -> dict[str, Any]:
    """All members or one, few structures or many, before and after a round: here and shared."""
    ensemble = made()
    counting = Counting(comm)
    counting.sizes = []
    pool = spread(ensemble, counting)
    shared = RemotePredictor(pool)
    same, sizes = [], []
    for _ in range(2):
        for members in (None, [2], [0, 3]):
            for n_structures in (1, 5, 0):
                some = LABELS[:n_structures]
                here, there = (p.predict(some, members) for p in (ensemble, shared))
                same.append(
                    [
                        float(np.abs(one.forces - other.forces).max())
                        for one, other in zip(here, there, strict=True)
                    ]
                )
                sizes.append(sum(counting.sizes))
                counting.sizes.clear()
        training_round = pool.begin(ALL, 1)
        counting.sizes.clear()
        alone = shared.predict(LABELS[:5])  # the others are busy
        sizes.append(sum(counting.sizes))
        same.append(
            [
                float(np.abs(a.forces - b.forces).max())
                for a, b in zip(alone, ensemble.predict(LABELS[:5]), strict=True)
            ]
        )
        training_round.finish()
    local = ensemble.predictor("float32")
    single = RemotePredictor(pool, "float32")
    precisions = [
        [
            max(
                np.abs(one.forces - other.forces).max(), np.abs(one.energies - other.energies).max()
            )
            for one, other in zip(there.predict(LABELS[:5]), here.predict(LABELS[:5]), strict=True)
        ]
        for there, here in ((single, local), (single.as_trained, ensemble), (single, ensemble))
    ]
    crystals = [bulk("O", "fcc", a=length, cubic=True) for length in (4.0, 4.3, 4.6)]
    structures = [*crystals, LABELS[0]]
    here, there = (p.predict(structures, stress=True) for p in (ensemble, shared))
    stress = [
        float(np.abs(one.stress - other.stress).max())
        for one, other in zip(here, there, strict=True)
        if one.stress is not None and other.stress is not None
    ]
    sizes_of_it = [float(np.abs(one.stress).max()) for one in here if one.stress is not None]
    return {
        "differences": same,
        "sent": sizes,
        "precisions": precisions,
        "stress": stress,
        "sizes of it": sizes_of_it,
        "without": [one.stress is None for one in shared.predict(structures)],
    }


with mpi.communicator() as comm, torch_set_up():
    result = {what: globals()[what]() for what in sys.argv[3:]}
    mpi.call(comm, "stop", 0)
    print("RESULT " + json.dumps(result), flush=True)
