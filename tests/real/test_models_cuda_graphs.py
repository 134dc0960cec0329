"""Recorded steps and forces are those of the plain way; on a CPU, with recorders of two kinds.

`PlainRecorder` runs what is to be replayed; `TapeRecorder` repeats operations on tensors, as CUDA
graphs do, so that a number that Python would have changed between two steps shows.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from models_parts import SEEDS, settings, water_labels
from pair_potential import PairPotential
from tape_recorder import WAITS, TapeRecorder
from torch.utils._python_dispatch import TorchDispatchMode

from fhi_al.core.label import Label
from fhi_al.models import cuda_graphs
from fhi_al.models.cuda_graphs import (
    PLAIN_CALLS,
    Recordings,
    Replayed,
    recordings_on,
)
from fhi_al.models.devices import cuequivariance_problem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.member import Member
from fhi_al.models.recorders import PlainRecorder, Recorder
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.models.torch_model import TorchModel
from fhi_al.models.training import SerialTrainingPool, whole_epoch
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.model_backends import declaration

pytestmark = pytest.mark.real

# Relative to the largest weight: float64 sums in another order, through some steps of Adam, which
# divides by gradients' sizes.
TRAINED = 1e-7
FORCES = 1e-11  # eV/A, float64
NO_CUEQUIVARIANCE = cuequivariance_problem("cpu")


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(14)  # ten train in batches of five


@pytest.fixture(autouse=True)
def _counting_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch lets Adam count steps in tensors on GPUs only, though a CPU could as well."""
    module = sys.modules["torch.optim.adam"]
    name = "_get_capturable_supported_devices"
    monkeypatch.setattr(module, name, lambda *_, **__: ["cpu", "cuda"])


def pair_settings(**training: Any) -> MaceSettings:
    made = declaration("pair_potential:PairPotential")
    return MaceSettings.model_validate(
        {
            "architecture": made.architecture.model_validate({}),
            "training": {"batch_size": 5, "ema": True, **training},
            "backend": made.name,
            "backend_class": made.backend,
        }
    )


def pairs(labels: list[Label], recorder: Recorder | None, **training: Any) -> Ensemble:
    """Fitted pair potentials, whose steps are recorded."""
    made = Ensemble(pair_settings(**training), (1, 8), SEEDS)
    return with_recorder(made, labels, recorder)


def with_recorder(made: Ensemble, labels: list[Label], recorder: Recorder | None) -> Ensemble:
    backend = made.backend
    assert isinstance(backend, TorchBackend)
    backend.recordings = Recordings(recorder)
    for member in made.members:
        if not member.fitted:
            member.add_training(labels[:-4])
            member.add_validation(labels[-4:])
            member.fit_normalisation()
    return made


def recordings(made: Ensemble) -> Recordings:
    backend = made.backend
    assert isinstance(backend, TorchBackend)
    return backend.recordings


def all_weights(member: Member) -> torch.Tensor:
    """Raw and averaged weights."""
    found = member.weights()
    tensors = [*found["model"].values(), *found["average"]["shadow_params"]]
    return torch.cat([each.double().flatten() for each in tensors])


def trained(member: Member) -> list[float]:
    """Six epochs: rates fall, the second stage begins and ends; the losses."""
    losses = [whole_epoch(member) for _ in range(2)]
    member.fresh_optimizer(scheduler=True)
    losses.append(whole_epoch(member))
    member.scheduler_step(1.0)
    losses.append(whole_epoch(member))
    member.begin_second_stage()
    losses += [whole_epoch(member) for _ in range(2)]
    return losses


@pytest.mark.parametrize("recorder", [PlainRecorder, TapeRecorder])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_recorded_steps_train_as_plain_ones(
    recorder: Callable[[], Recorder], optimizer: str, labels: list[Label]
) -> None:
    keys: dict[str, Any] = {"optimizer": optimizer, "scheduler": "ExponentialLR", "clip_grad": 1.0}
    keys["lr_scheduler_gamma"] = 0.5
    plain, recorded = pairs(labels, None, **keys), pairs(labels, recorder(), **keys)
    expected, found = (trained(made.members[0]) for made in (plain, recorded))
    assert recordings(recorded).is_on
    assert recordings(recorded).n_recorded > 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    weights = all_weights(plain.members[0])
    torch.testing.assert_close(
        all_weights(recorded.members[0]), weights, rtol=0, atol=TRAINED * float(weights.abs().max())
    )
    assert recorded.members[0].learning_rate == plain.members[0].learning_rate


