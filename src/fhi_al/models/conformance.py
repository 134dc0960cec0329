"""What every model backend promises, as a check that its author calls.

::

    from fhi_al.models import conformance

    conformance.check("my_package.my_module:MyBackend", architecture={"r_max": 5.0})

It trains small members on labels of a simple pair function, in every precision, on every device
that torch finds, and raises an error that names the promise that is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fhi_al.models import conformance_predictions as prediction_checks
from fhi_al.models import conformance_training as training_checks
from fhi_al.models.conformance_case import BrokenPromise as BrokenPromise
from fhi_al.models.conformance_case import Case
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.model_backends import declaration

# What is promised, and what checks it, in this order.
PROMISES: Mapping[str, Callable[[Case], None]] = {
    "weights come from the seed alone": training_checks.seeds,
    "training lowers the loss and moves the weights": training_checks.falling_loss,
    "predictions have their shapes and are finite": prediction_checks.shapes,
    "energies hold the sum of the E0s": prediction_checks.reference_energies,
    "a broken structure is NaN": prediction_checks.broken_structures,
    "forces are minus the gradient of the energy": prediction_checks.gradient,
    "stress is the derivative by strain over the volume": prediction_checks.strain,
    "a loss of the stress trains the stress": training_checks.stress_training,
    "moving everything changes nothing": prediction_checks.translation,
    "rotating everything rotates the forces": prediction_checks.rotation,
    "the order of equal atoms does not matter": prediction_checks.permutation,
    "periodic images are the same atom": prediction_checks.images,
    "a batch of different sizes is predicted as one by one": prediction_checks.batches,
    "energy errors are predicted minus labelled ones": prediction_checks.energy_errors,
    "descriptors do not change with a rotation": prediction_checks.descriptors,
    "weights that were put back predict the same": training_checks.weights_round_trip,
    "a state goes on bit for bit": training_checks.state_round_trip,
    "a second stage begins where the first ended": training_checks.second_stage,
    "a copy in another precision is near": training_checks.other_precision,
    "an exported model predicts the same": training_checks.exported_model,
    "all-electron energies keep their differences": prediction_checks.all_electron,
}
# Finite differences say nothing in float32, and once is enough.
IN_FLOAT64_ONLY = (
    prediction_checks.gradient,
    prediction_checks.strain,
    training_checks.stress_training,
)


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
            _check_promises(Case(settings, tuple(sorted(set(elements)))))


def _devices() -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _check_promises(case: Case) -> None:
    for promise, check_it in PROMISES.items():
        if check_it in IN_FLOAT64_ONLY and case.dtype != "float64":
            continue
        case.promise = promise
        try:
            check_it(case)
        except BrokenPromise:
            raise
        except Exception as error:
            raise case.broken(f"{type(error).__name__}: {error}") from error
