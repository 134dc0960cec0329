"""Models with cuEquivariance: the same numbers, states and files, and when it is used.

On a CPU it computes by torch alone, with the modules and weights that it has on a GPU.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from models_parts import ensemble, fitted, label, water_labels

from fhi_al.core.label import Label
from fhi_al.models.devices import cuequivariance_problem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.graphs import Tensors
from fhi_al.models.mace.acceleration import Acceleration, Trial, deviation
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.mace.cuequivariance import CuequivarianceTwin, import_kernels
from fhi_al.models.training import whole_epoch

ABSENT = cuequivariance_problem("cpu")
pytestmark = pytest.mark.real
needed = pytest.mark.skipif(ABSENT is not None, reason=f"cuEquivariance: {ABSENT}")

FORCES = 1e-10  # eV/A, float64: sums in another order


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(12)


def mace(made: Ensemble) -> MaceBackend:
    assert isinstance(made.backend, MaceBackend)
    return made.backend


def used(made: Ensemble) -> dict[tuple[bool, torch.dtype], bool]:
    """By whether weights are trained and by precision: whether cuEquivariance is used."""
    chosen = mace(made)._acceleration._chosen
    return {purpose: twin is not None for purpose, twin in chosen.items()}


@needed
def test_training_states_and_files_are_those_of_an_ordinary_model(
    labels: list[Label], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    usual, quick = (fitted(labels, (1,), enable_cueq=key) for key in (False, True))
    for made in (usual, quick):
        for _ in range(2):
            whole_epoch(made.members[0])
    assert used(quick) == {(True, torch.float64): True}
    expected = usual.predict([labels[0]])[0].forces
    np.testing.assert_allclose(quick.predict([labels[0]])[0].forces, expected, atol=FORCES)
    assert used(quick) == {(training, torch.float64): True for training in (True, False)}
    assert "cuEquivariance: training with it" in caplog.text
    ours, theirs = (made.members[0].state() for made in (quick, usual))
    assert ours["architecture"] == theirs["architecture"]
    assert shapes(ours) == shapes(theirs)
    (path,) = quick.export(tmp_path, "quick")
    usual.load_exported(path, 0)
    np.testing.assert_allclose(usual.predict([labels[0]])[0].forces, expected, atol=FORCES)


def shapes(state: Any) -> Any:
    """A state with the shapes of tensors in their place."""
    if isinstance(state, torch.Tensor):
        return tuple(state.shape)
    if isinstance(state, dict):
        return {key: shapes(value) for key, value in state.items()}
    return [shapes(value) for value in state] if isinstance(state, list) else type(state)


@needed
def test_a_state_goes_on_with_and_without(labels: list[Label]) -> None:
    usual, quick = (fitted(labels, (1,), enable_cueq=key) for key in (False, True))
    whole_epoch(usual.members[0])
    quick.load_state_bytes(usual.state_bytes())
    assert quick.state_bytes() == usual.state_bytes()
    again = fitted(labels, (1,), enable_cueq=True)
    again.load_state_bytes(usual.state_bytes())
    for made in (usual, quick, again):
        whole_epoch(made.members[0])
    assert quick.state_bytes() == again.state_bytes()  # bit for bit
    usual.load_state_bytes(quick.state_bytes())
    assert usual.state_bytes() == quick.state_bytes()


@needed
@pytest.mark.parametrize(
    ("keys", "tolerance"),
    [
        # More paths than elements and channels: several conversions say what belongs to which.
        ({"max_L": 1, "num_channels": 2}, 1e-10),
        ({"max_L": 1, "default_dtype": "float32"}, 1e-5),
        ({"interaction": "RealAgnosticDensityInteractionBlock"}, 1e-10),
        ({"num_interactions": 1, "model": "MACE"}, 1e-10),
    ],
)
def test_all_kinds_of_weights_arrive(
    keys: dict[str, Any], tolerance: float, labels: list[Label]
) -> None:
    made = fitted(labels, (1,), **keys)
    results = compared(made, labels, stress=False)
    assert deviation(*results) is None
    for name, expected in results[0].items():
        difference = (results[1][name] - expected).abs().max() / expected.abs().max()
        assert float(difference) < tolerance, name


def compared(made: Ensemble, labels: list[Label], stress: bool) -> tuple[Tensors, Tensors]:
    """Energies, forces, gradients and perhaps stress, without and with cuEquivariance."""
    backend = mace(made)
    model: Any = made.members[0].model
    module = model.module
    dtype = next(module.parameters()).dtype
    twin = backend._new_twin(dtype)
    inputs = backend.inputs([backend.label_sample(one) for one in labels[:3]], dtype)
    trial = Trial(module, lambda: dict(inputs), training=True, stress=stress)
    return trial.run(module), trial.run(partial(twin, module))


def crystals() -> list[Label]:
    """Rattled silicon; what is predicted for it does not matter."""
    from ase.build import bulk

    found = []
    for step in range(6):
        atoms = bulk("Si", "diamond", cubic=True)
        atoms.rattle(0.1, seed=step)
        found.append(
            label(atoms, float(step), np.zeros((8, 3)), step, stress=np.eye(3) / 100, pbc=True)
        )
    return found


@needed
def test_the_stress_is_compared_too() -> None:
    data = crystals()
    made = Ensemble(ensemble([]).settings, (14,), (1,))
    made.members[0].add_training(data)
    made.members[0].fit_normalisation()
    plain, other = compared(made, data, stress=True)
    assert deviation(plain, other) is None
    assert float(plain["stress"].abs().max()) > 1e-4
    different = {**other, "stress": other["stress"] + 1e-8}
    assert deviation(plain, different) == "stress by up to 1e-08 eV/A^3 (allowed 1e-09)"


def test_what_may_differ_depends_on_the_precision() -> None:
    single = {"energy": torch.tensor([-1.0]), "forces": torch.zeros(2, 3)}
    double = {name: values.double() for name, values in single.items()}
    for given, too_far in ((single, 2e-5), (double, 2e-9)):
        for name in given:
            assert deviation(given, {**given, name: given[name] + too_far / 4}) is None
            moved = deviation(given, {**given, name: given[name] + too_far})
            assert moved is not None
            assert moved.startswith(f"{name} by up to {too_far:.0e}"), moved
    assert deviation(single, {**single, "forces": torch.full((2, 3), torch.nan)}) is not None
    # What float32 cannot resolve is not counted: 4096 eV come in steps of 0.0005 eV.
    large = {"energy": torch.tensor([4096.0])}
    assert deviation(large, {"energy": torch.tensor([4096.001])}) is None


@needed
def test_other_numbers_switch_it_off_with_a_warning(
    labels: list[Label], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = CuequivarianceTwin.__call__

    def wrong(twin: CuequivarianceTwin, module: Any, inputs: Tensors, **options: Any) -> Tensors:
        found = plain(twin, module, inputs, **options)
        return {**found, "energy": found["energy"] + 0.25}

    monkeypatch.setattr(CuequivarianceTwin, "__call__", wrong)
    usual, quick = (fitted(labels, (1,), enable_cueq=key) for key in (False, True))
    for made in (usual, quick):
        whole_epoch(made.members[0])
    assert quick.state_bytes() == usual.state_bytes()
    assert "cuEquivariance is not used for training" in caplog.text
    assert "energy by up to 0.25 eV (allowed 1e-09)" in caplog.text


@needed
def test_a_failure_switches_it_off_with_a_warning(
    labels: list[Label], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Tensors:
        raise RuntimeError("no kernel image is available\nand so on")

    monkeypatch.setattr(CuequivarianceTwin, "__call__", fails)
    quick = fitted(labels, (1,), enable_cueq=True)
    assert np.isfinite(quick.predict([labels[0]])[0].forces).all()
    assert quick.predict([labels[1]])[0].forces.shape == (1, 3, 3)
    (record,) = caplog.records
    assert record.message.startswith(
        "cuEquivariance is not used for predictions in float64, which costs time and nothing else: "
        "RuntimeError: no kernel image is available. "
    )


@needed
@pytest.mark.parametrize(("with_it", "chosen"), [(0.001, True), (0.003, False)])
def test_auto_takes_what_is_faster(
    with_it: float, chosen: bool, labels: list[Label], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = fitted(labels, (1,))
    seconds = iter([0.002, with_it])
    n_calls = []

    def clock(function: Callable[[], Tensors], *_: Any) -> float:
        n_calls.append(len(function()))
        return next(seconds)

    set_acceleration(made, "auto", clock=clock)
    assert np.isfinite(made.predict([labels[0]])[0].forces).all()
    made.predict([labels[1]])
    assert used(made) == {(False, torch.float64): chosen}
    assert n_calls == [2, 2]  # energies and forces of both, once
    decision = "used" if chosen else "not used"
    expected = f"predictions in float64 takes {1e3 * with_it:.2f} ms a batch with it, 2.00 ms"
    assert f"cuEquivariance: {expected} without: {decision}" in caplog.text


def set_acceleration(made: Ensemble, wanted: Literal["auto"] | bool, **more: Any) -> None:
    backend = mace(made)
    backend._acceleration = Acceleration(
        wanted,
        backend.device,
        backend._new_twin,
        lambda: None,
        **more,
    )


@needed
def test_auto_times_both_on_this_machine(labels: list[Label]) -> None:
    made = fitted(labels, (1,))
    set_acceleration(made, "auto")
    whole_epoch(made.members[0])
    assert list(used(made)) == [(True, torch.float64)]


@pytest.mark.parametrize("key", ["auto", False])
def test_auto_is_off_on_a_cpu(key: Any, labels: list[Label]) -> None:
    made = fitted(labels, (1,), enable_cueq=key)
    whole_epoch(made.members[0])
    made.predict([labels[0]])
    assert used(made) == {}


@needed
def test_fused_convolutions_that_a_copy_would_lose(
    labels: list[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, MACE replaces methods of modules, which ``copy.deepcopy`` makes anew without them.

    Here they are told to be fused on the CPU.
    """
    fuse_convolutions(monkeypatch)
    made = fitted(labels, (1,), max_L=1)
    assert deviation(*compared(made, labels, stress=False)) is None
    backend = mace(made)
    twin = backend._new_twin(torch.float64)
    assert "forward" in vars(twin.model.interactions[0].conv_tp)  # type: ignore[index, union-attr]
    twin.model = copy.deepcopy(twin.model)
    module = made.members[0].model.module  # type: ignore[attr-defined]
    inputs = backend.inputs([backend.label_sample(one) for one in labels[:2]], torch.float64)
    with pytest.raises(AssertionError, match="number of inputs must match the number of inputs of"):
        twin(module, inputs, training=True, compute_force=True)


