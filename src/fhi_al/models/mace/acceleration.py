"""Decide whether a backend's models run with cuEquivariance: same numbers, and faster.

Owns the trials, one for training and one for predictions of each precision, on the first batch that
there is: the run's own structures.  Nothing is decided while anything is recorded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from fhi_al.models.cuda_graphs import PLAIN_CALLS
from fhi_al.models.graphs import Tensors
from fhi_al.models.mace.cuequivariance import CuequivarianceTwin
from fhi_al.models.out_of_memory import is_out_of_memory
from fhi_al.models.recorders import Recorder

log = logging.getLogger(__name__)

# What a model and its twin may differ by: energies in eV, forces in eV/A, stress in eV/A^3.  To it
# comes what the precision cannot resolve, of numbers that are large: a few units in the last place.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-9}
UNITS_IN_THE_LAST_PLACE = 4
# The same for the gradients of the weights, relative to the largest one.
GRADIENT_TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-8}
UNITS = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3", "gradients": "of the largest one"}
N_TIMED = 5

# (inputs, options of MACE's forward method) -> what it gives
Model = Callable[..., Tensors]


@dataclass(frozen=True)
class Trial:
    """What a model and its twin are compared on.

    Parameters
    ----------
    module
        The model.
    inputs : callable
        () -> a batch, the entries of which may be replaced.
    training : bool
        Compare gradients of the weights, too.
    stress : bool
        Compare the stress, too.
    """

    module: torch.nn.Module
    inputs: Callable[[], Tensors]
    training: bool
    stress: bool

    def run(self, model: Model) -> Tensors:
        """Energies, forces, stress and gradients by a model with the module's weights."""
        with torch.enable_grad():
            found = model(
                self.inputs(),
                training=self.training,
                compute_force=True,
                compute_stress=self.stress,
            )
            names = ("energy", "forces", "stress")[: 2 + self.stress]
            results = {name: found[name] for name in names}
            if self.training:
                weights = [one for one in self.module.parameters() if one.requires_grad]
                loss = torch.stack([one.square().mean() for one in results.values()]).sum()
                given = torch.autograd.grad(loss, weights, allow_unused=True)
                gradients = [one.flatten() for one in given if one is not None]
                results["gradients"] = torch.cat(gradients)
        return {name: values.detach() for name, values in results.items()}


def deviation(plain: Tensors, other: Tensors) -> str | None:
    """Where two results of :meth:`Trial.run` differ by more than they may, in words, or None."""
    too_far = []
    for name, expected in plain.items():
        dtype = expected.dtype
        largest = float(expected.abs().max())
        allowed = TOLERANCES[dtype] + UNITS_IN_THE_LAST_PLACE * torch.finfo(dtype).eps * largest
        found = float((other[name] - expected).abs().max())
        if name == "gradients":
            found, allowed = found / (largest or 1.0), GRADIENT_TOLERANCES[dtype]
        if not found <= allowed:  # NaN, too
            too_far.append(f"{name} by up to {found:.2g} {UNITS[name]} (allowed {allowed:.2g})")
    return ", ".join(too_far) if too_far else None


def seconds_per_call(
    function: Callable[[], Tensors], device: torch.device, recorder: Recorder | None
) -> float:
    """How long a function takes, recorded and replayed where that is possible."""
    call = function
    for _ in range(PLAIN_CALLS):
        function() if recorder is None else recorder.run(function)
    if recorder is not None:
        try:
            call = recorder.record(function)
        except RuntimeError as error:
            log.debug("cuEquivariance, trial: cannot be recorded: %s", error)
    seconds = []
    for _ in range(N_TIMED):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[N_TIMED // 2]


@dataclass
class Acceleration:
    """Gives what runs a model: itself, or the twin of its architecture with cuEquivariance.

    Parameters
    ----------
    wanted : "auto", True or False
        ``MISC.enable_cueq``: True wherever the numbers are the same, ``auto`` where it is faster,
        too.
    device : torch.device
    new_twin : callable
        Precision -> a twin of the models.
    recorder : callable
        () -> what records and replays in the trials, if anything does.
    clock : callable
        See :func:`seconds_per_call`.
    """

    wanted: Literal["auto"] | bool
    device: torch.device
    new_twin: Callable[[torch.dtype], CuequivarianceTwin]
    recorder: Callable[[], Recorder | None]
    clock: Callable[[Callable[[], Tensors], torch.device, Recorder | None], float] = (
        seconds_per_call
    )
    # By whether weights are trained, and by precision.
    _chosen: dict[tuple[bool, torch.dtype], CuequivarianceTwin | None] = field(
        default_factory=dict, init=False
    )
    _twins: dict[torch.dtype, CuequivarianceTwin] = field(default_factory=dict, init=False)

    def model(self, trial: Trial) -> Model:
        """What is to run a model; decided at the first call with such a trial."""
        module: Any = trial.module
        if self.wanted is False:
            return module
        purpose = (trial.training, next(module.parameters()).dtype)
        if purpose not in self._chosen:
            self._chosen[purpose] = self._choice(trial, *purpose)
        twin = self._chosen[purpose]
        return module if twin is None else _with_weights_of(module, twin)

    def _choice(
        self, trial: Trial, training: bool, dtype: torch.dtype
    ) -> CuequivarianceTwin | None:
        purpose = "training" if training else f"predictions in {str(dtype).rpartition('.')[2]}"
        module: Any = trial.module
        try:
            twin = self._twin(dtype)
            plain = trial.run(module)
            different = deviation(plain, trial.run(_with_weights_of(module, twin)))
            reason = None if different is None else f"other numbers than without it: {different}"
        except Exception as error:  # of whatever kind: this costs time only
            if is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if reason is not None:
            log.warning(
                "cuEquivariance is not used for %s, which costs time and nothing else: %s. "
                "mace_settings.yaml: MISC.enable_cueq: false saves the attempt",
                purpose,
                reason,
            )
            return None
        if self.wanted == "auto" and not self._is_faster(trial, twin, purpose):
            return None
        if self.wanted is True:
            log.info("cuEquivariance: %s with it", purpose)
        return twin

    def _twin(self, dtype: torch.dtype) -> CuequivarianceTwin:
        if dtype not in self._twins:
            self._twins[dtype] = self.new_twin(dtype)
        return self._twins[dtype]

    def _is_faster(self, trial: Trial, twin: CuequivarianceTwin, purpose: str) -> bool:
        module: Any = trial.module
        without, with_it = (
            self.clock(lambda model=model: trial.run(model), self.device, self.recorder())  # type: ignore[misc]
            for model in (module, _with_weights_of(module, twin))
        )
        chosen = with_it < without
        log.info(
            "cuEquivariance: %s takes %.2f ms a batch with it, %.2f ms without: %s",
            purpose,
            1e3 * with_it,
            1e3 * without,
            "used" if chosen else "not used",
        )
        return chosen


def _with_weights_of(module: torch.nn.Module, twin: CuequivarianceTwin) -> Model:
    def run(inputs: Tensors, **options: Any) -> Tensors:
        return twin(module, inputs, **options)

    return run
