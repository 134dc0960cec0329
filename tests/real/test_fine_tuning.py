"""Members that start from a foundation model: what they are, what moves, what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import write
from mace.calculators import MACECalculator
from models_parts import settings, water_labels

from fhi_al.app.fine_tuning import model_settings, problems, with_foundation
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.mace.foundation import foundation
from fhi_al.models.mace.menu import menu
from fhi_al.models.mace.new_model import new_model
from fhi_al.models.mace.runtime_model import to_mace_model
from fhi_al.models.mace.weights_file import read_weights, write_weights
from fhi_al.settings import SettingsError, read_settings

pytestmark = pytest.mark.real

ELEMENTS = (1, 6, 8)
ENERGIES = (-1.0, -30.0, -60.0)  # of a method that is not that of the labels
WAYS: dict[str, dict[str, Any]] = {
    "naive": {},
    "frozen": {"fine_tuning": "frozen"},
    "lora": {"fine_tuning": "lora", "lora_rank": 2},
    "replay": {"fine_tuning": "replay", "replay_batch": 2},
}


@pytest.fixture(scope="module")
def labels() -> list[Any]:
    return water_labels(10)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a foundation model, as weights and as MACE's own file, and structures."""
    folder = tmp_path_factory.mktemp("foundation")
    backend = MaceBackend(settings(model="ScaleShiftMACE"), ELEMENTS)
    module = backend.module(3)
    backend.apply_normalisation(module, NormalisationConstants(ENERGIES, 2.0, 0.3, 7.0))
    write_weights(to_mace_model(module, ENERGIES), folder / "small.npz")
    model = read_weights(folder / "small.npz")
    torch.save(model, folder / "small.model")
    both = new_model(backend.arguments, backend.table, ("one", "two"), model)
    torch.save(both, folder / "heads.model")
    frames = [molecule(name) for name in ("H2O", "CH4", "H2O", "CO")]
    for place, frame in enumerate(frames):
        frame.rattle(0.05, seed=place)
    write(folder / "replay.xyz", frames)
    write(folder / "replay_of_water.xyz", frames[::2])
    return folder


def ensemble(
    files: Path,
    labels: list[Any],
    way: str = "naive",
    seeds: tuple[int, ...] = (11,),
    **changes: Any,
) -> Ensemble:
    """Members of which the last two labels validate."""
    path = files / "small.npz"
    name = "replay.xyz" if changes.get("foundation_elements") != "run" else "replay_of_water.xyz"
    keys = {**WAYS[way], "replay_file": files / name, "lr": 1e-3, **changes}
    made = settings(foundation_model=str(path), **keys)
    found = foundation(str(path)).architecture
    architecture = type(made.architecture).model_validate(
        {**made.architecture.model_dump(by_alias=True), **found}
    )
    made = made.model_copy(update={"architecture": architecture})
    ensemble = Ensemble(made, (1, 8), seeds)
    for member in ensemble.members:
        member.add_training(labels[:-2])
        member.add_validation(labels[-2:])
    return ensemble


def train(ensemble: Ensemble, n_epochs: int = 2) -> None:
    for member in ensemble.members:
        for _ in range(n_epochs):
            for _ in member.train_epoch():
                pass


def forces(ensemble: Ensemble, labels: list[Any]) -> np.ndarray[Any, Any]:
    return np.array([found.forces for found in ensemble.predict(labels)])


@pytest.mark.parametrize(
    ("way", "elements"), [("naive", "all"), ("lora", "run"), ("replay", "run")]
)
def test_members_begin_as_the_foundation_model(files, labels, way, elements) -> None:
    made = ensemble(files, labels, way, readouts="kept", foundation_elements=elements)
    calculator = MACECalculator(files / "small.model", device="cpu", default_dtype="float64")
    for label in labels[:2]:
        atoms = Atoms(label.numbers, label.positions, calculator=calculator)
        energies, found = made.energies_and_forces(label)
        assert energies == pytest.approx([atoms.get_potential_energy()], abs=1e-8)
        assert found == pytest.approx(np.array([atoms.get_forces()]), abs=1e-8)
    known = ELEMENTS if elements == "all" else (1, 8)
    assert made.backend.elements == known


def test_a_file_of_weights_and_maces_own_are_the_same(files) -> None:
    one, other = (foundation(str(files / name)) for name in ("small.npz", "small.model"))
    assert one.architecture == other.architecture
    assert one.constants == other.constants


def test_readouts_make_members_differ_by_their_seeds(files, labels) -> None:
    def of(**changes: Any) -> Any:
        return forces(ensemble(files, labels, seeds=(11, 22), **changes), labels[:1])[0]

    kept, perturbed, drawn = (of(readouts=how) for how in ("kept", "perturbed", "reinitialised"))
    assert np.abs(kept[0] - kept[1]).max() < 1e-12
    for found in (perturbed, drawn):
        assert np.abs(found[0] - found[1]).max() > 1e-3
    assert np.array_equal(perturbed, of(readouts="perturbed"))
    assert np.abs(of(readout_noise=1.0) - kept).mean() > 2 * np.abs(perturbed - kept).mean()