@needed
def test_a_twin_is_made_on_the_cpu_whatever_device_tensors_are_made_on(
    labels: list[Label],
) -> None:
    """MACE's models run, and ask for their twin, while a GPU is where tensors are made."""
    backend = mace(fitted(labels, (1,)))
    with torch.device("meta"):
        twin = backend._new_twin(torch.float64)
    assert {one.device.type for one in (*twin.model.parameters(), *twin.model.buffers())} == {"cpu"}


@needed
def test_constants_that_a_copy_would_make_anew_on_the_cpu(labels: list[Label]) -> None:
    backend = mace(fitted(labels, (1,)))
    model = backend._new_twin(torch.float64).model.to("meta")
    assert {one.device.type for one in model.buffers()} == {"meta"}
    assert "cpu" in {one.device.type for one in copy.deepcopy(model).buffers()}


def fuse_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What MACE does on a GPU, with cuEquivariance's own computation in place of its kernel."""
    from cuequivariance_torch.primitives import segmented_polynomial_naive
    from mace.cli import convert_e3nn_cueq

    config: Any = convert_e3nn_cueq.CuEquivarianceConfig

    def fused(**options: Any) -> Any:
        return config(**{**options, "conv_fusion": True})

    monkeypatch.setattr(convert_e3nn_cueq, "CuEquivarianceConfig", fused)
    naive: Any = segmented_polynomial_naive.SegmentedPolynomialNaive
    init = naive.__init__

    def remembering(module: Any, polynomial: Any, *arguments: Any, **options: Any) -> None:
        init(module, polynomial, *arguments, **options)
        # What the kernel's module has, and MACE asks for: of the first operand, the weights.
        first = polynomial.operands[0]
        if first.ndim == 1 and first.all_same_segment_shape():
            module.buffer_num_segments = [len(first.segments)]
            (module.operand_extent,) = first.segment_shape

    monkeypatch.setattr(naive, "__init__", remembering)


def test_cuequivariance_that_is_not_there_is_named(labels: list[Label]) -> None:
    if ABSENT is None:
        pytest.skip("cuEquivariance is installed here")
    with pytest.raises(ValueError, match=r"MISC\.enable_cueq: .*pip install cuequivariance-torch"):
        ensemble(labels, (1,), enable_cueq=True).build()


def test_kernels_that_cannot_be_imported_are_the_reason_that_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cuequivariance_ops_torch", None)
    import_kernels(torch.device("cpu"))
    with pytest.raises(ImportError, match="cuequivariance_ops_torch"):
        import_kernels(torch.device("cuda", 0))


def test_a_gpu_needs_the_kernels_too() -> None:
    problem = cuequivariance_problem("cuda:1")
    if problem is None:
        pytest.skip("the kernels of cuEquivariance are installed here")
    assert "cuequivariance_ops_torch" in problem
    assert "pip install cuequivariance-torch and the cuequivariance-ops-torch package" in problem