@pytest.mark.parametrize(
    ("recorder", "enable_cueq"),
    [
        (PlainRecorder, False),
        (TapeRecorder, False),
        pytest.param(
            TapeRecorder,
            True,
            marks=pytest.mark.skipif(NO_CUEQUIVARIANCE is not None, reason=str(NO_CUEQUIVARIANCE)),
        ),
    ],
)
def test_recorded_training_of_mace_is_the_plain_one(
    recorder: Callable[[], Recorder], enable_cueq: bool, labels: list[Label]
) -> None:
    weights, forces = [], []
    for one, key in ((None, False), (recorder(), enable_cueq)):
        # MACE's own modules: ours on CPUs looks at numbers.
        made = Ensemble(settings(enable_cueq=key), (1, 8), (11,))
        backend: Any = made.backend
        backend.to_runtime_model = lambda model: _without_energies(model)
        backend._loss = TorchBackend.loss(backend, _first_stage(made))
        with_recorder(made, labels, one)
        (member,) = made.members
        for _ in range(4):
            whole_epoch(member)
        weights.append(all_weights(member))
        forces += [made.predict([labels[0]])[0].forces for _ in range(4)][-1:]
    assert recordings(made).n_recorded == 2  # a step, and forces
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=TRAINED)
    np.testing.assert_allclose(forces[1], forces[0], atol=1e-5)  # of weights that differ


@pytest.mark.parametrize("recorder", [PlainRecorder, TapeRecorder])
def test_recorded_energies_fit_the_constants_of_the_plain_way(
    recorder: Callable[[], Recorder], labels: list[Label]
) -> None:
    """What every training does before each validation; MACE lets positions ask for gradients."""
    constants, errors = [], []
    for one in (None, recorder()):
        made = Ensemble(settings(ema=False), (1, 8), (11,))
        backend: Any = made.backend
        backend.to_runtime_model = lambda model: _without_energies(model)
        with_recorder(made, labels, one)
        (member,) = made.members
        for _ in range(4):
            weights = member.weights()["model"]
            scaled = {name: 1.01 * value for name, value in weights.items()}
            member.set_weights({**member.weights(), "model": scaled})
            member.fit_atomic_energies()
        constants.append(member.normalisation.atomic_energies)
        errors.append(member.validate().mae_energy_per_atom)
    assert recordings(made).n_recorded == 1
    np.testing.assert_allclose(constants[1], constants[0], rtol=1e-10)
    assert errors[1] == pytest.approx(errors[0], rel=1e-8)


