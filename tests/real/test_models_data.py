"""The way of a label to MACE: the same tensors as MACE's own, built once, kept small, in parts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from mace.data import AtomicData, Configuration
from mace.tools import torch_geometric
from models_parts import ELEMENTS, ensemble, fitted, label, settings, water_labels

import fhi_al.models.mace.backend as mace_backend
from fhi_al.core.label import Label
from fhi_al.models import torch_backend
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.graphs import Graph, Tensors
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.mace import new_model
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.out_of_memory import TooLarge
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.models.training import SerialTrainingPool, whole_epoch

pytestmark = pytest.mark.real

FORCES = 1e-12  # eV/A in float64: sums in another order


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(14)


def several_kinds() -> list[Label]:
    """Molecules, one of them off the origin, a crystal with stress, an atom without neighbours."""
    random = np.random.default_rng(3)
    molecules = [molecule("H2O"), molecule("H2O"), molecule("OH")]
    molecules[1].positions += 20.0
    crystal = bulk("MgO", "rocksalt", a=4.2)
    crystal.rattle(0.1, seed=1)
    lone = molecule("H2O")[:1]
    found = [label(a, random.normal(), random.normal(size=(len(a), 3))) for a in (*molecules, lone)]
    stress = random.normal(size=(3, 3))
    forces = random.normal(size=(2, 3))
    return [*found, label(crystal, -7.5, forces, stress=stress + stress.T)]


def maces_own(backend: MaceBackend, labels: list[Label]) -> torch_geometric.Batch:
    """MACE's graphs and MACE's collation."""
    graphs = []
    for one in labels:
        properties = {"energy": one.energy, "forces": one.forces}
        if one.stress is not None:
            properties["stress"] = one.stress
        weights = {name: float(name in properties) for name in ("energy", "forces", "stress")}
        configuration = Configuration(
            one.numbers,
            one.positions,
            properties,
            weights,
            cell=one.cell.copy(),
            pbc=(one.pbc,) * 3,
            weight=0.5,
        )
        with default_dtype(getattr(torch, backend.dtype)):
            graphs.append(AtomicData.from_config(configuration, backend.table, backend.r_max))
    return torch_geometric.Batch.from_data_list(graphs)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("most_ready_bytes", "n_ready"), [(10**6, 5), (1, 1), (0, 0)])
def test_a_batch_is_bit_for_bit_the_one_mace_makes(
    dtype: str, most_ready_bytes: int, n_ready: int
) -> None:
    changes = {"default_dtype": dtype, "config_type_weights": {"Default": 0.5}}
    backend = MaceBackend(settings(**changes), (1, 8, 12))
    backend._labels._ready_bytes_left = most_ready_bytes
    chosen = several_kinds()
    group = [backend.label_sample(one) for one in chosen]
    # Tensors are kept until the bound is reached.
    assert sum(graph.ready is not None for graph in group) == n_ready
    batch = backend.training_batch(group, NormalisationConstants((0.0,) * 3))
    expected = maces_own(backend, chosen)
    names = set(batch)
    assert names >= {"positions", "edge_index", "shifts", "unit_shifts", "cell", "node_attrs"}
    assert names >= {"energy", "forces", "stress", "weight", "stress_weight", "head", "ptr"}
    # MACE puts a molecule into a box of its own, whose volume counts for nothing.
    crystals = torch.tensor([one.pbc for one in chosen])
    assert crystals.any()
    torch.testing.assert_close(batch["volume"][crystals], expected["volume"][crystals])
    for name in names - {"volume"}:
        assert batch[name].dtype == expected[name].dtype, name
        assert torch.equal(batch[name], expected[name]), name
    assert len(batch["ptr"]) - 1 == expected.num_graphs == 5


def test_a_stored_graph_takes_a_tenth_of_maces_own() -> None:
    backend = MaceBackend(settings(r_max=5.0), (6,))
    crystal = bulk("C", "diamond", cubic=True) * (3, 2, 2)
    crystal.rattle(0.05, seed=2)
    stored = backend.label_sample(label(crystal, 0.0, np.zeros((96, 3))))
    of_mace = maces_own(backend, [stored.label])
    n_bytes = sum(of_mace[name].nbytes for name in of_mace.keys)
    assert stored.n_pairs > 80 * 96
    assert stored.graph.positions is stored.label.positions
    assert stored.n_bytes < 5.2 * stored.n_pairs  # 2 x 1 byte of indices and 3 x 1 of shifts
    assert stored.n_bytes < 0.1 * n_bytes


def test_a_molecule_far_from_the_origin_trains_as_at_the_origin() -> None:
    # MACE's neighbour search would take gigabytes there.
    atoms = molecule("H2O")
    near = label(atoms, -1.0, np.zeros((3, 3)))
    atoms.positions += 5000.0
    backend = MaceBackend(settings(), ELEMENTS)
    far = backend.label_sample(label(atoms, -1.0, np.zeros((3, 3))))
    assert np.abs(far.graph.positions).max() < 5.0
    pairs = [one.graph.neighbours.pairs for one in (far, backend.label_sample(near))]
    assert np.array_equal(*pairs)


class Count:
    """Calls of a function that does its work all the same."""

    def __init__(self, function: Callable) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        return self._function(*args, **kwargs)


def test_neighbours_are_found_once_and_no_model_is_built_again(
    labels: list[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = Count(mace_backend.get_neighborhood)
    builds = Count(new_model.configure_model)
    monkeypatch.setattr(mace_backend, "get_neighborhood", searches)
    monkeypatch.setattr(new_model, "configure_model", builds)
    made = ensemble(labels[:7])  # 3 train, 4 validate, the same for both members
    for member in made.members:
        member.fit_normalisation()
    pool = SerialTrainingPool(made, 1)
    pool.begin(range(2), 2).finish()
    assert searches.calls == 7
    built = builds.calls
    for number, point in enumerate(labels[7:]):
        for member in made.members:
            (member.add_validation if number % 3 == 0 else member.add_training)([point])
            if number < 3:
                member.fit_normalisation()
        pool.begin(range(2), 2).finish()
        assert searches.calls == 8 + number
    assert len(made.members[0].training) + len(made.members[0].validation) == len(labels)
    made.descriptors.of(labels)
    assert searches.calls == len(labels)
    assert builds.calls == built


def test_errors_do_not_depend_on_how_labels_are_grouped(labels: list[Label]) -> None:
    def found(most_pairs: int | None = None, **changes: object) -> list[float]:
        made = Ensemble(settings(**changes), ELEMENTS, (1,))
        backend = made.backend
        assert isinstance(backend, TorchBackend)
        backend.most_pairs = most_pairs or backend.most_pairs
        member = made.members[0]
        member.add_training(labels[:3])
        member.add_validation(labels[3:])
        member.fit_normalisation()
        errors = member.validate()
        return [errors.mae_forces, errors.rmse_forces, errors.mae_energy_per_atom, errors.loss]

    one_by_one, together = found(valid_batch_size=1), found(valid_batch_size=50)
    bounded = found(13, valid_batch_size=50)  # two molecules of 6 edges
    assert one_by_one == pytest.approx(together, rel=1e-10)
    assert bounded == pytest.approx(together, rel=1e-10)


def test_validation_takes_the_tensors_that_are_on_the_device(
    labels: list[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_anew = []
    plain = torch_backend.graph_tensors

    def counting(graphs: Sequence[Graph], *arguments: Any) -> Tensors:
        made_anew.append(len(graphs))
        return plain(graphs, *arguments)

    monkeypatch.setattr(torch_backend, "graph_tensors", counting)
    kept = fitted(labels, (1,))
    errors = kept.members[0].validate()
    assert made_anew == [1] * len(labels)  # each label by itself, once
    anew = fitted(labels, (1,))
    monkeypatch.setattr(TorchBackend, "_kept", lambda *_: None)
    assert anew.members[0].validate() == errors  # bit for bit
    assert made_anew[len(labels) :] == [*[1] * len(labels), 4]


def test_the_loss_is_that_of_the_set_in_full_precision(labels: list[Label]) -> None:
    made, wanted = fitted(labels, (1,)), labels[-4:]
    member, predicted = made.members[0], made.predict(wanted)
    energies = np.array([predicted[k].energies[0] - wanted[k].energy for k in range(4)]) / 3
    forces = np.array([predicted[k].forces[0] - wanted[k].forces for k in range(4)])
    by_hand = (energies**2).mean() + 100 * (forces**2).mean()  # energy_weight 1, forces_weight 100
    assert member.validate().loss == pytest.approx(by_hand, rel=1e-12)


class LittleMemory:
    """Lets a model's forward run out of memory when there are more structures than fit."""

    def __init__(self, model: torch.nn.Module, n_structures: int) -> None:
        self.sizes: list[int] = []
        self._room = n_structures
        self.hook = model.register_forward_pre_hook(self._look)

    def _look(self, _: object, inputs: tuple) -> None:
        self.sizes.append(len(inputs[0]["ptr"]) - 1)
        if self.sizes[-1] > self._room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_validation_goes_on_in_halves_when_memory_is_short(labels: list[Label]) -> None:
    member = fitted(labels, (1,)).members[0]
    expected = member.validate()
    whole_epoch(member)
    wanted = member.validate()
    assert wanted != expected
    member.add_validation(labels[:0])
    member._evaluation.weights_changed()
    memory = LittleMemory(member.inference_model.module, 3)
    again = member.validate()
    assert memory.sizes == [4, 2, 2]
    assert again.mae_forces == pytest.approx(wanted.mae_forces, abs=FORCES)
    assert again.loss == pytest.approx(wanted.loss, rel=1e-10)


