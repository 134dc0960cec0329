"""Checks of how a backend trains and keeps what it has trained: losses, states, stages, exports.

Each is a function of a :class:`fhi_al.models.conformance_case.Case`; :func:`falling_loss` comes
before all that look at a trained member.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fhi_al.models.conformance_case import ALLOWED, Case
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.state_bytes import copied, packed, unpacked
from fhi_al.models.training import whole_epoch

N_EPOCHS = 30


def seeds(case: Case) -> None:
    """Models of equal and of other seeds."""
    one, same, other = (member.model.state() for member in case.others[:3])
    case.demand(_equal(one["model"], same["model"]), "two models of seed 3 differ")
    case.demand(not _equal(one["model"], other["model"]), "seeds 3 and 4 give the same model")


def falling_loss(case: Case) -> None:
    """Epochs of training, of which other promises use the member."""
    member = case.member
    member.add_training(case.labels[:-2])
    member.add_validation(case.labels[-2:])
    member.fit_normalisation()
    before = copied(dict(member.model.inference_weights().tensors))
    losses = [whole_epoch(member) for _ in range(N_EPOCHS)]
    case.demand(bool(np.isfinite(losses).all()), f"losses {losses}: not finite")
    case.demand(member.is_finite(), "is_finite() is False")
    after = dict(member.model.inference_weights().tensors)
    case.demand(not _equal(before, after), "no weight has moved")
    case.demand(
        losses[-1] < 0.9 * losses[0],
        f"the loss went from {losses[0]:.4g} to {losses[-1]:.4g} in {N_EPOCHS} epochs",
    )


def stress_training(case: Case) -> None:
    """Losses of stress and of virials."""
    general = case.settings.general.model_copy(update={"compute_stress": True})
    for loss in ("stress", "virials"):
        weights = {"stress_weight": 1e4, "virials_weight": 1e2, "forces_weight": 0.0}
        training = case.settings.training.model_copy(update={"loss": loss, **weights})
        settings = case.settings.model_copy(update={"general": general, "training": training})
        member = Ensemble(settings, case.elements, (11,)).members[0]
        member.add_training(case.labels[:-2])
        member.add_validation([label for label in case.labels if label.stress is not None])
        member.fit_normalisation()
        before = member.validate().mae_stress
        for _ in range(N_EPOCHS):
            whole_epoch(member)
        after = member.validate().mae_stress
        if before is None or after is None:
            raise case.broken("errors on labels with a stress have no error of the stress")
        case.demand(
            after < before,
            f"with loss {loss} the stress MAE went from {before:.4g} to {after:.4g} eV/A^3 in "
            f"{N_EPOCHS} epochs",
        )


def weights_round_trip(case: Case) -> None:
    """Weights put back after an epoch."""
    member = case.member
    before, weights = case.predict(case.molecule), member.weights()
    whole_epoch(member)
    changed = case.predict(case.molecule)
    case.demand(not np.array_equal(changed.forces, before.forces), "an epoch changes no prediction")
    member.set_weights(weights)
    found = case.predict(case.molecule)
    case.demand(np.array_equal(found.forces, before.forces), "forces differ")


def state_round_trip(case: Case) -> None:
    """A state read back by another member."""
    member, twin = case.member, case.others[3]
    twin.index, twin.seed = member.index, member.seed
    if not twin.training:
        twin.add_training(member.training)
        twin.add_validation(member.validation)
    twin.load_state(unpacked(packed(member.state())))
    case.demand(_equal(member.state(), twin.state()), "the state read back is another")
    losses = [whole_epoch(one) for one in (member, twin)]
    case.demand(losses[0] == losses[1], f"the epoch after it has the losses {losses}")
    case.demand(_equal(member.state(), twin.state()), "the states after an epoch differ")


def second_stage(case: Case) -> None:
    """Into the second stage, through a state of it, and out of it."""
    member, training = case.member, case.settings.training
    before, state = case.predict(case.molecule), member.state()
    first = whole_epoch(member)
    member.load_state(state)
    member.begin_second_stage()
    found = case.predict(case.molecule)
    case.demand(np.array_equal(found.forces, before.forces), "its beginning changes forces")
    rate = member.learning_rate
    case.demand(rate == training.swa_lr, f"learning rate {rate}, not {training.swa_lr}")
    case.demand(not member.has_scheduler, "the learning rate has a scheduler")
    state_round_trip(case)
    second = member.state()
    case.demand(member.in_second_stage, "a state that was read back has left it")
    member.load_state(state)
    case.demand(not member.in_second_stage, "it has not ended with the state before it")
    member.load_state(second)
    member.fresh_optimizer(scheduler=False)
    rate = member.learning_rate
    case.demand(rate == training.lr, f"learning rate {rate} after it, not {training.lr}")
    if _has_other_loss(case):
        member.load_state(state)
        member.begin_second_stage()
        loss = whole_epoch(member)
        case.demand(loss != first, f"the loss is {loss:.4g}, as in the first stage")
    member.load_state(state)


def _has_other_loss(case: Case) -> bool:
    training = case.settings.training
    weights = (training.energy_weight, training.forces_weight)
    return weights != (training.swa_energy_weight, training.swa_forces_weight)


def other_precision(case: Case) -> None:
    """The same weights in the other precision."""
    other = "float32" if case.dtype == "float64" else "float64"
    if other == "float64" and case.settings.misc.device == "mps":
        return
    predictor = case.ensemble.predictor(other)
    for atoms in (case.molecule, case.crystal):
        (found,), before = predictor.predict([atoms], [0]), case.predict(atoms)
        case.same(found, before, f"in {other}", ALLOWED["float32"])


def exported_model(case: Case) -> None:
    """A file that another member reads."""
    before = case.predict(case.crystal)
    with tempfile.TemporaryDirectory() as folder:
        (path,) = case.ensemble.export(Path(folder), "checked", [0])
        case.others[4].load_exported(path)
    (found,) = case.ensemble.predict([case.crystal], [5], stress=True)
    case.same(found, before, "read back")


def _equal(one: Any, other: Any) -> bool:
    """Nested states, bit for bit."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    return bool(one == other)