class Waits(TorchDispatchMode):
    """Counts the operations for which a device would be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        name = operation.overloadpacket.__name__
        if name in WAITS:
            self.found.append(name)
        return operation(*arguments, **(options or {}))


@pytest.mark.parametrize("replays", [True, False])
def test_nothing_is_waited_for_in_an_epoch_and_once_in_a_validation(
    replays: bool, labels: list[Label]
) -> None:
    for size in (1, 5):
        made = Ensemble(settings(batch_size=size, valid_batch_size=size), (1, 8), (11,))
        backend: Any = made.backend
        backend.to_runtime_model = lambda model: _without_energies(model)
        backend._loss = TorchBackend.loss(backend, _first_stage(made))
        with_recorder(made, labels, TapeRecorder())
        backend.recordings.is_on = replays
        (member,) = made.members
        for _ in range(3):  # all is recorded, and made that is made once
            whole_epoch(member)
            member.validate()
        with Waits() as epoch:
            whole_epoch(member)
        with Waits() as validation:
            member.validate()
        assert epoch.found == []
        assert validation.found == ["_local_scalar_dense"]  # the loss


def _without_energies(model: Any) -> torch.nn.Module:
    from fhi_al.models.mace.runtime_model import remove_atomic_energies

    remove_atomic_energies(model)
    found: torch.nn.Module = model
    return found


def _first_stage(made: Ensemble) -> Any:
    from fhi_al.models.loss import LossWeights

    return LossWeights.first_stage(made.settings.training)


@pytest.mark.parametrize("recorder", [PlainRecorder, TapeRecorder])
def test_recorded_training_goes_on_bit_for_bit_from_a_state(
    recorder: Callable[[], Recorder], labels: list[Label]
) -> None:
    unbroken = pairs(labels, recorder())
    for _ in range(3):
        whole_epoch(unbroken.members[0])
    state = unbroken.state_bytes()
    resumed = pairs(labels, recorder())
    whole_epoch(resumed.members[0])  # of which nothing must stay
    resumed.load_state_bytes(state)
    for made in (unbroken, resumed):
        for _ in range(4):
            whole_epoch(made.members[0])
    assert torch.equal(all_weights(unbroken.members[0]), all_weights(resumed.members[0]))


def test_states_pass_between_recorded_and_plain_training(labels: list[Label]) -> None:
    plain, recorded = pairs(labels, None), pairs(labels, TapeRecorder())
    for made in (plain, recorded):
        whole_epoch(made.members[0])
    for one, other in ((plain, recorded), (recorded, plain)):
        one.load_state_bytes(other.state_bytes())
        for _ in range(3):
            assert np.isfinite(whole_epoch(one.members[0]))


@pytest.mark.parametrize("recorder", [PlainRecorder, TapeRecorder])
def test_recorded_forces_follow_positions_and_weights(
    recorder: Callable[[], Recorder], labels: list[Label]
) -> None:
    plain, recorded = pairs(labels, None), pairs(labels, recorder())
    for _ in range(2):
        for each in labels[:5]:
            for given, wanted in zip(
                recorded.predict([each, labels[6]], stress=True),
                plain.predict([each, labels[6]], stress=True),
                strict=True,
            ):
                np.testing.assert_allclose(given.forces, wanted.forces, atol=FORCES)
                np.testing.assert_allclose(given.energies, wanted.energies, atol=1e-9)
                assert given.stress is not None and np.isnan(given.stress).all()  # molecules
        assert recordings(recorded).n_recorded == 2  # one for each member, of one size
        whole_epoch(plain.members[0])
        recorded.members[0].set_weights(plain.members[0].weights())
    errors = [made.members[0].validate() for made in (plain, recorded)]
    assert errors[1].mae_forces == pytest.approx(errors[0].mae_forces, rel=1e-10)
    assert errors[1].loss == pytest.approx(errors[0].loss, rel=1e-10)


class Streams(PlainRecorder):
    """Notes what a device would do apart from the rest, and what is told to come after it."""

    def __init__(self, all_of_them: list[Streams] | None = None) -> None:
        self.all_of_them: list[Streams] = [] if all_of_them is None else all_of_them
        self.events: list[tuple[str, Streams]] = []
        self.is_under_way = False

    def apart(self) -> Streams:
        made = type(self)(self.all_of_them)
        made.events = self.events
        self.all_of_them.append(made)
        return made

    @contextmanager
    def in_turn(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
        self.events.append(("step", self))
        self.is_under_way = True
        yield

    def join(self) -> None:
        self.is_under_way = False


def test_members_train_side_by_side_and_nothing_reads_steps_that_are_under_way(
    labels: list[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Streams()
    made = pairs(labels, recorder)
    streams = {id(made.members[k].model): recorder.all_of_them[k] for k in range(len(SEEDS))}
    read: list[bool] = []

    def watched(name: str) -> None:
        method = getattr(TorchModel, name)

        def watching(self: TorchModel, *arguments: Any) -> Any:
            read.append(streams[id(self)].is_under_way)
            return method(self, *arguments)

        monkeypatch.setattr(TorchModel, name, watching)

    for name in ("inference_weights", "state", "weights", "is_finite", "set_normalisation"):
        watched(name)
    SerialTrainingPool(made, valid_skip=1).begin([0, 1], 3).finish()
    assert [stream for _, stream in recorder.events] == recorder.all_of_them * 6  # two batches
    for member in made.members:
        assert member.is_finite() and member.state() and member.weights()
    assert len(read) > 6 and not any(read)


def test_steps_of_a_training_that_is_given_up_are_not_under_way(labels: list[Label]) -> None:
    recorder = Streams()
    made = pairs(labels, recorder)
    training_round = SerialTrainingPool(made, valid_skip=1).begin([0, 1], 2)
    for _ in range(2):
        training_round.advance()
    assert all(stream.is_under_way for stream in recorder.all_of_them)
    training_round.give_up()
    assert not any(stream.is_under_way for stream in recorder.all_of_them)


def test_a_plain_step_comes_after_those_that_were_apart(labels: list[Label]) -> None:
    class Refusing(Streams):
        def record(self, function: Any) -> Any:
            raise RuntimeError("cannot be recorded")

    recorder = Refusing()
    made = pairs(labels, recorder)
    member = made.members[0]
    whole_epoch(member)  # as many calls as are made before recording
    epoch = member.train_epoch()
    next(epoch)
    assert recorder.all_of_them[0].is_under_way and not recordings(made).is_on
    next(epoch)
    assert not recorder.all_of_them[0].is_under_way


class Refuses(PlainRecorder):
    """Cannot record, as torch says it: the error on the way out is not the reason."""

    def record(self, function: Any) -> Any:
        try:
            raise RuntimeError("operation not permitted when stream is capturing")
        except RuntimeError:
            raise RuntimeError("capture was invalidated") from None


def test_where_recording_fails_training_goes_on_and_the_reason_is_logged_once(
    labels: list[Label], caplog: pytest.LogCaptureFixture
) -> None:
    plain, refused = pairs(labels, None), pairs(labels, Refuses())
    with caplog.at_level(logging.WARNING):
        for made in (plain, refused):
            for member in made.members:
                for _ in range(4):
                    whole_epoch(member)
    said = [record.getMessage() for record in caplog.records if "CUDA graphs" in record.message]
    assert len(said) == 1
    assert "operation not permitted when stream is capturing" in said[0]
    assert not recordings(refused).is_on
    for one, other in zip(plain.members, refused.members, strict=True):
        torch.testing.assert_close(all_weights(one), all_weights(other), rtol=0, atol=TRAINED)


def test_what_cannot_be_padded_is_computed_the_plain_way(
    labels: list[Label], caplog: pytest.LogCaptureFixture
) -> None:
    class Charged(PairPotential):
        def inputs(self, samples: Any, dtype: Any) -> Any:
            return {**super().inputs(samples, dtype), "charges": torch.zeros(len(samples))}

    backend = Charged(pair_settings(), (1, 8))
    backend.recordings = Recordings(PlainRecorder())
    model = backend.inference()
    model.load(backend.trainable(1).inference_weights())
    sample = backend.sample(labels[0])
    assert sample is not None
    with caplog.at_level(logging.WARNING):
        (found,) = backend.predict([model], [sample])
    assert np.isfinite(found.forces).all()
    assert "cannot be padded" in caplog.text


def batch(n_atoms: int) -> dict[str, torch.Tensor]:
    """One structure, each atom paired with the next."""
    atoms = torch.arange(n_atoms)
    return {
        "positions": torch.arange(3.0 * n_atoms).view(-1, 3),
        "cell": torch.eye(3),
        "node_attrs": torch.ones(n_atoms, 1),
        "edge_index": torch.stack([atoms, atoms.roll(1)]),
        "shifts": torch.zeros(n_atoms, 3),
        "unit_shifts": torch.zeros(n_atoms, 3),
        "batch": torch.zeros(n_atoms, dtype=torch.int64),
        "ptr": torch.tensor([0, n_atoms]),
    }


def total(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"sum": tensors["positions"].sum()}


def test_each_size_is_recorded_once() -> None:
    kept = Recordings(TapeRecorder())
    function = Replayed(total, kept, 5.0)
    for scale in (1.0, 2.0, 3.0, 4.0):  # what changes is copied to where it was recorded
        tensors = batch(4)
        tensors["positions"] *= scale
        assert float(function(tensors)["sum"]) == 66 * scale
    assert kept.n_recorded == 1
    for _ in range(4):
        function(batch(8))
        function(batch(4))
    assert kept.n_recorded == 2
    function.forget()
    for _ in range(4):
        function(batch(8))
    assert kept.n_recorded == 3


class Counts(PlainRecorder):
    """Knows how much of what it has recorded is still there, and how often all was given up."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.given_up = 0

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        def replay() -> Any:
            return function()

        self.alive.add(replay)
        return replay

    def forget(self) -> None:
        self.given_up += 1
        assert not self.alive