@pytest.mark.parametrize(
    ("loss", "clip"), [("weighted", 10.0), ("l1l2energyforces", None), ("forces_only", 1e-3)]
)
def test_a_step_in_parts_is_the_step_of_the_whole_batch(
    labels: list[Label], caplog: pytest.LogCaptureFixture, loss: str, clip: float | None
) -> None:
    # Parts of different atoms: the means over atoms and over structures have different shares.
    shorter = label(molecule("OH"), labels[0].energy, np.full((2, 3), 0.1))
    mixed = [*labels[:6], replace(shorter, key="OH"), *labels[6:]]

    def trained(room: int) -> list[torch.Tensor]:
        member = fitted(mixed, (1,), loss=loss, clip_grad=clip, batch_size=7).members[0]
        memory = LittleMemory(member.model.module, room)
        with caplog.at_level(logging.WARNING):
            losses.append(whole_epoch(member))
        sizes.append(memory.sizes)
        return [each.detach().clone() for each in member.model.module.parameters()]

    losses: list[float] = []
    sizes: list[list[int]] = []
    whole, parts = trained(100), trained(2)
    assert sizes == [[7, 4], [7, 7, 3, 1, 2, 4, 2, 2, 4, 4, 2, 2]]
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)
    # The optimizer divides by the size of the gradient: a rounding error of a tiny one counts.
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts, strict=True))
    assert caplog.text.count("TRAINING.batch_size") == 1


def test_a_structure_that_does_not_fit_ends_training_with_a_clear_error(
    labels: list[Label],
) -> None:
    member = fitted(labels, (1,)).members[0]
    before = [each.detach().clone() for each in member.model.module.parameters()]
    LittleMemory(member.model.module, 0)
    with pytest.raises(TooLarge, match="one structure alone does not fit"):
        whole_epoch(member)
    assert all(
        torch.equal(a, b) for a, b in zip(before, member.model.module.parameters(), strict=True)
    )


def test_training_and_validation_write_nothing(labels: list[Label]) -> None:
    # MACE's own loop writes a checkpoint for every epoch and a line for every step.
    made = fitted(labels)
    pool = SerialTrainingPool(made, 1)
    pool.begin(range(2), 1).finish()
    written: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple) -> None:  # a hook cannot be taken off again
        opened = watching and event == "open" and isinstance(arguments[1], str)
        if opened and set(arguments[1]) & set("wax+"):
            written.append(str(arguments[0]))

    sys.addaudithook(watch)
    pool.begin(range(2), 3).finish()
    watching = False
    assert written == []
