"""What every model backend promises, as a check that its author calls.

::

    from fhi_al.models import conformance

    conformance.check("my_package.my_module:MyBackend", architecture={"r_max": 5.0})

It trains small members on labels of a simple pair function, in every precision, on every device
that torch finds, and raises an error that names the promise that is broken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from fhi_al.models.conformance_case import ALLOWED, Case
from fhi_al.models.conformance_case import BrokenPromise as BrokenPromise
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import Prediction
from fhi_al.models.state_bytes import copied, packed, unpacked
from fhi_al.models.training import whole_epoch
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.model_backends import declaration

# Of all-electron codes: float32 counts in steps of 0.06 eV at this size.
LARGE_E0 = -535_000.123
STEP = 1e-4  # A, or strain, of finite differences
N_EPOCHS = 30


def check(
    backend: object,
    *,
    elements: Sequence[int] = (1, 8),
    architecture: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
    devices: Sequence[str] | None = None,
) -> None:
    """Raise an error if a backend breaks a promise.

    Parameters
    ----------
    backend : str, type or ModelDeclaration
        Its name, the import path ``package.module:Class``, the class, or its declaration.
    elements : sequence of int
        Atomic numbers, at least one.
    architecture, training : mapping, optional
        Keys of the sections ARCHITECTURE and TRAINING.
    dtypes : sequence of str
        Precisions of training.
    devices : sequence of str, optional
        All that torch finds here if it is left out.

    Raises
    ------
    BrokenPromise
        Naming backend, precision, device, the promise and the numbers.
    ValueError
        If there is no such backend, or it refuses a setting.
    """
    made = declaration(backend)
    for device in _devices() if devices is None else devices:
        for dtype in dtypes:
            if device == "mps" and dtype == "float64":
                continue
            settings = MaceSettings.model_validate(
                {
                    "general": {"default_dtype": dtype},
                    "architecture": made.architecture.model_validate(dict(architecture or {})),
                    "training": {"batch_size": 4, "lr": 0.01, "ema": True, **(training or {})},
                    "misc": {"device": device},
                    "backend": made.name,
                    "backend_class": made.backend,
                }
            )
            _Check(settings, tuple(sorted(set(elements)))).run()


def _devices() -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


@dataclass(frozen=True)
class _Promise:
    """What is promised, and the check of it."""

    text: str
    check: Callable[[], None]


class _Check(Case):
    """All checks of one backend in one precision on one device."""

    def run(self) -> None:
        """Check one promise after the other."""
        for promise in self._promises():
            self._promise = promise.text
            try:
                promise.check()
            except BrokenPromise:
                raise
            except Exception as error:
                raise self._broken(f"{type(error).__name__}: {error}") from error

    def _promises(self) -> Iterator[_Promise]:
        yield _Promise("weights come from the seed alone", self._seeds)
        yield _Promise("training lowers the loss and moves the weights", self._training)
        yield _Promise("predictions have their shapes and are finite", self._shapes)
        yield _Promise("energies hold the sum of the E0s", self._reference_energies)
        yield _Promise("a broken structure is NaN", self._broken_structures)
        if self._dtype == "float64":
            yield _Promise("forces are minus the gradient of the energy", self._gradient)
            yield _Promise("stress is the derivative by strain over the volume", self._strain)
            yield _Promise("a loss of the stress trains the stress", self._stress_training)
        yield _Promise("moving everything changes nothing", self._translation)
        yield _Promise("rotating everything rotates the forces", self._rotation)
        yield _Promise("the order of equal atoms does not matter", self._permutation)
        yield _Promise("periodic images are the same atom", self._images)
        yield _Promise("a batch of different sizes is predicted as one by one", self._batch)
        yield _Promise("energy errors are predicted minus labelled ones", self._energy_errors)
        yield _Promise("descriptors do not change with a rotation", self._descriptors)
        yield _Promise("weights that were put back predict the same", self._weights)
        yield _Promise("a state goes on bit for bit", self._state)
        yield _Promise("a second stage begins where the first ended", self._second_stage)
        yield _Promise("a copy in another precision is near", self._precisions)
        yield _Promise("an exported model predicts the same", self._exported)
        yield _Promise("all-electron energies keep their differences", self._all_electron)

    # The promises, in the order above.

    def _seeds(self) -> None:
        one, same, other = (member.model.state() for member in self._others[:3])
        self._demand(_equal(one["model"], same["model"]), "two models of seed 3 differ")
        self._demand(not _equal(one["model"], other["model"]), "seeds 3 and 4 give the same model")

    def _training(self) -> None:
        member = self._member
        member.add_training(self._labels[:-2])
        member.add_validation(self._labels[-2:])
        member.fit_normalisation()
        before = copied(dict(member.model.inference_weights().tensors))
        losses = [whole_epoch(member) for _ in range(N_EPOCHS)]
        self._demand(bool(np.isfinite(losses).all()), f"losses {losses}: not finite")
        self._demand(member.is_finite(), "is_finite() is False")
        after = dict(member.model.inference_weights().tensors)
        self._demand(not _equal(before, after), "no weight has moved")
        self._demand(
            losses[-1] < 0.9 * losses[0],
            f"the loss went from {losses[0]:.4g} to {losses[-1]:.4g} in {N_EPOCHS} epochs",
        )

    def _shapes(self) -> None:
        for atoms in (self._pair, self._molecule, self._crystal):
            found = self._predict(atoms)
            n = len(atoms)
            assert found.stress is not None
            shapes = [found.energies.shape, found.forces.shape, found.stress.shape]
            wanted = [(1,), (1, n, 3), (1, 3, 3)]
            self._demand(shapes == wanted, f"shapes {shapes} of {n} atoms: expected {wanted}")
            finite = np.isfinite(found.energies).all() and np.isfinite(found.forces).all()
            self._demand(bool(finite), f"{atoms}: not finite")
            has_stress = bool(np.isfinite(found.stress).all())
            periodic = bool(atoms.pbc.all())
            self._demand(has_stress == periodic, f"{atoms}: stress {found.stress}")

    def _reference_energies(self) -> None:
        member = self._member
        constants, before = member.normalisation, self._predict(self._molecule).energies
        moved = tuple(energy + 1000.0 for energy in constants.atomic_energies)
        try:
            self._set(replace(constants, atomic_energies=moved))
            found = self._predict(self._molecule).energies - before
        finally:
            self._set(constants)
        self._near(found, 4 * 1000.0, 1e-6, "4 atoms, each E0 1000 eV higher: the energy rose by")

    def _broken_structures(self) -> None:
        for value in (np.nan, 1e4):
            atoms = self._molecule.copy()
            atoms.positions[1, 2] = value
            found = self._predict(atoms)
            nan = np.isnan(found.energies).all() and np.isnan(found.forces).all()
            self._demand(bool(nan), f"a position of {value}: energies {found.energies}")

    def _gradient(self) -> None:
        for atoms in (self._molecule, self._crystal):
            forces = self._predict(atoms).forces[0]
            for atom, axis in ((0, 0), (1, 1), (2, 2)):

                def moved(
                    sign: int, atoms: Atoms = atoms, atom: int = atom, axis: int = axis
                ) -> float:
                    one = atoms.copy()
                    one.positions[atom, axis] += sign * STEP
                    return float(self._predict(one).energies[0])

                slope = -(moved(1) - moved(-1)) / (2 * STEP)
                size = max(1.0, float(np.abs(forces).max()))
                where = f"{atoms.symbols}, atom {atom}, {'xyz'[axis]}: force"
                self._near(forces[atom, axis], slope, 1e-5 * size, where)

    def _strain(self) -> None:
        found = self._predict(self._crystal).stress
        assert found is not None
        volume = self._crystal.get_volume()
        for a, b in ((0, 0), (1, 2)):

            def strained(sign: int, a: int = a, b: int = b) -> float:
                deformation = np.eye(3)
                deformation[a, b] += sign * STEP / 2
                deformation[b, a] += sign * STEP / 2
                one = self._crystal.copy()
                one.set_cell(one.cell @ deformation, scale_atoms=True)
                return float(self._predict(one).energies[0])

            slope = (strained(1) - strained(-1)) / (2 * STEP) / volume
            size = max(1.0, float(np.abs(found).max()))
            self._near(
                found[0, a, b], slope, 1e-5 * size, f"component {'xyz'[a]}{'xyz'[b]}: stress"
            )

    def _stress_training(self) -> None:
        general = self._settings.general.model_copy(update={"compute_stress": True})
        for loss in ("stress", "virials"):
            weights = {"stress_weight": 1e4, "virials_weight": 1e2, "forces_weight": 0.0}
            training = self._settings.training.model_copy(update={"loss": loss, **weights})
            settings = self._settings.model_copy(update={"general": general, "training": training})
            member = Ensemble(settings, self._elements, (11,)).members[0]
            member.add_training(self._labels[:-2])
            member.add_validation([label for label in self._labels if label.stress is not None])
            member.fit_normalisation()
            before = member.validate().mae_stress
            for _ in range(N_EPOCHS):
                whole_epoch(member)
            after = member.validate().mae_stress
            if before is None or after is None:
                raise self._broken("errors on labels with a stress have no error of the stress")
            self._demand(
                after < before,
                f"with loss {loss} the stress MAE went from {before:.4g} to {after:.4g} eV/A^3 in "
                f"{N_EPOCHS} epochs",
            )

    def _translation(self) -> None:
        for atoms in (self._molecule, self._crystal):
            moved = atoms.copy()
            moved.positions += [0.3, -0.2, 0.1]
            self._same(self._predict(moved), self._predict(atoms), "moved")

    def _rotation(self) -> None:
        turn = np.linalg.qr(self._random.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
        for atoms in (self._molecule, self._crystal):
            turned = atoms.copy()
            turned.set_cell(atoms.cell.array @ turn)
            turned.positions = atoms.positions @ turn
            found, before = self._predict(turned), self._predict(atoms)
            stress = None if before.stress is None else turn.T @ before.stress @ turn
            self._same(found, Prediction(before.energies, before.forces @ turn, stress), "rotated")

    def _permutation(self) -> None:
        order = [2, 3, 0, 1]
        for atoms in (self._molecule, self._crystal):
            found, before = self._predict(atoms[order]), self._predict(atoms)
            wanted = Prediction(before.energies, before.forces[:, order], before.stress)
            self._same(found, wanted, "in another order")

    def _images(self) -> None:
        moved = self._crystal.copy()
        moved.positions[1] += moved.cell.array[0]
        self._same(self._predict(moved), self._predict(self._crystal), "one atom a cell further")

    def _batch(self) -> None:
        several = [self._molecule, self._crystal, self._pair, self._crystal * (2, 1, 1)]
        together = self._ensemble.predict(several, [0], stress=True)
        for atoms, found in zip(several, together, strict=True):
            self._same(found, self._predict(atoms), f"{atoms.symbols} in a batch")

    def _energy_errors(self) -> None:
        member, backend = self._member, self._ensemble.backend
        labels = member.training
        samples = [backend.label_sample(label) for label in labels]
        found = backend.energy_errors(member.inference_model, [samples[:1], samples[1:]])
        predicted = [each.energies[0] for each in self._ensemble.predict(labels, [member.index])]
        wanted = np.array(predicted) - [label.energy for label in labels]
        self._near(np.abs(found - wanted).max(), 0.0, ALLOWED[self._dtype], "they are off by")

    def _descriptors(self) -> None:
        turned = self._molecule.copy()
        turned.rotate(33, (1, 2, 3))
        one, other, crystal = self._ensemble.descriptors.of([self._molecule, turned, self._crystal])
        shapes = [one.shape[0], other.shape[0], crystal.shape[0]]
        self._demand(shapes == [4, 4, 4], f"rows {shapes} for 4 atoms each")
        self._demand(one.shape[1] == crystal.shape[1] > 0, "features differ in number")
        size = max(1.0, float(np.abs(one).max()))
        self._near(np.abs(one - other).max(), 0.0, size * ALLOWED[self._dtype], "they change by")

    def _weights(self) -> None:
        member = self._member
        before, weights = self._predict(self._molecule), member.weights()
        whole_epoch(member)
        changed = self._predict(self._molecule)
        self._demand(
            not np.array_equal(changed.forces, before.forces), "an epoch changes no prediction"
        )
        member.set_weights(weights)
        found = self._predict(self._molecule)
        self._demand(np.array_equal(found.forces, before.forces), "forces differ")

    def _state(self) -> None:
        member, twin = self._member, self._others[3]
        twin.index, twin.seed = member.index, member.seed
        if not twin.training:
            twin.add_training(member.training)
            twin.add_validation(member.validation)
        twin.load_state(unpacked(packed(member.state())))
        self._demand(_equal(member.state(), twin.state()), "the state read back is another")
        losses = [whole_epoch(one) for one in (member, twin)]
        self._demand(losses[0] == losses[1], f"the epoch after it has the losses {losses}")
        self._demand(_equal(member.state(), twin.state()), "the states after an epoch differ")

    def _second_stage(self) -> None:
        member, training = self._member, self._settings.training
        before, state = self._predict(self._molecule), member.state()
        first = whole_epoch(member)
        member.load_state(state)
        member.begin_second_stage()
        found = self._predict(self._molecule)
        self._demand(np.array_equal(found.forces, before.forces), "its beginning changes forces")
        rate = member.learning_rate
        self._demand(rate == training.swa_lr, f"learning rate {rate}, not {training.swa_lr}")
        self._demand(not member.has_scheduler, "the learning rate has a scheduler")
        self._state()
        second = member.state()
        self._demand(member.in_second_stage, "a state that was read back has left it")
        member.load_state(state)
        self._demand(not member.in_second_stage, "it has not ended with the state before it")
        member.load_state(second)
        member.fresh_optimizer(scheduler=False)
        rate = member.learning_rate
        self._demand(rate == training.lr, f"learning rate {rate} after it, not {training.lr}")
        if self._has_other_loss():
            member.load_state(state)
            member.begin_second_stage()
            loss = whole_epoch(member)
            self._demand(loss != first, f"the loss is {loss:.4g}, as in the first stage")
        member.load_state(state)

    def _has_other_loss(self) -> bool:
        training = self._settings.training
        weights = (training.energy_weight, training.forces_weight)
        return weights != (training.swa_energy_weight, training.swa_forces_weight)

    def _precisions(self) -> None:
        other = "float32" if self._dtype == "float64" else "float64"
        if other == "float64" and self._settings.misc.device == "mps":
            return
        predictor = self._ensemble.predictor(other)
        for atoms in (self._molecule, self._crystal):
            (found,), before = predictor.predict([atoms], [0]), self._predict(atoms)
            self._same(found, before, f"in {other}", ALLOWED["float32"])

    def _exported(self) -> None:
        before = self._predict(self._crystal)
        with tempfile.TemporaryDirectory() as folder:
            (path,) = self._ensemble.export(Path(folder), "checked", [0])
            self._others[4].load_exported(path)
        (found,) = self._ensemble.predict([self._crystal], [5], stress=True)
        self._same(found, before, "read back")

    def _all_electron(self) -> None:
        constants, before = self._member.normalisation, []
        structures = [self._molecule, self._crystal]
        before = [float(self._predict(atoms).energies[0]) for atoms in structures]
        try:
            self._set(replace(constants, atomic_energies=(LARGE_E0,) * len(self._elements)))
            after = [float(self._predict(atoms).energies[0]) for atoms in structures]
        finally:
            self._set(constants)
        e0s = dict(zip(self._elements, constants.atomic_energies, strict=True))
        for atoms, small, large in zip(structures, before, after, strict=True):
            rest = small - sum(e0s[number] for number in atoms.numbers)
            found = large - LARGE_E0 * len(atoms)
            self._near(found, rest, 1e-6, f"{atoms.symbols}: relative to E0s of -535 keV")


def _equal(one: Any, other: Any) -> bool:
    """Nested states, bit for bit."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    return bool(one == other)