def test_energies_of_atoms_are_those_of_the_labels(files, labels) -> None:
    made = ensemble(files, labels)
    for member in made.members:
        before = member.normalisation.atomic_energies
        member.fit_normalisation()
        after = member.normalisation.atomic_energies
        assert before == ENERGIES
        assert after[1] == before[1]  # carbon, which no label has
        # One composition: the smallest change that does it, two of hydrogen for one of oxygen.
        moved = np.array(after) - before
        assert moved[0] == pytest.approx(2 * moved[2])
        per_atom = made.backend.energy_errors(
            member.inference_model, [[made.backend.label_sample(one) for one in labels[:-2]]]
        )
        assert abs(per_atom.mean()) < 1e-6


def test_energies_of_atoms_of_another_method_are_told(files, labels, caplog) -> None:
    given = {1: -13.0, 8: -300.0}
    made = ensemble(files, labels, atomic_energies=given)
    with caplog.at_level(logging.WARNING):
        made.members[0].fit_normalisation()
    assert made.members[0].normalisation.atomic_energies == (-13.0, ENERGIES[1], -300.0)
    (said,) = (record.getMessage() for record in caplog.records)
    assert "eV per atom before training" in said
    assert "ARCHITECTURE.atomic_energies" in said
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ensemble(files, labels).members[0].fit_normalisation()
    assert not caplog.records