def recorded(function: Replayed, n_atoms: int) -> None:
    for _ in range(PLAIN_CALLS + 1):
        function(batch(n_atoms))


def test_what_one_recorder_has_recorded_is_given_up_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch takes a workspace that graphs of a stream share away with the first of them."""
    monkeypatch.setattr(cuda_graphs, "MOST_RECORDINGS", 2)
    recorder = Counts()
    apart = recorder.apart()
    kept = Recordings(recorder)
    one, other = (Replayed(total, kept, 5.0) for _ in range(2))
    member = Replayed(total, kept, 5.0, apart)
    for function in (one, other, member):
        recorded(function, 4)
    recorded(one, 8)
    assert (len(recorder.alive), len(apart.alive)) == (3, 1)
    one(batch(20))  # has no room
    assert (len(recorder.alive), len(apart.alive)) == (0, 1)
    assert recorder.given_up and not apart.given_up
    recorded(other, 4)
    member.forget()
    assert (len(recorder.alive), len(apart.alive)) == (1, 0)
    kept.forget()
    assert not recorder.alive


def test_nothing_recorded_is_kept_when_recording_is_given_up() -> None:
    class Once(Counts):
        def record(self, function: Any) -> Any:
            if self.alive:
                raise RuntimeError("not a second time")
            return super().record(function)

    recorder = Once()
    kept = Recordings(recorder)
    function = Replayed(total, kept, 5.0)
    recorded(function, 4)
    recorded(function, 8)
    assert not kept.is_on and not recorder.alive


def test_recording_goes_on_where_memory_does_not_suffice_for_one_size() -> None:
    class Full(Counts):
        n_tried = 0

        def record(self, function: Any) -> Any:
            self.n_tried += 1
            if self.n_tried == 1:
                try:
                    raise torch.OutOfMemoryError("out of memory")
                except RuntimeError:
                    raise RuntimeError("capture was invalidated") from None
            return super().record(function)

    recorder = Full()
    kept = Recordings(recorder)
    function = Replayed(total, kept, 5.0)
    for _ in range(3):
        recorded(function, 20)
        recorded(function, 4)
    assert kept.is_on and kept.n_recorded == 1
    assert recorder.n_tried == 2
    assert float(function(batch(4))["sum"]) == 66


def test_a_call_for_which_memory_does_not_suffice_is_none_of_those_before_recording() -> None:
    kept = Recordings(PlainRecorder())

    def fails(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("out of memory")

    function = Replayed(fails, kept, 5.0)
    for _ in range(PLAIN_CALLS + 2):
        with pytest.raises(torch.OutOfMemoryError):
            function(batch(4))
    assert kept.is_on and kept.n_recorded == 0


def test_recordings_of_a_model_that_is_replaced_are_not_kept(labels: list[Label]) -> None:
    counted: list[Counts] = []

    class Apart(Counts):
        def apart(self) -> Counts:
            counted.append(Counts())
            return counted[-1]

    made = pairs(labels, Apart())
    member = made.members[0]
    for _ in range(2):
        whole_epoch(member)
    assert len(counted[0].alive) == 1
    member.begin_anew()
    assert not counted[0].alive


@pytest.mark.parametrize(
    "what",
    [
        lambda made, labels: made.predict(labels[:2]),
        lambda made, labels: made.members[0].errors_on(labels[:2]),
        lambda made, labels: made.members[0].fit_atomic_energies(),
        lambda made, labels: made.descriptors.of(labels[:2]),
    ],
    ids=["predictions", "errors", "energies", "descriptors"],
)
def test_predictions_for_which_memory_does_not_suffice_take_that_of_recorded_steps(
    what: Callable[[Ensemble, list[Label]], Any],
    labels: list[Label],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[Counts] = []

    class Apart(Counts):
        def apart(self) -> Counts:
            steps.append(Counts())
            return steps[-1]

    made = pairs(labels, Apart())
    for _ in range(2):
        whole_epoch(made.members[0])
    assert len(steps[0].alive) == 1
    real, n_tried = PairPotential.energies, 0

    def energies(self: PairPotential, *arguments: Any) -> Any:
        nonlocal n_tried
        n_tried += 1
        if any(each.alive for each in steps):
            raise torch.OutOfMemoryError("out of memory")
        return real(self, *arguments)

    monkeypatch.setattr(PairPotential, "energies", energies)
    monkeypatch.setattr(PairPotential, "features", _features_of(energies))
    what(made, labels)
    assert not steps[0].alive and recordings(made).is_on
    assert n_tried >= 2


def _features_of(energies: Callable[..., Any]) -> Callable[..., Any]:
    real = PairPotential.features

    def features(self: PairPotential, module: Any, inputs: Any) -> Any:
        energies(self, module, inputs)
        return real(self, module, inputs)

    return features


def test_results_outlast_the_next_replay() -> None:
    def doubled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"twice": 2 * tensors["positions"]}

    function = Replayed(doubled, Recordings(TapeRecorder()), 5.0)
    for _ in range(PLAIN_CALLS + 1):
        first = function(batch(4))["twice"]
    other = batch(4)
    other["positions"] += 1.0
    second = function(other)["twice"]
    assert torch.equal(second[:4] - first[:4], torch.full((4, 3), 2.0))


@pytest.mark.parametrize(("device", "wanted"), [("cpu", "auto"), ("mps", "auto"), ("cuda", "off")])
def test_nothing_is_recorded_but_on_a_gpu_that_can(device: str, wanted: str) -> None:
    assert not recordings_on(torch.device(device), wanted).is_on