@pytest.mark.parametrize("way", WAYS)
def test_what_is_trained_resumed_and_saved(files, labels, way, tmp_path) -> None:
    made = ensemble(files, labels, way)
    for member in made.members:
        member.fit_normalisation()
    before = {name: t.clone() for name, t in made.members[0].model.module.state_dict().items()}
    untrained = forces(made, labels[:2])
    train(made)
    moved = {
        name
        for name, tensor in made.members[0].model.module.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    trained = forces(made, labels[:2])
    assert np.abs(trained - untrained).max() > 1e-5
    if way == "frozen":
        assert moved
        assert all(name.startswith("readouts.") for name in moved)
    elif way == "lora":
        assert moved
        assert all("lora_" in name for name in moved)
    else:
        assert any(name.startswith("interactions.") for name in moved)

    other = ensemble(files, labels, way)
    for mine, theirs in zip(other.members, made.members, strict=True):
        mine.load_state(theirs.state())
    assert np.array_equal(forces(other, labels[:2]), trained)
    train(made, 1)
    train(other, 1)
    assert np.array_equal(forces(other, labels[:2]), forces(made, labels[:2]))
    train(other, 1)

    paths = made.export(tmp_path, "water")
    calculator = MACECalculator(paths[0], device="cpu", default_dtype="float64")
    assert len(calculator.models[0].heads) == 1
    atoms = Atoms(labels[0].numbers, labels[0].positions, calculator=calculator)
    energies, found = made.energies_and_forces(labels[0])
    assert atoms.get_potential_energy() == pytest.approx(energies[0], abs=1e-8)
    assert atoms.get_forces() == pytest.approx(found[0], abs=1e-8)

    other.members[0].load_exported(paths[0])
    assert forces(other, labels[:2]) == pytest.approx(forces(made, labels[:2]), abs=1e-8)
    assert foundation(str(paths[0])).elements == ELEMENTS


@pytest.mark.parametrize("way", ["lora", "replay"])
def test_members_that_begin_from_a_file_keep_their_seeds(files, labels, way, tmp_path) -> None:
    def own(made: Ensemble) -> list[Any]:
        """What is drawn by a member's seed beside the weights that a file has."""
        if way == "replay":
            return [member.state()["replay"] for member in made.members]
        tensors = [member.model.module.state_dict() for member in made.members]
        return [[each[name].tolist() for name in each if "lora_A" in name] for each in tensors]

    new = ensemble(files, labels, way, seeds=(11, 22))
    (path,) = new.export(tmp_path, "water", [0])
    begun = ensemble(files, labels, way, seeds=(11, 22))
    for member in begun.members:
        member.load_exported(path)
    assert own(begun) == own(new)
    assert own(begun)[0] != own(begun)[1]


@pytest.mark.parametrize("way", WAYS)
def test_the_learning_rate_is_that_of_what_is_trained(files, labels, way) -> None:
    (member,) = ensemble(files, labels, way, swa_lr=2e-4).members
    assert member.learning_rate == 1e-3
    member.begin_second_stage()
    assert member.learning_rate == 2e-4


@pytest.mark.parametrize("way", ["naive", "frozen"])
def test_optimizers_leave_no_handler_and_no_word_of_maces(files, labels, way) -> None:
    root = logging.getLogger()
    (member,) = ensemble(files, labels, way).members
    member.build()
    before = list(root.handlers)
    try:
        root.handlers.clear()  # bare, as in a program: pytest has its own
        member.fresh_optimizer(scheduler=False)
        assert root.handlers == []
    finally:
        root.handlers[:] = before


def test_other_ways_and_models_do_not_take_over_a_state(files, labels) -> None:
    state = ensemble(files, labels).members[0].state()
    for changes in ({"way": "frozen"}, {"foundation_elements": "run"}):
        with pytest.raises(ValueError, match="has changed since the state was saved"):
            ensemble(files, labels, **changes).members[0].load_state(state)


def test_replay_compares_with_the_foundation_model(files, labels) -> None:
    made = ensemble(files, labels, "replay", readouts="kept")
    backend, member = made.backend, made.members[0]
    member.fit_normalisation()
    assert isinstance(backend, MaceBackend)
    assert member.normalisation.atomic_energies != ENERGIES

    def loss(samples: list[Any]) -> float:
        batch = backend.training_batch(samples, member.normalisation)
        return float(backend.training_loss(member.model.module, batch, 1.0, 1.0))

    # What the foundation model says is what it says, whatever the E0s of the run.
    assert loss(backend._replay) < 1e-12
    assert loss([backend.label_sample(label) for label in labels[:2]]) > 1.0


def test_replay_keeps_what_the_foundation_model_knew(files, labels) -> None:
    def forgotten(way: str) -> float:
        made = ensemble(files, labels, way, readouts="kept", lr=5e-3, replay_batch=4)
        made.members[0].fit_normalisation()
        known = ensemble(files, labels, "replay", readouts="kept").backend._replay
        labels_of = [sample.label for sample in known]
        for _ in range(15):
            for _ in made.members[0].train_epoch():
                pass
        model, backend = made.members[0].model.module, made.backend
        batch = backend.training_batch(
            [backend.label_sample(one) for one in labels_of], made.members[0].normalisation
        )
        found = backend.outputs(model, batch, training=False, stress=False)["forces"]
        return float((found.detach() - batch["forces"]).abs().mean())

    assert forgotten("replay") < 0.7 * forgotten("naive")


# --- settings -----------------------------------------------------------------------------------


MINIMAL = """ACTIVE_LEARNING:
  reference_engine: tblite
  initial_sampling: none
  desired_acc: 0.05
"""


def folder_of(tmp_path: Path, architecture: str, active_learning: str = MINIMAL) -> Path:
    (tmp_path / "mace_settings.yaml").write_text(f"ARCHITECTURE: {{{architecture}}}\n")
    (tmp_path / "active_learning_settings.yaml").write_text(active_learning)
    return tmp_path


def test_the_network_is_that_of_the_model(files, tmp_path) -> None:
    path = files / "small.npz"
    read = read_settings(folder_of(tmp_path, f"foundation_model: {path}, r_max: 4.0"))
    found = with_foundation(read)
    assert found.mace is not None
    assert found.mace.architecture.model_dump()["num_channels"] == 8
    assert found.mace.architecture.model_dump()["radial_MLP"] == (16, 16)
    # What is written into inputs/ is complete and can be read again.
    (tmp_path / "mace_settings.yaml").write_text(found.as_yaml("mace"))
    assert with_foundation(read_settings(tmp_path)).mace == found.mace


def test_defaults_of_fine_tuning(files, tmp_path) -> None:
    path = files / "small.npz"
    tuned = read_settings(folder_of(tmp_path, f"foundation_model: {path}"))
    usual = read_settings(folder_of(tmp_path, "r_max: 5.0", MINIMAL.replace("none", "aimd")))
    assert tuned.mace is not None
    assert usual.mace is not None
    assert tuned.mace.training.lr < usual.mace.training.lr
    assert tuned.al.n_samples < usual.al.n_samples


def refused(tmp_path: Path, architecture: str, active_learning: str = MINIMAL) -> str:
    with pytest.raises(SettingsError) as caught:
        with_foundation(read_settings(folder_of(tmp_path, architecture, active_learning)))
    return str(caught.value)


def test_keys_that_contradict_the_model_are_named(files, tmp_path) -> None:
    path = files / "small.npz"
    message = refused(tmp_path, f"foundation_model: {path}, num_channels: 128, max_L: 2")
    assert "mace_settings.yaml:1: ARCHITECTURE.num_channels = 128: the foundation model" in message
    assert "has 8. Remove this key" in message
    assert "ARCHITECTURE.max_L = 2" in message


def test_a_run_without_labels_needs_a_foundation_model(tmp_path) -> None:
    message = refused(tmp_path, "r_max: 5.0")
    assert "ACTIVE_LEARNING.initial_sampling = none: random weights cannot drive MD" in message
    same = folder_of(tmp_path, "foundation_model: x.npz")
    with (same / "mace_settings.yaml").open("a") as file:
        file.write("TRAINING: {readouts: kept}\n")
    with pytest.raises(SettingsError, match=r"TRAINING\.readouts = kept: members that begin with"):
        read_settings(same)
    mixed = MINIMAL.replace("none", "[none, aimd]")
    assert "mixes with no other source" in refused(tmp_path, "foundation_model: x.npz", mixed)


def test_a_model_that_is_not_there_or_has_several_heads(files, tmp_path) -> None:
    message = refused(tmp_path, "foundation_model: absent.model")
    assert "absent.model: no such file" in message
    assert "medium-mpa-0" in message
    path = files / "heads.model"
    message = refused(tmp_path, f"foundation_model: {path}")
    assert "has several heads, one, two" in message
    message = refused(tmp_path, f"foundation_model: {path}, foundation_head: three")
    assert "has no head three" in message
    assert foundation(str(path), "two").architecture["num_channels"] == 8


def test_structures_of_replay_are_looked_at_before_the_run(files, tmp_path) -> None:
    training = "TRAINING: {fine_tuning: replay, replay_file: %s}\n"
    gold = tmp_path / "gold.xyz"
    write(gold, Atoms("Au2", [[0, 0, 0], [0, 0, 2.5]]))
    for name, of_run, what in (
        ("absent.xyz", "all", "no structures for replay"),
        (gold, "all", "has atomic numbers [79]"),
        (files / "replay.xyz", "run", "has atomic numbers [6]"),
    ):
        model = f"foundation_model: {files / 'small.npz'}, foundation_elements: {of_run}"
        folder = folder_of(tmp_path, model)
        with (folder / "mace_settings.yaml").open("a") as file:
            file.write(training % name)
        (message,) = problems(with_foundation(read_settings(folder)), [1, 8])
        assert "TRAINING.replay_file = " in message
        assert what in message


def test_elements_that_the_model_lacks_are_named(files, tmp_path) -> None:
    path = files / "small.npz"
    made = settings(foundation_model=str(path))
    with pytest.raises(ValueError, match=r"does not know N, Au, .* it knows H, C, O"):
        Ensemble(made, (1, 7, 8, 79), (1, 2))
    read = with_foundation(read_settings(folder_of(tmp_path, f"foundation_model: {path}")))
    assert list(problems(read, [1, 8])) == []
    (message,) = problems(read, [1, 7, 8, 79])
    assert "ARCHITECTURE.foundation_model" in message
    assert "does not know N, Au" in message


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Iterator[Path]:
    """MACE's cache, empty; and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "cache" / "mace").mkdir(parents=True)
    yield tmp_path / "cache" / "mace"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("small", "20231210mace128L0_energy_epoch249model"),
        ("medium-mpa-0", "macempa0mediummodel"),
        ("medium_off", "MACE-OFF23_medium.model"),
        ("mace_omol", "MACE-omol-0-extra-large-1024.model"),
    ],
)
def test_models_of_maces_menu(files, cache, tmp_path, name, file) -> None:
    keys = f"foundation_model: {name}, accept_licence: true"
    message = refused(tmp_path, keys)
    assert f"the model {name} is not at {cache / file} and cannot be fetched" in message
    assert menu()[name].url in message
    (cache / file).write_bytes((files / "small.model").read_bytes())
    found = with_foundation(read_settings(folder_of(tmp_path, keys)))
    assert model_settings(found).architecture.model_dump()["foundation_model"] == name
    assert menu()[name].fetched() == cache / file


def test_maces_own_loaders_look_at_the_same_place(files, cache) -> None:
    from mace.calculators import mace_mp, mace_off, mace_omol

    for name, load in (
        ("small", lambda: mace_mp("small", device="cpu", return_raw_model=True)),
        ("small_off", lambda: mace_off("small", device="cpu", return_raw_model=True)),
        ("mace_omol", lambda: mace_omol(device="cpu", return_raw_model=True)),
    ):
        menu()[name].cached.write_bytes((files / "small.model").read_bytes())
        assert type(load()).__name__ == "ScaleShiftMACE", name


def test_a_restricted_licence_must_be_accepted(files, cache, tmp_path) -> None:
    assert {name for name in ("small", "medium-mpa-0") if menu()[name].restricted} == set()
    for name in ("small_off", "mace_omol", "medium-omat-0", "mace-matpes-r2scan-0", "mh-1"):
        message = refused(tmp_path, f"foundation_model: {name}")
        assert "Academic Software License" in message
        assert "accept_licence" in message
